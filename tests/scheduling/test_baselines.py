from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from thrifty.scheduling import baselines, optimum
from thrifty.scheduling.baselines import (
    CertaintyEquivalent,
    DriftPlusPenalty,
    PricedScheduler,
    WaterFilling,
    uniform,
)
from thrifty.scheduling.channels import TraceChannel
from thrifty.scheduling.measurement import jain, measure
from thrifty.scheduling.priorities import PRIORITIES, Facts, PriorityScheduler, spend
from thrifty.scheduling.queueing import Queues, Sight
from thrifty.scheduling.scenarios import Scenario, csi, scenario
from thrifty.scheduling.schedulers import ConstantScheduler, Scheduler, TableScheduler, hopeful


def test_a_budget_is_spent_in_order_of_priority() -> None:
    # Budget 5: 2 packets of priority 9 get 1 each, the 4 of priority 8 share 3, the last nothing.
    energy = spend(np.array([[[[8.0, 9.0, 1.0]]]]), np.array([[[[4, 2, 3]]]]), np.array([5.0]))
    np.testing.assert_allclose(energy.ravel(), [0.75, 1.0, 0.0])


def test_every_node_spends_its_own_budget() -> None:
    queue = np.array([[[[2, 0], [1, 3]], [[1, 1], [0, 5]]]])  # two flows, two nodes
    energy = spend(np.ones(queue.shape), queue, np.array([3.0, 100.0]))
    np.testing.assert_allclose((energy * queue).sum(axis=(1, 3)), [[3.0, 9.0]])


def facts() -> Facts:
    """Two flows of one hop with two slots each; the numbers are those of the tests below."""
    return Facts(
        chance=np.array([0.5, 0.8]).reshape(1, 2, 1, 1),
        weight=np.array([4.0, 1.0]).reshape(2, 1, 1),
        left=np.array([1.0, 2.0]),
        waited=np.array([[2.0, 1.0], [4.0, 3.0]])[:, None, :],
        queued=np.array([3.0, 10.0]).reshape(1, 2, 1, 1),
        oldest=np.array([2.0, 4.0]).reshape(1, 2, 1, 1),
        rate=np.array([2.0, 0.5]).reshape(1, 2, 1, 1),
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("greedy", [[2.0, 2.0], [0.8, 0.8]]),  # weight times chance
        ("MaxWeight", [[6.0, 6.0], [8.0, 8.0]]),  # times packets queued
        ("PF", [[0.25, 0.25], [1.6, 1.6]]),  # chance over rate
        ("M-LWDF", [[2.0, 1.0], [6.4, 4.8]]),  # weight times slots waited times that
    ],
)
def test_priorities_by_hand(name: str, expected: list[list[float]]) -> None:
    found = np.broadcast_to(PRIORITIES[name](facts()), (1, 2, 1, 2))
    np.testing.assert_allclose(found[0, :, 0], expected)


def test_the_exponential_rule_by_hand() -> None:
    # The oldest have waited for 2 and 4 slots: 3 on average.
    found = PRIORITIES["EXP rule"](facts())[0, :, 0]
    assert found[0, 0] == pytest.approx(0.25 * np.exp(-1 / (1 + np.sqrt(3))))
    assert found[1, 1] == pytest.approx(1.6)
    # Flows without packets do not count: 4 on average.
    alone = facts()._replace(
        queued=np.array([0.0, 10.0]).reshape(1, 2, 1, 1),
        oldest=np.array([0.0, 4.0]).reshape(1, 2, 1, 1),
    )
    assert PRIORITIES["EXP rule"](alone)[0, 1, 0, 1] == pytest.approx(1.6 * np.exp(-1 / 3))


@pytest.mark.parametrize("name", ["EDF", "M-LWDF", "EXP rule"])
def test_of_one_flow_the_older_packets_come_first(name: str) -> None:
    of = scenario("S1")  # the flows have 1 to 5 attempts
    queues = Queues(of, 16)
    rule = PriorityScheduler(of, of.budget, name)
    rule.reset(16)
    served = 0
    for _ in range(30):
        view = queues.view()
        energy = rule.energies(view)
        held = np.where(view.queue > 0, energy, np.nan)[:, :, 0]
        for flow in range(of.flows):
            for one in held[:, flow, : int(of.attempts[flow])]:
                given = one[~np.isnan(one)]  # fewest attempts left first, so oldest first
                assert np.all(np.diff(given) <= 1e-12)
                served += len(given) > 1 and given[0] > given[-1]
        rule.observe(queues.step(energy))
    assert served > 50


