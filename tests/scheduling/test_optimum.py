"""The optimum against numbers computed once and for all, against a linear programme that shares
nothing with it but the description of the packets, and against simulation."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thrifty.scheduling import occupancy, optimum
from thrifty.scheduling.arrivals import Arrivals, on_off
from thrifty.scheduling.channels import MarkovChannel, TraceChannel
from thrifty.scheduling.measurement import measure
from thrifty.scheduling.scenarios import Scenario, copies, csi, scenario
from thrifty.scheduling.schedulers import TableScheduler
from thrifty.scheduling.success import ExponentialLaw, OutageLaw, SuccessLaw, TanhLaw


@pytest.mark.parametrize(
    ("name", "budget", "value", "multiplier"),
    [
        ("S1", 10.0, 14.3008, 0.34351),
        ("S1", 2.0, 6.771, None),
        ("S1", 5.0, 11.245, None),
        ("S1", 20.0, 17.537, None),
        ("S2", 10.0, 23.543, 1.3283),
        ("S2", 20.0, 33.239, 0.6852),
        ("S3", 20.0, 99.663, 2.5637),
        ("S3", 40.0, 138.035, 1.5398),
        ("S4", 2.0, 8.346, 2.9385),
        ("S4", 5.0, 13.533, 1.0993),
    ],
)
def test_tabulated_optima(name: str, budget: float, value: float, multiplier: float | None) -> None:
    found = optimum.solve(scenario(name), budget)
    assert found.optimum == pytest.approx(value, abs=1e-3)
    assert found.energy[0] == pytest.approx(budget, rel=1e-9)
    if multiplier is not None:
        assert found.multiplier[0] == pytest.approx(multiplier, abs=1e-4)


@pytest.mark.parametrize(
    ("budget", "value", "multiplier"),
    [(1.5, 7.5098, (1.198, 0.936, 1.434)), (3.0, 12.0742, (0.825, 0.857, 0.950))],
)
def test_tabulated_optima_of_three_hops(
    budget: float, value: float, multiplier: tuple[float, ...]
) -> None:
    found = optimum.solve(scenario("S5"), budget)
    assert found.optimum == pytest.approx(value, abs=1e-3)
    np.testing.assert_allclose(found.multiplier, multiplier, atol=1e-3)
    np.testing.assert_allclose(found.energy, budget, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "budget", "value"),
    [("csi:1:4", 3.83, 10.237), ("csi:1:4", 9.58, 14.156), ("csi:3:4", 14.64, 8.826),
     ("csi:1:32", 123.96, 47.831)],
)  # fmt: skip
def test_official_instances(name: str, budget: float, value: float) -> None:
    # The table's budgets are rounded to two digits, so its values are met to 5e-3 only.
    assert optimum.solve(scenario(name), budget).optimum == pytest.approx(value, abs=5e-3)


@pytest.mark.parametrize(
    ("name", "value", "energy"),
    [
        ("S1", 20.033, (38.332,)),
        ("S2", 42.508, (55.845,)),
        ("S3", 200.44, (166.24,)),
        ("S4", 20.423, (33.257,)),
        ("S5", 22.346, (12.66, 13.17, 11.44)),
    ],
)
def test_with_energy_to_spare_the_multiplier_is_zero(
    name: str, value: float, energy: tuple[float, ...]
) -> None:
    found = optimum.solve(scenario(name), 500.0)
    assert found.optimum == pytest.approx(value, abs=5e-3)
    np.testing.assert_allclose(found.energy, energy, atol=5e-3)
    np.testing.assert_allclose(found.slack, 500.0 - found.energy)
    assert not found.multiplier.any()
    exactly = optimum.solve(scenario(name), found.energy)  # a budget of just that binds nowhere
    assert exactly.optimum == pytest.approx(found.optimum)
    assert not exactly.multiplier.any()


@pytest.mark.parametrize("name", ["S1", "S4", "S5"])
def test_without_energy_nothing_is_delivered(name: str) -> None:
    found = optimum.solve(scenario(name), 0.0)
    assert found.optimum == 0.0
    assert not found.energy.any()
    assert found.multiplier.min() > 0


def test_one_node_without_energy_blocks_the_line() -> None:
    assert optimum.solve(scenario("S5"), [3.0, 0.0, 3.0]).optimum == pytest.approx(0.0, abs=1e-9)


def test_official_episodes_of_100_slots() -> None:
    of = scenario("S1")
    found = optimum.solve(of, 10.0, of=optimum.packets_of_episode(of))
    assert found.optimum == pytest.approx(14.0627, abs=1e-4)


def test_a_long_episode_is_the_long_run() -> None:
    of = scenario("S4")
    long = optimum.solve(of, 5.0, of=optimum.packets_of_episode(of, slots=40000)).optimum
    assert long == pytest.approx(optimum.solve(of, 5.0).optimum, rel=1e-3)


@pytest.mark.parametrize(("name", "budget"), [("S1", 10.0), ("S1", 3.0), ("S2", 20.0)])
def test_the_linear_programme_agrees(name: str, budget: float) -> None:
    of = scenario(name)
    exact = optimum.solve(of, budget)
    values = [occupancy.solve(of, budget, levels=levels)[0] for levels in (11, 41, 101)]
    assert values == sorted(values)  # each grid holds the one before, or nearly
    assert values[-1] <= exact.optimum * (1 + 1e-7)
    assert values[-1] >= exact.optimum * (1 - 1e-4)
    price = occupancy.solve(of, budget, levels=101)[1]
    assert price[0] == pytest.approx(exact.multiplier[0], rel=0.02)


@pytest.mark.parametrize("levels", [6, 11])
def test_the_linear_programme_agrees_over_two_hops(levels: int) -> None:
    of = scenario("S5")
    of = dataclasses.replace(of, distances=of.distances[:, :2], attempts=[3, 4, 5, 6], budget=3.0)
    exact = optimum.solve(of, 3.0).optimum
    value, _ = occupancy.solve(of, 3.0, levels=levels)
    assert exact * (1 - 0.3 / levels**2) <= value <= exact * (1 + 1e-7)


def test_the_linear_programme_agrees_on_a_cycle() -> None:
    of = scenario("S4")
    channel = of.channel
    assert isinstance(channel, MarkovChannel)
    short = dataclasses.replace(channel, cycle=(0, 0, 1, 1, 1))
    of = dataclasses.replace(of, channel=short, attempts=[2, 3, 4, 5])
    exact = optimum.solve(of, 5.0).optimum
    value, _ = occupancy.solve(of, 5.0, levels=41)
    assert exact * (1 - 1e-4) <= value <= exact * (1 + 1e-7)


def test_the_linear_programme_refuses_one_level() -> None:
    with pytest.raises(ValueError, match="2 energy levels"):
        occupancy.solve(scenario("S1"), 1.0, levels=1)


def all_laws() -> list[SuccessLaw]:
    return [TanhLaw(), ExponentialLaw(), OutageLaw()]


@pytest.mark.parametrize("law", all_laws(), ids=lambda law: type(law).__name__)
def test_other_laws_against_the_linear_programme(law: SuccessLaw) -> None:
    """Also the one that is not concave, where two tables are mixed."""
    of = dataclasses.replace(scenario("S1"), law=law)
    exact = optimum.solve(of, 10.0)
    assert sum(exact.shares) == pytest.approx(1.0)
    assert exact.energy[0] == pytest.approx(10.0)
    value, _ = occupancy.solve(of, 10.0, levels=101)  # its levels are among the law's 201
    assert exact.optimum * (1 - 5e-4) <= value <= exact.optimum * (1 + 1e-7)


@pytest.mark.parametrize("law", all_laws(), ids=lambda law: type(law).__name__)
@given(gain=st.floats(0.0, 5.0), price=st.floats(0.01, 5.0), attenuation=st.floats(0.1, 20.0))
def test_best_energies_beat_a_fine_grid(
    law: SuccessLaw, gain: float, price: float, attenuation: float
) -> None:
    def worth(energy: Any) -> Any:
        return gain * law.probability(energy, attenuation) - price * energy

    found = law.best_energy(gain, price, attenuation)
    assert 0.0 <= found <= 1.0
    slack = 1e-9 if law.concave else 0.05  # the grid of a law that is not concave is coarser
    assert worth(found) >= worth(np.linspace(0, 1, 2001)).max() - slack


@pytest.mark.parametrize("law", all_laws(), ids=lambda law: type(law).__name__)
def test_slopes_are_derivatives(law: SuccessLaw) -> None:
    energy = np.linspace(0.05, 0.95, 7)
    numeric = (law.probability(energy + 1e-6, 2.0) - law.probability(energy - 1e-6, 2.0)) / 2e-6
    np.testing.assert_allclose(law.slope(energy, 2.0), numeric, rtol=1e-6)


def test_the_published_law_is_the_hyperbolic_tangent() -> None:
    energy, attenuation = 0.7, 1.3
    assert TanhLaw().probability(energy, attenuation) == pytest.approx(
        2 / (1 + np.exp(-2 * energy / attenuation)) - 1
    )


def test_a_law_that_is_not_concave_needs_one_hop() -> None:
    with pytest.raises(ValueError, match="concave"):
        optimum.solve(dataclasses.replace(scenario("S5"), law=OutageLaw()), 3.0)
    with pytest.raises(ValueError, match="threshold"):
        OutageLaw(threshold=0.0)


# Invariances.


def test_bursts_do_not_matter_where_they_do_not_know_the_channel() -> None:
    of = scenario("S4")
    mean = of.arrivals.mean
    value = optimum.solve(of, 5.0).optimum

    def at(arrivals: Arrivals) -> float:
        return optimum.solve(dataclasses.replace(of, arrivals=arrivals), 5.0).optimum

    # 40 on, 40 off: every slot of the channel's cycle of 40 gets the mean.
    assert at(on_off(mean, on=40, off=40)) == pytest.approx(value, rel=1e-12)
    assert at(Arrivals(mean, "deterministic")) == pytest.approx(value, rel=1e-12)
    # 20 on, 20 off together with the channel. The burst is counted by the slot in which a packet is
    # first sent, one after its arrival, hence the shift.
    burst = on_off(mean, on=20, off=20).rates
    assert at(Arrivals(np.roll(burst, -1, axis=0))) == pytest.approx(18.017, abs=1e-3)


def test_correlated_users_do_not_matter() -> None:
    """Simulated, since the recursion cannot tell: all users' channels move as one."""
    of = scenario("S1")
    best = optimum.solve(of, 10.0)
    together = dataclasses.replace(of, channel=dataclasses.replace(of.channel, common=True))
    found = measure(together, TableScheduler(of, best), environments=64, slots=400, seed=1)
    assert abs(found.throughput - best.optimum) < 4 * found.throughput_error
    assert abs(found.energy[0] - 10.0) < 4 * found.energy_error[0]


