from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from thrifty.episodic.config import (
    EpisodicConfig,
    LatentConfig,
    LSVIUCBConfig,
    LSVIUCBPlusConfig,
    RiverSwimConfig,
    UCBVIConfig,
    make_instance,
    make_learner,
)
from thrifty.episodic.experiment import record_points
from thrifty.episodic.mdp import EpisodicMDP
from thrifty.episodic.rollout import run_episodes
from thrifty.recipes import lsvi_ucb_plus
from thrifty.runs.configuration import from_json, to_json

RECIPES = lsvi_ucb_plus.__all__


def swim(K: int = 200, **learner: Any) -> EpisodicConfig:
    return EpisodicConfig(
        instance=RiverSwimConfig(S=4, H=6), steps=K, algorithm=LSVIUCBConfig(**learner)
    )


def plus(**learner: Any) -> EpisodicConfig:
    return dataclasses.replace(swim(), algorithm=LSVIUCBPlusConfig(**learner))


def test_points_of_the_curve() -> None:
    assert record_points(20, 6).tolist() == [1, 2, 4, 6, 8, 12, 16, 18, 20]
    assert record_points(1, 1).tolist() == [1]


def test_the_curve_is_the_regret_of_run_episodes() -> None:
    config = swim(300)
    records = [record for record in config.build(5).records() if record is not None]
    mdp = make_instance(config.instance, 300)
    assert isinstance(mdp, EpisodicMDP)
    learner: Any = make_learner(config.algorithm, mdp, 300)
    run = run_episodes(mdp, learner, 300, 5, progress=False)
    assert run.regret is not None
    progress = [record for record in records if record["kind"] == "progress"]
    assert [record["step"] for record in progress] == record_points(300, 3).tolist()
    before = 0
    for record in progress:
        k = record["step"]
        assert_allclose(record["regret"], run.regret[k - 1], rtol=1e-12)
        assert_allclose(record["return_mean"], run.returns[before:k].mean(), rtol=1e-12)
        assert record["V_1"] == run.values[k - 1]
        before = k
    start, end = records[0], records[-1]
    assert (start["kind"], end["kind"]) == ("start", "end")
    assert start["environment"] == "river_swim(S=4, H=6)"
    assert 0 < start["uniform_gap"] < start["worst_gap"] <= start["V_star"]
    assert end["switches"] == run.switches
    switches = [record for record in records if record["kind"] == "switch"]
    assert [record["switches"] for record in switches] == list(range(1, run.switches + 1))
    json.dumps(records, allow_nan=False)


def test_without_a_model_nothing_is_called_regret() -> None:
    config = EpisodicConfig(instance=LatentConfig(), steps=20, algorithm=LSVIUCBConfig())
    records = [record for record in config.build(0).records() if record is not None]
    assert records[0]["V_star"] is None
    assert records[0]["model"] is False
    assert all(record.get("regret") is None for record in records)
    assert all("return_mean" in record for record in records if record["kind"] == "progress")


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_go_through_json_and_have_their_documentation(name: str) -> None:
    function = getattr(lsvi_ucb_plus, name)
    names = inspect.signature(function).parameters
    text = inspect.getdoc(function) or ""
    assert all(f"{parameter}:" in text for parameter in names)
    learners = ["lsvi_ucb_plus", "lsvi_ucb", "icml"] + (["ucbvi"] if name != "latent" else [])
    for learner in learners:
        config = function(steps=200, learner=learner).resolved()
        document = json.loads(json.dumps(to_json(config), allow_nan=False))
        assert from_json(EpisodicConfig, document) == config
        first = next(iter(config.build(0).records()))
        assert first["steps"] == 200
        assert first["algorithm"] == ("lsvi_ucb_plus" if learner == "icml" else learner)
    with pytest.raises(ValueError, match="unknown learner"):
        function(learner="dqn")


def test_theory_in_the_start_record() -> None:
    theory = dataclasses.replace(swim(1000), algorithm=LSVIUCBPlusConfig(constants="theory"))
    constants = next(iter(theory.build(0).records()))["constants"]
    # d = 8, H = 6, lambda = 1/36: L = log(1 + 8*6*1000*36/.01) = 18.969
    L = np.log(1 + 8 * 6 * 1000 * 36 / 0.01)
    assert_allclose(constants["beta"], 6 * np.sqrt(8 / 36) + np.sqrt(8) * L)
    assert "beta_reward" not in constants
    estimated = plus(reward="estimate", beta_reward=0.7)
    assert next(iter(estimated.build(0).records()))["constants"]["beta_reward"] == 0.7
    jin = next(iter(swim(1000, constants="theory").build(0).records()))["constants"]
    assert jin["regulariser"] == 1.0
    assert_allclose(jin["beta"], 8 * 6 * np.sqrt(np.log(2 * 8 * 6 * 1000 / 0.01)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (swim(-5), "K, the number of episodes"),
        (dataclasses.replace(swim(), record_every=0), "record_every"),
        (swim(regulariser=0.0), "regulariser"),
        (swim(constants="theory", beta=1.0), "decides beta"),
        (swim(constants="theory", delta=0.0), "delta must lie"),
        (swim(delta=0.1), "delta is for constants=theory"),
        (plus(delta=0.1), "delta is for constants=theory"),
        (
            dataclasses.replace(swim(), algorithm=UCBVIConfig(delta=0.1)),
            "delta is for constants=theory",
        ),
        (plus(constants="theory", floor=1.0), "decides floor"),
        (plus(constants="theory", correction=1.0), "decides correction"),
        (plus(beta_reward=1.0), "reward=estimate"),
        (plus(reward="estimate", beta_reward=float("nan")), "beta_reward"),
        (
            EpisodicConfig(instance=LatentConfig(), algorithm=UCBVIConfig(), steps=5),
            "ucbvi counts states",
        ),
        (dataclasses.replace(swim(), instance=RiverSwimConfig(H=0)), "horizon must be"),
    ],
)
def test_what_cannot_work(config: EpisodicConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config.build(0)


def test_bad_seed() -> None:
    with pytest.raises(ValueError, match="seed"):
        swim().build(-1)
