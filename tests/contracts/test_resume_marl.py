"""Every recipe of a team can be stopped anywhere and goes on exactly: enrolled by existing."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from states import plain
from stopping import check

from thrifty.marl import TeamConfig
from thrifty.runs import load_state, save_state
from thrifty.runs.naming import names, resolve

ALL = [name for name in names("thrifty.recipes") if name.startswith("mast.")]
LEARNERS = ("qmix", "vdn", "cw_qmix", "ow_qmix", "res")


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def toy(
    name: str, environment: str = "skirmish", backend: Any = "reference", **arguments: Any
) -> TeamConfig:
    """The recipe on a small fight, its networks and time constants made small."""
    function = resolve(name, "thrifty.recipes")
    known = inspect.signature(function).parameters
    if "sparsity" in known:
        arguments = {"sparsity": 0.8} | arguments
    config = function(environment, 320, **arguments)
    algorithm = config.algorithm
    small: dict[str, Any] = {"target_every": 7, "batch_episodes": 3, "recent_episodes": 2}
    if algorithm.dense_twin is None:
        small |= {"hidden": 8, "mixer_embed": 4, "hypernet_hidden": 6}
    if algorithm.recent_batch:
        small["recent_batch"] = 1
    for part in ("agents", "mixing"):
        sparsity = getattr(algorithm, part)
        small[part] = dataclasses.replace(sparsity, update_every=4)
    return dataclasses.replace(
        config,
        environments=4,
        train_every=8,
        replay_episodes=6,
        evaluate_every=160,
        evaluation_episodes=6,
        record_every=40,
        backend=backend,
        algorithm=dataclasses.replace(algorithm, **small),
    )


def happened(config: TeamConfig, records: list[Any]) -> Counter[str]:
    kinds = Counter(record["kind"] for record in records)
    assert kinds["start"] == kinds["end"] == kinds["film"] == 1
    assert kinds["evaluation"] == 3  # at 0, 160 and 320
    assert kinds["train"] == 8
    part = config.algorithm.agents
    assert (kinds["topology"] > 0) == bool(part.sparsity and part.update_until != 0)
    return kinds


@pytest.mark.parametrize("name", ALL)
def test_a_stopped_run_goes_on_as_if_it_had_not(name: str, tmp_path: Path) -> None:
    config = toy(name)
    happened(config, check(config, tmp_path, every=47))


@pytest.mark.parametrize("learner", LEARNERS)
def test_on_the_engine(learner: str, tmp_path: Path) -> None:
    config = toy("mast.mast", learner=learner, backend="engine")
    records = check(config, tmp_path, every=47, journalled=False)
    assert records[0]["backend"] == "engine"
    happened(config, records)


@pytest.mark.parametrize("parameters", ["shared", "masked"])
def test_kept_moments_on_the_engine(parameters: str, tmp_path: Path) -> None:
    """Moments of cut links decay the same however often somebody looks at them."""
    config = toy("mast.mast", parameters=parameters, backend="engine")
    algorithm = config.algorithm
    kept = {
        part: dataclasses.replace(getattr(algorithm, part), moments="keep")
        for part in ("agents", "mixing")
    }
    config = dataclasses.replace(config, algorithm=dataclasses.replace(algorithm, **kept))
    happened(config, check(config, tmp_path, every=47, journalled=False))


@pytest.mark.parametrize("learner", LEARNERS)
def test_every_learner(learner: str, tmp_path: Path) -> None:
    config = toy("mast.mast", environment="predator_prey", learner=learner)
    happened(config, check(config, tmp_path, every=47, journalled=False))


@pytest.mark.parametrize("parameters", ["own", "masked"])
def test_after_every_single_yield(parameters: str, tmp_path: Path) -> None:
    config = dataclasses.replace(toy("mast.mast", parameters=parameters), steps=80)
    records = check(config, tmp_path, every=1, journalled=False)
    assert {"evaluation", "train", "end"} <= {record["kind"] for record in records}


def test_a_lost_number_does_not_pass_unnoticed(tmp_path: Path) -> None:
    config = toy("mast.mast")
    experiment = config.build(3)
    stream = experiment.records()
    for _ in range(60):
        next(stream)
    save_state(tmp_path / "a.npz", experiment.state_dict())
    one, two = (config.build(3) for _ in range(2))
    for again in (one, two):
        again.load_state_dict(load_state(tmp_path / "a.npz"))
    two._replay_rng.random()
    list(one.records())
    list(two.records())
    assert plain(one.state_dict()) != plain(two.state_dict())