def test_copies_scale_everything() -> None:
    one, two = optimum.solve(copies(32), 40.0), optimum.solve(copies(64), 80.0)
    assert two.optimum == pytest.approx(2 * one.optimum, rel=1e-9)
    assert two.multiplier[0] == pytest.approx(one.multiplier[0], rel=1e-6)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), users=st.integers(1, 5), hops=st.integers(1, 2))
def test_it_rises_and_is_concave_in_the_budget(seed: int, users: int, hops: int) -> None:
    of = csi(seed, users)
    distances = np.repeat(of.distances, hops, axis=1)
    of = dataclasses.replace(of, distances=distances)
    most = optimum.run(optimum.packets(of), np.zeros(hops)).energy
    parts = np.linspace(0.0, 1.0, 9)
    values = np.array([optimum.solve(of, most * part).optimum for part in parts])
    assert np.all(np.diff(values) >= -1e-7)
    assert np.all(np.diff(values, 2) <= 1e-7)


# Several hops.


def one_hop_by_price_vector(of: Scenario, budget: float) -> float:
    """The way of several hops, taken for one."""
    packets = optimum.packets(of)
    prices = optimum._price_vector(packets, np.array([budget]), optimum.highest_price(of))
    found = optimum.run(packets, prices)
    return found.reward + float(prices @ (budget - found.energy))


