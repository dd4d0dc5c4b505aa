"""Trained schedulers from run folders: they act as in training, and are measured like others."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thrifty.agents import TrainedScheduler, load_run_policy, load_scheduler
from thrifty.agents.scheduler import SchedulerEvaluation
from thrifty.cli import main
from thrifty.recipes import rlx2, rsd4
from thrifty.runs import Run, execute
from thrifty.scheduling import baselines, optimum
from thrifty.scheduling.config import SchedulingConfig
from thrifty.scheduling.experiment import SchedulingExperiment
from thrifty.scheduling.measurement import measure
from thrifty.scheduling.policy import PolicyScheduler
from thrifty.scheduling.queueing import Queues
from thrifty.scheduling.schedulers import Scheduler, TableScheduler


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tiny(config: SchedulingConfig, **learner: Any) -> SchedulingConfig:
    learner = {"width": 6, "sequences": 2, "rows": 32, **learner}
    return dataclasses.replace(
        config, environments=2, episode=10, warm_up=1, calibration_episodes=10, test_episodes=10,
        curve_points=0, record_every=10, evaluate_every=0,
        algorithm=dataclasses.replace(config.algorithm, **learner),
    )  # fmt: skip


def run(name: str, config: SchedulingConfig, folder: Path) -> Run:
    return Run(recipe=f"rsd4.{name}", arguments={}, config=config, seed=0, directory=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of S1."""
    torch.set_num_threads(1)
    found = tmp_path_factory.mktemp("runs") / "s1"
    execute(run("s1", tiny(rsd4.s1(steps=30)), found))
    return found


def actions(scheduler: Scheduler, experiment: SchedulingExperiment) -> np.ndarray[Any, Any]:
    """The energies of 15 slots."""
    queues = Queues(experiment.scenario, 3, sight=experiment.sight)
    queues.reset(5)
    scheduler.reset(3)
    found = []
    for _ in range(15):
        found.append(np.array(scheduler.energies(queues.view())))
        scheduler.observe(queues.step(found[-1]))
    return np.stack(found)