def test_earliest_deadline_first_breaks_ties_by_worth() -> None:
    found = PRIORITIES["EDF"](facts())[0, :, 0]
    assert found[0, 0] > found[1, 0] > found[0, 1] > found[1, 1]


@pytest.mark.parametrize("name", [*PRIORITIES, "water-filling"])
@pytest.mark.parametrize("of", ["S1", "S5"])
def test_hard_budgets_are_kept_in_every_slot(name: str, of: str) -> None:
    one = scenario(of)
    budget = one.budget
    rule: Scheduler = (
        WaterFilling(one, budget)
        if name == "water-filling"
        else PriorityScheduler(one, budget, name)
    )
    queues = Queues(one, 8)
    rule.reset(8)
    short = 0
    for _ in range(40):
        waiting = (queues.queue * hopeful(one)).sum(axis=(1, 3))
        energy = rule.energies(queues.view())
        assert energy.min() >= 0
        assert energy.max() <= 1
        slot = queues.step(energy)
        rule.observe(slot)
        assert np.all(slot.energy <= budget * (1 + 1e-5) + 1e-9)
        short += int(np.sum((waiting > 2 * budget) & (slot.energy < 0.99 * budget)))
    assert short == 0 or name == "water-filling"  # it sends nothing that is not worth it


def test_the_uniform_energy_meets_the_budget() -> None:
    for name, part in (("S1", 48.29), ("S2", 63.4), ("S3", 65.5), ("S4", 43.0), ("S5", 59.0)):
        of = scenario(name)
        rule = uniform(of, of.budget)
        packets = optimum.packets(of)
        shape = (len(packets.kernels), *packets.attenuation.shape, of.most_attempts)
        table = np.broadcast_to(rule.energy, shape)
        found = optimum.run(packets, np.zeros(of.hops), table=table)
        np.testing.assert_allclose(found.energy, of.budget, rtol=1e-6)
        # Percent of the optimum from the table of scenarios, to its digits.
        best = optimum.solve(of, of.budget).optimum
        assert 100 * found.reward / best == pytest.approx(part, abs=0.06)


def test_the_priced_rule_earns_what_the_recursion_says() -> None:
    for name in ("S1", "S5"):
        of = scenario(name)
        exact = optimum.myopic(of, of.budget)
        found = measure(of, PricedScheduler(of, exact.multiplier), environments=64, slots=300)
        assert abs(found.throughput - exact.optimum) < 4 * found.throughput_error
        assert np.all(np.abs(found.energy - of.budget) < 4 * found.energy_error)


def test_drift_plus_penalty_meets_its_budget_without_knowing_anything() -> None:
    for name, part in (("S1", 0.98), ("S5", 0.86)):
        of = scenario(name)
        rule = DriftPlusPenalty(of, of.budget)
        found = measure(of, rule, environments=16, slots=2000, warm_up=500)
        np.testing.assert_allclose(found.energy, of.budget, rtol=0.01)
        assert found.throughput > part * optimum.solve(of, of.budget).optimum
    with pytest.raises(ValueError, match="v > 0"):
        DriftPlusPenalty(of, 1.0, v=0.0)


@pytest.mark.parametrize("name", ["S1", "S4"])
def test_the_certainty_equivalent_planner_learns_the_chain(name: str) -> None:
    of = scenario(name)
    planner = CertaintyEquivalent(of, of.budget)
    found = measure(of, planner, environments=16, slots=1000, warm_up=520)
    best = optimum.solve(of, of.budget)
    kernels = planner._counts / planner._counts.sum(axis=-1, keepdims=True)
    assert np.abs(kernels - of.channel.kernels).max() < 0.05  # type: ignore[union-attr]
    there = optimum.solve(of, found.energy).optimum
    assert found.throughput > 0.98 * there
    assert found.energy[0] == pytest.approx(best.budget[0], rel=0.03)


