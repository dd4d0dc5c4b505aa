"""Runs for the iterated CVaR: exact regret in the records, all learners, people as annotators."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thrifty.episodic import evaluate, optimal
from thrifty.episodic import risk_experiment as module
from thrifty.episodic.annotators import SimulatedAnnotator
from thrifty.episodic.cvar import iterated_cvar
from thrifty.episodic.icvar_l import ICVaRL
from thrifty.episodic.label_folder import LabelFolder
from thrifty.episodic.lava_grid import LavaGrid
from thrifty.episodic.preferences import Label, unanswered
from thrifty.episodic.risk_config import (
    FeaturesConfig,
    ICVaRBPIConfig,
    ICVaRGConfig,
    ICVaRLConfig,
    ICVaRRMConfig,
    InstanceConfig,
    InventoryConfig,
    KernelClassConfig,
    MixtureConfig,
    RiskConfig,
    TwoDoorConfig,
)
from thrifty.episodic.risk_experiment import RiskExperiment
from thrifty.episodic.risk_problem import make_learner, make_problem
from thrifty.episodic.risk_rollout import play_episodes
from thrifty.episodic.simulator import new_simulator
from thrifty.recipes import icvar


def records(config: RiskConfig, seed: int = 0) -> list[dict[str, Any]]:
    return [record for record in config.build(seed).records() if record is not None]


def test_lava_run_is_judged_by_the_iterated_value() -> None:
    grid = LavaGrid()
    for level, path in ((0.1, "dry"), (1.0, "rim")):
        start, *_, end = records(icvar.l_lava(steps=3000, risk_level=level))
        assert start["V_star"] == pytest.approx(grid.optimal_value(level))
        assert end["value"] == pytest.approx(grid.optimal_value(level))
        # The risk-neutral path at level .1: 1 - .1 at every one of four steps, twelve times, or 0.
        neutral = grid.optimal_value(level) - 13 * (1 - min(0.01, level) / level) ** 4
        assert start["neutral_gap"] == pytest.approx(neutral)
        states = [0]
        for step in end["policy"]:
            row, column = grid.cell(states[-1])
            up, right = ((1, 0), (0, 1), (-1, 0), (0, -1))[step[states[-1]]]
            if not grid.is_goal(states[-1]):
                states.append(grid.state(max(row + up, 0), max(column + right, 0)))
        assert any(grid.is_rim(s) for s in states) == (path == "rim")


def test_regret_is_the_sum_of_exact_gaps() -> None:
    config = RiskConfig(steps=200, risk_level=0.3, instance=MixtureConfig())
    last = records(config)[-1]
    problem = make_problem(config)
    learner = make_learner(config, problem, 0)
    operator = iterated_cvar(0.3)
    run = play_episodes(problem.mdp, learner, 200, 0, operator)
    assert run.regret is not None
    assert last["regret"] == pytest.approx(run.regret[-1])
    # Episode by episode, with another evaluation.
    mdp, other, total = problem.mdp, make_learner(config, problem, 0), 0.0
    star = optimal(mdp, operator).V[0, 0]
    simulator = new_simulator(mdp, 0)
    for k in range(200):
        other.play(simulator, k, np.zeros(1, dtype=np.int64))  # type: ignore[attr-defined]
        total += star - evaluate(mdp, other.policy(), operator)[0, 0]
    assert last["regret"] == pytest.approx(total)


@pytest.mark.parametrize("name", icvar.__all__)
def test_every_recipe_runs_and_tells_what_it_did(name: str) -> None:
    stream = records(getattr(icvar, name)(steps=150))
    kinds = {record["kind"] for record in stream}
    assert {"start", "switch", "progress", "end"} <= kinds
    regrets = [record["regret"] for record in stream if record["kind"] == "progress"]
    assert regrets == sorted(regrets)
    start, end = stream[0], stream[-1]
    assert 0.0 <= end["value"] <= start["V_star"] + 1e-9 <= end["expected_return"] + start["H"]
    assert end["regret"] <= 150 * start["worst_gap"] + 1e-9


@pytest.mark.parametrize("kind", [ICVaRLConfig, ICVaRRMConfig, ICVaRGConfig])
def test_constants_of_theory(kind: Any) -> None:
    name = {ICVaRLConfig: "l_mixture", ICVaRRMConfig: "rm_inventory", ICVaRGConfig: "g_class"}[kind]
    config = getattr(icvar, name)(steps=300)
    theory = dataclasses.replace(config, algorithm=kind(constants="theory"))
    start, *rest = records(theory)
    practical, *_ = records(config)
    key = "gamma2" if kind is ICVaRGConfig else "beta"
    assert start["constants"][key] > practical["constants"][key]
    # Optimistic in this run.
    values = [record["V_1"] for record in rest if record["kind"] in ("switch", "progress")]
    assert min(values) >= start["V_star"] - 1e-9
    both = dataclasses.replace(config, algorithm=kind(constants="theory", **{key: 1.0}))
    with pytest.raises(ValueError, match=f"decides {key}"):
        both.build(0)


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        (MixtureConfig(dimension=0), "dimension must be a whole number of at least 1, not 0"),
        (MixtureConfig(instance_seed=-1), "instance_seed must be a whole number of at least 0"),
        (KernelClassConfig(members=0), "members must be a whole number of at least 1, not 0"),
        (KernelClassConfig(states=-1), "states must be a whole number of at least 1, not -1"),
        (FeaturesConfig(dimension=0), "dimension must be a whole number of at least 1, not 0"),
        (InventoryConfig(shock=2.0), "shock 2.0 is not in"),
    ],
)
def test_an_instance_of_no_size_is_refused_by_name(instance: InstanceConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RiskConfig(instance=instance).build(0)


@pytest.mark.parametrize("kind", [ICVaRLConfig, ICVaRRMConfig, ICVaRGConfig, ICVaRBPIConfig])
@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, float("nan")])
def test_theory_needs_a_probability_of_failure(kind: Any, delta: float) -> None:
    instances: dict[Any, InstanceConfig] = {
        ICVaRGConfig: KernelClassConfig(), ICVaRLConfig: MixtureConfig()
    }  # fmt: skip
    instance = instances.get(kind, TwoDoorConfig())
    config = RiskConfig(instance=instance, algorithm=kind(constants="theory", delta=delta))
    with pytest.raises(ValueError, match=r"delta must lie in \(0, 1\)"):
        config.build(0)


class Person:
    """Answers the oldest open query whenever the experiment pauses."""

    def __init__(self, folder: Path, experiment: RiskExperiment) -> None:
        self.folder = LabelFolder(folder)
        self.judge = SimulatedAnnotator(r=np.asarray(experiment.mdp.r), scale=50.0)
        self.pauses = 0

    def __call__(self, seconds: float) -> None:
        self.pauses += 1
        waiting = unanswered(self.folder.queries(), self.folder.labels(), "ann")
        assert waiting, "it waits although nothing is asked"
        prefers = self.judge.probability(waiting[0].A, waiting[0].B) > 0.5
        self.folder.answer(Label(waiting[0].number, "ann", "A" if prefers else "B"))


def test_a_person_is_waited_for_and_the_session_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = icvar.hf_lava(steps=60, annotator="person")
    with pytest.raises(ValueError, match="run's folder"):
        list(config.build(0).records())
    experiment = config.build(0)
    experiment.place(tmp_path)
    person = Person(tmp_path, experiment)
    monkeypatch.setattr(module.time, "sleep", person)
    stream = [record for record in experiment.records() if record is not None]
    end = stream[-1]
    assert person.pauses > 0
    assert end["queries"] >= 2
    # The same files again: nobody is asked, and every record is the same.
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(module.time, "sleep", lambda seconds: pytest.fail("nobody is to be asked"))
    replay = config.build(0)
    replay.place(tmp_path)
    again = [record for record in replay.records() if record is not None]
    assert again == stream
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_it_goes_on_without_waiting_if_told_so(tmp_path: Path) -> None:
    config = icvar.hf_lava(steps=60, annotator="person")
    config = dataclasses.replace(
        config, algorithm=dataclasses.replace(config.algorithm, wait=False)
    )
    experiment = config.build(0)
    experiment.place(tmp_path)
    end = [record for record in experiment.records() if record is not None][-1]
    assert (end["step"], end["labels"]) == (60, 0)
    assert 1 <= end["queries"] <= 3, "the queue holds three, and no pair is asked about twice"


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="risk_level 0"):
        icvar.l_lava(risk_level=0.0).build(0)
    with pytest.raises(ValueError, match="linear mixtures"):
        RiskConfig(instance=TwoDoorConfig(), algorithm=ICVaRLConfig()).build(0)
    with pytest.raises(ValueError, match="class of kernels"):
        RiskConfig(instance=TwoDoorConfig(), algorithm=ICVaRGConfig()).build(0)
    unknown = dataclasses.replace(icvar.hf_features(), instance=TwoDoorConfig())
    with pytest.raises(ValueError, match="features of rewards"):
        unknown.build(0)
    with pytest.raises(ValueError, match="seed"):
        icvar.l_lava().build(-1)
    with pytest.raises(ValueError, match="record_every"):
        dataclasses.replace(icvar.l_lava(), record_every=0).build(0)
    with pytest.raises(ValueError, match="number of episodes"):
        icvar.l_lava(steps=0).build(0)


def test_learner_of_the_configuration() -> None:
    config = icvar.l_lava(risk_level=0.4)
    learner = make_learner(config, make_problem(config), 0)
    assert isinstance(learner, ICVaRL)
    assert (learner.risk_level, learner.beta, learner.knots) == (0.4, 0.3, "values")
