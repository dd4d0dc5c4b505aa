"""Runs of a scheduling agent: what they refuse, that they repeat, and that they learn."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thrifty.flags import read_train
from thrifty.recipes import rsd4
from thrifty.runs import Run, execute, read_records, read_run
from thrifty.runs.configuration import from_json, to_json
from thrifty.scheduling import optimum
from thrifty.scheduling.assessment import Assessment
from thrifty.scheduling.config import SchedulingConfig
from thrifty.scheduling.queueing import Sight
from thrifty.scheduling.scenarios import scenario
from thrifty.scheduling.schedulers import ConstantScheduler, TableScheduler
from thrifty.scheduling.sight import sight_of
from thrifty.sweeps.plan import plan, read_settings


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenario": "S9"}, "no scenario 'S9'"),
        ({"scenario": "csi:1:4"}, "has no budget: give one"),
        ({"budget": -1.0}, "budget"),
        ({"budget": 0.0}, "above 0"),
        ({"sight": "half"}, "sight is own"),
        ({"sight": "delayed:0"}, "sight is own"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"episode": 1}, "episode must be at least 2"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SchedulingConfig(**changes).build(0)


@pytest.mark.parametrize("budget", ["3,2,1.5", (3.0, 2.0, 1.5), [3, 2, 1.5]])
def test_nodes_may_have_budgets_of_their_own(budget: Any) -> None:
    config = dataclasses.replace(rsd4.s5(), budget=budget)
    stored = from_json(SchedulingConfig, json.loads(json.dumps(to_json(config))))
    for one in (config, stored):
        assert one.build(0).budget.tolist() == [3.0, 2.0, 1.5]


def test_a_command_line_and_a_sweep_take_a_budget_for_every_node(tmp_path: Path) -> None:
    for words in (["--budget", "3,2,1"], ["--budget", "3", "2", "1"]):
        told = read_train(rsd4.s5, words, prog="thrifty train rsd4.s5").config
        assert told.build(0).budget.tolist() == [3.0, 2.0, 1.0]
    assert read_train(rsd4.s1, ["--budget", "7"], prog="").config.budget == 7.0
    jobs = plan(
        ["rsd4.s5"], seeds=[0], settings=read_settings(["budget='3,2,1',4"]), out=tmp_path,
        namespace="thrifty.recipes",
    )  # fmt: skip
    assert [job.document["config"]["budget"] for job in jobs] == ["3,2,1", 4.0]


def test_a_seed_is_a_whole_number() -> None:
    with pytest.raises(ValueError, match="seed"):
        SchedulingConfig().build(-1)


def test_sights_by_word() -> None:
    s1, s2 = scenario("S1"), scenario("S2")
    assert sight_of("own", s1).kind == "full"
    assert sight_of("own", s2).kind == "hidden"
    assert sight_of("full", s2).kind == "full"
    assert sight_of("delayed:3", s1).delay == 3
    assert sight_of("noisy:0.2", s1).confusion == 0.2
    rows = sight_of("noisy:1,0,0,0/0,1,0,0/0,0,.5,.5/0,0,.5,.5", s1).matrix(4)
    assert rows.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("clear", "got 'clear'"),
        ("own:1", "got 'own:1'"),
        ("delayed:0", "delayed:SLOTS"),
        ("delayed:1.5", "delayed:SLOTS"),
        ("noisy", "noisy:EPS"),
        ("noisy:.9,.1/1", "confusion matrix"),
        ("noisy:2", "eps must lie"),
        ("noisy:0.9,0.1/0.2,0.8", "stochastic, 4 x 4"),
    ],
)
def test_a_sight_that_is_none(word: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as problem:
        sight_of(word, scenario("S1"))
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(("name", "budget"), [("S1", [10.0]), ("S5", [4.5, 3.0, 1.5])])
def test_the_optimal_table_measured_against_itself_is_the_optimum(
    name: str, budget: list[float]
) -> None:
    """What its energies differ from the plan by is charged at each node's own price."""
    of = scenario(name)
    best = optimum.solve(of, budget)
    assessment = Assessment(of, Sight(), np.array(budget), seed=3)
    found = None
    while found is None:
        found = assessment.test(TableScheduler(of, best), 600)  # type: ignore[arg-type]
    assert found["episodes"] == 600
    assert found["paired"] == pytest.approx(1.0, abs=4 * found["paired_error"] + 1e-4)
    assert found["paired_error"] < 5e-4
    assert found["off_budget"] < 0.02
    assert np.allclose(np.sum(found["delays"], axis=-1)[[0, 3]], 1.0)  # two users are served
    assert len(found["energy_over_time"]) == 100


def test_the_table_beside_a_hidden_channel_sees_it() -> None:
    of = scenario("S2")
    assessment = Assessment(of, Sight(kind="hidden"), of.budget, seed=3)
    found = None
    while found is None:
        found = assessment.test(ConstantScheduler(of, 0.3), 200)  # type: ignore[arg-type]
    assert found["table_throughput"] == pytest.approx(found["optimum_at_energy"], rel=0.02)
    assert found["paired"] == pytest.approx(found["of_optimum_at_energy"], abs=0.02)


def test_a_policy_that_spends_nothing_is_tested_too() -> None:
    of = scenario("S1")
    assessment = Assessment(of, Sight(), of.budget, seed=3)
    found = None
    while found is None:
        found = assessment.test(ConstantScheduler(of, 0.0), 20)  # type: ignore[arg-type]
    assert (found["throughput"], found["of_optimum"], found["of_optimum_at_energy"]) == (0, 0, 0)
    assert (found["energy"], found["off_budget"]) == ([0.0], 1.0)


def test_a_stopped_run_is_resumed_from_its_folder(tmp_path: Path) -> None:
    config = rsd4.s1(steps=30)
    learner = dataclasses.replace(config.algorithm, width=6, sequences=2, rows=32)
    config = dataclasses.replace(
        config, environments=2, episode=10, warm_up=1, calibration_episodes=10, test_episodes=10,
        curve_points=0, record_every=10, evaluate_every=0, algorithm=learner, budget="10",
    )  # fmt: skip

    def run(name: str) -> Run:
        return Run(
            recipe="rsd4.s1", arguments={"steps": 30}, config=config, seed=0,
            directory=tmp_path / name,
        )  # fmt: skip

    assert execute(run("a"), callbacks=[lambda one: one["step"] < 20]).status == "stopped"
    assert execute(read_run(tmp_path / "a", "thrifty.recipes")).status == "done"
    execute(run("b"))
    stopped, whole = (
        [{k: v for k, v in one.items() if not k.startswith("wall_")} for one in read_records(at)]
        for at in (tmp_path / "a", tmp_path / "b")
    )
    assert stopped == whole


@pytest.mark.slow
def test_an_agent_learns_what_is_optimal() -> None:
    config = dataclasses.replace(
        rsd4.sd3("S1", steps=1_500), calibration_episodes=800, curve_points=0
    )
    records = {one["kind"]: one for one in config.build(100).records() if one is not None}
    assert records["test"]["paired"] > 0.95
    assert records["test"]["off_budget"] < 0.01