def test_schedulers_meet_the_same_randomness() -> None:
    """Common random numbers: an idle and a busy scheduler see the same packets."""
    of = scenario("S1")
    runs = [
        measure(of, ConstantScheduler(of, energy), environments=4, slots=50, seed=9)
        for energy in (0.1, 0.9)
    ]
    total = [run.delivered + run.missed for run in runs]
    # What was decided differs by the packets still queued at the ends only: at most 7 slots' worth.
    assert np.abs(total[0] - total[1]).max() < 1.0
    table = optimum.solve(of, 10.0)
    again = [measure(of, TableScheduler(of, table), environments=4, slots=50, seed=9)] * 2
    np.testing.assert_array_equal(again[0].each, again[1].each)


def test_what_is_measured_adds_up() -> None:
    of = scenario("S1")
    found = measure(of, ConstantScheduler(of, 0.4), environments=8, slots=200)
    assert found.throughput == pytest.approx(found.delivered @ of.weights)
    np.testing.assert_allclose(found.delays.sum(axis=-1), 1.0)
    np.testing.assert_allclose(
        found.miss_ratio, found.missed / (found.missed + found.delivered), rtol=1e-12
    )
    assert found.each.mean() == pytest.approx(found.throughput)
    np.testing.assert_allclose(found.each_energy.mean(axis=0), found.energy)
    np.testing.assert_allclose(found.energy_over_time.mean(axis=0), found.energy)
    assert 0 < found.fairness <= 1


def test_jain_by_hand() -> None:
    assert jain([0.5, 0.5], [1, 9]) == pytest.approx(1.0)
    assert jain([1, 0], [3, 1]) == pytest.approx(0.75)  # 9 / (4 x 3)
    assert jain([0, 0], [1, 1]) == 1.0


@pytest.mark.parametrize(("name", "sight", "last"), [("S1", "full", "optimal table"),
                                                      ("S2", "hidden", "Bayes filter"),
                                                      ("S5", "hidden", "greedy")])  # fmt: skip
def test_the_table_of_all_schedulers(name: str, sight: str, last: str) -> None:
    of = small(scenario(name))
    rows = baselines.table(of, 2.0, sight=Sight(kind=sight), environments=8, slots=40, warm_up=40)
    names = [row[0].name for row in rows]
    assert names[-1] == last
    assert len(set(names)) == len(names)
    assert {"uniform", *PRIORITIES} <= set(names)
    for found, at_budget, at_energy in rows:
        assert found.throughput == pytest.approx(at_budget * optimum.solve(of, 2.0).optimum)
        assert at_energy < 1.3  # short runs scatter


def test_a_channel_a_slot_late_has_its_own_optimal_table() -> None:
    of = small(csi(1, 2))
    rules = baselines.lineup(of, sight=Sight(kind="delayed", delay=1))
    assert list(rules)[-3:] == ["blind", "Bayes filter", "delayed table"]
    assert all(make(1.0).name == name for name, make in rules.items())
    later = baselines.lineup(of, sight=Sight(kind="delayed", delay=2))
    assert list(later)[-1] == "Bayes filter"  # no table is exact there


def small(of: Scenario) -> Scenario:
    """Shorter deadlines, so that the blind search is short as well."""
    return dataclasses.replace(of, attempts=np.minimum(of.attempts, 3))


def test_what_must_see_the_channel_says_so() -> None:
    of = scenario("S2")
    for rule in (PricedScheduler(of, 1.0), WaterFilling(of, 20.0), CertaintyEquivalent(of, 20.0)):
        with pytest.raises(ValueError, match="needs to see the channel"):
            measure(of, rule, environments=1, slots=2)
    trace = TraceChannel([1.0, 2, 3, 4], np.zeros((9, 8), int))
    with pytest.raises(ValueError, match="chain"):
        CertaintyEquivalent(dataclasses.replace(of, channel=trace), 1.0)


def test_a_cycle_whose_phase_is_hidden_is_not_guessed() -> None:
    of = scenario("S4")
    rules = [TableScheduler(of, optimum.solve(of, 5.0)), CertaintyEquivalent(of, 5.0)]
    for rule in rules:
        with pytest.raises(ValueError, match="phase"):
            measure(of, rule, slots=2, sight=Sight(phase=False))


def test_measuring_refuses_nonsense() -> None:
    of = scenario("S1")
    with pytest.raises(ValueError, match="slots >= 1"):
        measure(of, ConstantScheduler(of, 0.5), slots=0)
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        measure(of, ConstantScheduler(of, 1.5), slots=1)