@pytest.mark.parametrize("budget", [0.5, 3.83, 10.0, 30.0])
def test_one_hop_is_the_single_hop(budget: float) -> None:
    of = scenario("S1")
    assert one_hop_by_price_vector(of, budget) == pytest.approx(
        optimum.solve(of, budget).optimum, rel=1e-8
    )


def test_a_perfect_second_hop_costs_one_slot() -> None:
    """A link that always works at next to no energy: the single hop with one attempt less."""
    of = scenario("S1")
    near = np.concatenate([of.distances, np.full((4, 1), 1e-4)], axis=1)
    line = dataclasses.replace(of, distances=near, attempts=of.attempts + 1, budget=None)
    value = optimum.solve(line, [10.0, 100.0]).optimum
    assert value == pytest.approx(optimum.solve(of, 10.0).optimum, rel=1e-6)


def test_prices_are_found_where_the_first_search_is_lost() -> None:
    """Budgets of very different size, one of them free: every node spends its own or is free."""
    of = scenario("S5")
    for budgets in ([0.01, 5.0, 5.0], [20.0, 0.5, 3.0], [2.0, 2.0, 0.001]):
        found = optimum.solve(of, budgets)
        assert np.all(found.energy <= np.array(budgets) * (1 + 1e-5))
        bound = np.isclose(found.energy, budgets, rtol=1e-5)
        assert np.all(bound | (found.multiplier == 0))


# Simulation.


@pytest.mark.parametrize(
    ("name", "budget", "slots"), [("S1", 10.0, 600), ("S3", 40.0, 200), ("S4", 5.0, 600),
                                  ("S5", 3.0, 300)]
)  # fmt: skip
def test_the_table_reaches_the_optimum(name: str, budget: float, slots: int) -> None:
    of = scenario(name)
    best = optimum.solve(of, budget)
    found = measure(of, TableScheduler(of, best), environments=64, slots=slots, seed=7)
    assert abs(found.throughput - best.optimum) < 4 * found.throughput_error
    assert found.throughput_error < 0.02 * best.optimum  # so that the line above says something
    assert np.all(np.abs(found.energy - budget) < 4 * found.energy_error)