CASES = {
    "s1": tiny(rsd4.s1(steps=30)),
    "whole": tiny(rsd4.whole(steps=12)),
    "sparse": tiny(rsd4.sparse(steps=12), sparsity=0.8, backend="engine"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_loaded_policy_acts_as_the_one_in_memory(name: str, tmp_path: Path) -> None:
    execute(run(name, CASES[name], tmp_path / "run"))
    experiment = CASES[name].build(0)
    records = [record for record in experiment.records() if record is not None]
    loaded = load_scheduler(tmp_path / "run")
    assert loaded.multiplier.tolist() == records[-1]["multiplier"]  # the calibrated one
    assert loaded.calibrated
    kept = PolicyScheduler(experiment.learner, experiment.price)
    found, expected = actions(loaded, experiment), actions(kept, experiment)
    assert expected.any()
    np.testing.assert_array_equal(found, expected)
    assert loaded.name == kept.name


def test_a_stopped_run_acts_at_the_price_it_trains_at(tmp_path: Path) -> None:
    config = tiny(rsd4.s1(steps=30))
    execute(run("s1", config, tmp_path), callbacks=[lambda one: one["step"] < 20])
    scheduler = load_run_policy(tmp_path)
    assert isinstance(scheduler, TrainedScheduler)
    assert not scheduler.calibrated
    # In the middle of the prices that are drawn, on the logarithm; nothing has moved it yet.
    top = optimum.highest_price(scheduler.scenario)
    assert scheduler.multiplier == pytest.approx(np.sqrt(0.01 * 0.5) * top)
    told = scheduler.told(scheduler.evaluate(2))
    assert "(not calibrated: the run is not finished)" in told


def test_a_policy_for_all_prices_takes_one(folder: Path) -> None:
    other = load_scheduler(folder, multiplier=1.25)
    assert repr(other) == "TrainedScheduler('S1', RSD4 (credit per packet), price 1.25)"
    assert repr(other.scenario) == "Scenario('S1', 4 flows, 1 hops, 4 channel states)"
    assert other.multiplier.tolist() == [1.25]
    usual = load_scheduler(folder)
    assert usual.multiplier != other.multiplier
    experiment = tiny(rsd4.s1(steps=30)).build(0)
    dear, cheap = actions(other, experiment), actions(usual, experiment)
    assert not np.array_equal(dear, cheap)


def test_every_node_has_its_price() -> None:
    experiment = tiny(rsd4.s5(steps=30)).build(0)
    assert TrainedScheduler(experiment).multiplier.shape == (3,)
    assert TrainedScheduler(experiment, 2.0).multiplier.tolist() == [2.0, 2.0, 2.0]
    assert TrainedScheduler(experiment, [1, 2, 3]).multiplier.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("given", [-1.0, 0.0, float("nan"), [1.0, 2.0], "low"])
def test_a_price_that_is_none_is_refused(given: Any, folder: Path) -> None:
    with pytest.raises(ValueError, match="a multiplier is a number > 0, or one for each of 1 node"):
        load_scheduler(folder, multiplier=given)


def test_a_policy_of_one_price_keeps_it(tmp_path: Path) -> None:
    config = tiny(rsd4.s1(steps=30, mode="ascent"))
    execute(run("s1", config, tmp_path))
    assert load_scheduler(tmp_path).multiplier.shape == (1,)
    with pytest.raises(ValueError, match=r"trained at one price \(mode ascent\): leave"):
        load_scheduler(tmp_path, multiplier=1.0)


def test_it_is_a_scheduler_like_any_other(folder: Path) -> None:
    trained = load_scheduler(folder)
    of = dataclasses.replace(trained.scenario, attempts=np.minimum(trained.scenario.attempts, 7))
    rows = baselines.table(of, 10.0, also=[trained], environments=4, slots=20, warm_up=10, seed=3)
    assert rows[-1][0].name == "RSD4 (credit per packet)"
    assert rows[-2][0].name == "optimal table"
    alone = measure(of, trained, environments=4, slots=20, warm_up=10, seed=3)
    np.testing.assert_array_equal(rows[-1][0].each, alone.each)
    assert rows[-1][1] == pytest.approx(alone.throughput / optimum.solve(of, 10.0).optimum)


class Optimal(TrainedScheduler):
    """Acts by the exact table instead of what was learned."""

    def reset(self, environments: int) -> None:
        self.table = TableScheduler(self.scenario, optimum.solve(self.scenario, 10.0))
        self.table.reset(environments)

    def energies(self, view: Any) -> Any:
        return self.table.energies(view)

    def observe(self, slot: Any) -> None:
        self.table.observe(slot)


def test_an_evaluation_of_the_optimal_table_finds_the_optimum() -> None:
    scheduler = Optimal(tiny(rsd4.s1(steps=30)).build(0))
    found = scheduler.evaluate(400, seed=1)
    assert found.episodes == 400
    # 14.3008 at a budget of 10, from the scenario's table; a mean of 400 episodes has 0.3 %.
    assert found.throughput == pytest.approx(14.3008, rel=0.012)
    assert found.energy == pytest.approx([10.0], rel=0.012)
    assert found.of_optimum == pytest.approx(1.0, abs=4 * found.error + 1e-4)
    assert found == scheduler.evaluate(400, seed=1)
    assert found.throughput != scheduler.evaluate(400, seed=2).throughput


def test_where_nothing_is_sent_there_is_nothing_to_compare() -> None:
    class Idle(Optimal):
        def energies(self, view: Any) -> Any:
            return np.zeros(view.queue.shape)

    scheduler = Idle(tiny(rsd4.s1(steps=30)).build(0), 5.0)
    with pytest.raises(ValueError, match="at the multiplier 5 no energy is spent"):
        scheduler.evaluate(2)
    with pytest.raises(ValueError, match="at least one episode, got 0"):
        scheduler.evaluate(0)


@pytest.mark.parametrize(
    ("energy", "said"),
    [(24.4, "budget 10, exceeded by 144 %;"), (10.05, "budget 10;"), (9.0, "budget 10;")],
)
def test_a_budget_that_is_not_kept_is_told(folder: Path, energy: float, said: str) -> None:
    # 24.4 of 10 is 144 % more; up to one per cent is what calibration is asked for.
    found = SchedulerEvaluation(20, 14.9, [energy], 18.4, 0.8, 0.004, [0.1, 0.2, 0.3, 0.4])
    assert f" a slot, {said} price of energy " in load_scheduler(folder).told(found)


def test_the_command_line_evaluates_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(folder), "--episodes", "3", "--seed", "4"]) == 0
    out = capsys.readouterr().out
    scheduler = load_scheduler(folder)
    found = scheduler.evaluate(3, seed=4)
    assert out == scheduler.told(found) + "\n"
    first, second, third, fourth, fifth = out.splitlines()
    assert first == "S1: RSD4 (credit per packet), 3 episodes of 100 slots"
    assert second == f"throughput {found.throughput:.3f} a slot, weighted"
    over = round(100 * (found.energy[0] / 10 - 1))
    exceeded = f", exceeded by {over} %" if over >= 1 else ""
    assert third.startswith(f"energy {found.energy[0]:.3f} a slot, budget 10{exceeded}; price of ")
    assert third.endswith("(calibrated)")
    assert fourth.startswith(f"{100 * found.of_optimum:.2f} % of the exact optimum at that energy")
    assert fifth.startswith("deadlines missed, % of each user's packets: ")
    assert len(fifth.split(": ")[1].split(", ")) == 4


def test_what_cannot_be_done_with_it_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        (["export", str(folder), "--out", str(tmp_path / "p.npz")], "cannot be exported yet: play"),
        (["evaluate", str(folder), "--video"], "a scheduler is not filmed: leave --video out"),
        (["evaluate", str(folder), "--episodes", "0"], "at least one episode"),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_agent_is_no_scheduler(tmp_path: Path) -> None:
    config = rlx2.td3("Pendulum-v1", 20)
    arguments = {"environment": "Pendulum-v1", "steps": 20}
    execute(
        Run(recipe="rlx2.td3", arguments=arguments, config=config, seed=0, directory=tmp_path),
        callbacks=[lambda record: False],
    )
    with pytest.raises(ValueError, match=r"is a run of rlx2\.td3, which does not schedule"):
        load_scheduler(tmp_path)


@pytest.mark.parametrize(
    ("config", "calibration", "test"),
    [
        (rsd4.s1(), 2_000, 400),
        (rsd4.sd3("S4"), 4_000, 4_000),  # an episode's energy varies by 11 %
        (rsd4.s5(steps=10_000), 8_000, 8_000),  # 17 %
        (rsd4.s5(steps=500), 800, 800),  # a try
        (rsd4.s1(steps=20), 100, 100),
    ],
)
def test_short_runs_are_measured_on_fewer_episodes(
    config: SchedulingConfig, calibration: int, test: int
) -> None:
    assert (config.calibration_episodes, config.test_episodes) == (calibration, test)