def test_the_table_reaches_the_optimum_of_an_episode() -> None:
    of = scenario("S1")
    best = optimum.solve(of, 10.0, of=optimum.packets_of_episode(of))
    found = measure(
        of,
        TableScheduler(of, best, episode=100),
        environments=2000,
        slots=100,
        warm_up=0,
        start="uniform",
    )
    assert abs(found.throughput - best.optimum) < 4 * found.throughput_error
    assert abs(found.energy[0] - 10.0) < 4 * found.energy_error[0]


def test_two_tables_are_mixed_as_told() -> None:
    of = dataclasses.replace(scenario("S1"), law=OutageLaw())
    best = optimum.solve(of, 10.0)
    assert len(best.tables) == 2
    found = measure(of, TableScheduler(of, best), environments=64, slots=600)
    assert abs(found.throughput - best.optimum) < 4 * found.throughput_error
    assert abs(found.energy[0] - 10.0) < 4 * found.energy_error[0]


@pytest.mark.parametrize(
    ("name", "budget", "percent"),
    [("S1", 10.0, 99.27), ("S2", 20.0, 98.7), ("S3", 40.0, 95.6), ("S4", 5.0, 94.4),
     ("S5", 1.5, 84.0), ("S5", 3.0, 89.1)],
)  # fmt: skip
def test_the_myopic_rule_is_where_it_was_found(name: str, budget: float, percent: float) -> None:
    of = scenario(name)
    part = optimum.myopic(of, budget).optimum / optimum.solve(of, budget).optimum
    assert 100 * part == pytest.approx(percent, abs=0.06)


@pytest.mark.parametrize("name", ["S1", "S5"])
def test_the_frontier_is_made_of_optima(name: str) -> None:
    of = scenario(name)
    points = optimum.frontier(of, points=4)
    values = [point.optimum for point in points]
    assert all(a < b for a, b in itertools.pairwise(values))
    for point in points:
        assert optimum.solve(of, point.budget).optimum == pytest.approx(point.optimum, rel=1e-6)
    assert not points[-1].multiplier.any()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: optimum.solve(scenario("S1"), -1.0), "budget"),
        (lambda: optimum.solve(scenario("S5"), [1.0, 2.0]), "3 nodes"),
        (lambda: optimum.solve(recorded(), 1.0), "clairvoyant"),
        (lambda: optimum.solve(crowded(), 1.0), "joint states"),
    ],
)
def test_what_has_no_optimum_is_refused(call: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()


def recorded() -> Scenario:
    trace = TraceChannel([1.0, 2.0, 3.0, 4.0], np.zeros((10, 4), int))
    return dataclasses.replace(scenario("S1"), channel=trace)


def crowded() -> Scenario:
    return dataclasses.replace(csi(1, 20), distances=np.ones((20, 3)))


@pytest.mark.parametrize(("name", "seconds"), [("S1", 0.3), ("S3", 2.0), ("S5", 5.0)])
def test_it_is_quick(name: str, seconds: float) -> None:
    of = scenario(name)
    times = []
    for _ in range(2):
        start = time.process_time()  # of this process alone: the machine may be busy
        optimum.solve(of, of.budget)
        times.append(time.process_time() - start)
    assert min(times) < seconds


@pytest.mark.parametrize("name", ["S1", "S2", "S3", "S4"])
def test_the_trade_off_is_the_optimum_at_every_energy(name: str) -> None:
    of = scenario(name)
    curve = optimum.trade_off(of, float(of.budget[0]))
    assert np.all(np.diff(curve[:, 0]) >= 0)
    assert np.interp(of.budget[0], *curve.T) == pytest.approx(optimum.solve(of, of.budget).optimum)
    for part in (0.1, 0.5, 1.7, 4.0):  # chords lie below
        best = optimum.solve(of, of.budget * part)
        drawn = np.interp(best.energy[0], *curve.T)
        assert best.optimum * (1 - 3e-3) < drawn <= best.optimum * (1 + 1e-9)


@settings(deadline=None, max_examples=10)
@given(parts=st.lists(st.floats(0.05, 1.0), min_size=3, max_size=3))
def test_nodes_that_share_their_energy_bring_most(parts: list[float]) -> None:
    of = scenario("S5")
    split = 9.0 * np.array(parts) / sum(parts)
    together = float(np.interp(9.0, *optimum.trade_off(of, 9.0, points=4).T))
    assert optimum.solve(of, split).optimum <= together * (1 + 1e-9)
