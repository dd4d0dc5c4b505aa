"""Every recipe can be stopped anywhere and goes on exactly: a recipe is enrolled by existing."""

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

from thrifty.control import ControlConfig
from thrifty.control.backend import unsupported
from thrifty.runs import load_state, save_state
from thrifty.runs.naming import names, resolve

# The recipes of one agent in one environment; teams are in test_resume_marl.py, the others in
# test_resume_episodic.py.
ALL = [
    name
    for name in names("thrifty.recipes")
    if "environment" in inspect.signature(resolve(name, "thrifty.recipes")).parameters
    and not name.startswith("mast.")
]
STEPS = 210


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def toy(name: str, **changes: Any) -> ControlConfig:
    """The recipe on Pendulum-v1, its networks and its time constants made small."""
    function = resolve(name, "thrifty.recipes")
    known = inspect.signature(function).parameters
    config = function("Pendulum-v1", **({"steps": 20_000} if "steps" in known else {})).resolved()
    algorithm = config.algorithm
    small: dict[str, Any] = {"actor_hidden": (16, 16), "critic_hidden": (8, 8), "batch_size": 8}
    for network in ("actor", "critic"):
        sparsity = getattr(algorithm, network)
        small[network] = dataclasses.replace(
            sparsity, update_every=10, update_until=STEPS if sparsity.update_until else 0
        )
    if algorithm.n_step > 1:
        small["n_step_delay"] = 45
    return dataclasses.replace(
        config,
        **{
            "steps": STEPS,
            "learning_starts": 20,
            "evaluate_every": 100,
            "evaluation_episodes": 1,
            "random_episodes": 1,
            "record_every": 25,
            "backend": "reference",
            "algorithm": dataclasses.replace(algorithm, **small),
            "replay": dataclasses.replace(
                config.replay,
                capacity=150,
                check_every=30 if config.replay.check_every else 0,
                minimum=60,
                threshold=1e-6,
                oldest=20,
            ),
            **changes,
        },
    )


@pytest.mark.parametrize("name", ALL)
def test_a_stopped_run_goes_on_as_if_it_had_not(name: str, tmp_path: Path) -> None:
    config = toy(name)
    algorithm: Any = config.algorithm  # type: ignore[attr-defined]
    records = check(config, tmp_path, every=31)
    kinds = Counter(record["kind"] for record in records)
    # All that the recipe has did happen.
    assert kinds["start"] == kinds["random_policy"] == kinds["end"] == 1
    assert kinds["evaluation"] == 4  # at 0, 100, 200 and the end
    assert kinds["train"] == 8
    assert kinds["n_step"] == int(algorithm.n_step > 1)
    cuts = [record["cuts"] for record in records if record["kind"] == "buffer"]
    assert len(cuts) == (7 if config.replay.check_every else 0)
    assert not cuts or max(cuts) > 0
    changed = Counter(
        record["network"]
        for record in records
        if record["kind"] == "topology"
        and any(layer["grown"] > layer["regrown"] for layer in record["layers"].values())
    )
    evolves = algorithm.critic.update_until > 0
    assert (min(changed["actor"], changed["critic"]) > 0) == evolves
    assert (kinds["topology"] > 0) == evolves


@pytest.mark.parametrize("name", [name for name in ALL if unsupported(toy(name).algorithm) is None])
def test_on_the_engine_too(name: str, tmp_path: Path) -> None:
    records = check(toy(name, backend="engine"), tmp_path, every=31, journalled=False)
    assert records[0]["backend"] == "engine"
    reference = [r["kind"] for r in toy(name).build(3).records() if r is not None]
    assert [record["kind"] for record in records] == reference  # the same things happen


def test_on_the_engine_with_two_threads(tmp_path: Path) -> None:
    config = toy("rlx2.td3", backend="engine", engine_threads=2)
    algorithm = dataclasses.replace(config.algorithm, batch_size=80)  # one tile each
    check(dataclasses.replace(config, algorithm=algorithm), tmp_path, every=31, journalled=False)


@pytest.mark.parametrize("name", ["rlx2.td3", "rlx2.sac_published"])
def test_after_every_single_yield(name: str, tmp_path: Path) -> None:
    config = toy(name, steps=75, evaluate_every=40, learning_starts=10)
    records = check(config, tmp_path, every=1, journalled=False)
    assert {"topology", "n_step", "evaluation", "end"} <= {record["kind"] for record in records}


@pytest.mark.parametrize("name", ["rlx2.td3", "rlx2.sac"])
def test_several_environments(name: str, tmp_path: Path) -> None:
    config = toy(name, environments=3, steps=660, train_freq=2, gradient_steps=2)
    records = check(config, tmp_path, every=23)
    episodes = [record["episodes"] for record in records if record["kind"] == "train"]
    assert episodes[-1] == 3  # one of 200 steps in each of the three
    assert sum(record["kind"] == "topology" for record in records) > 5


def test_a_run_on_a_simulator_with_contacts(tmp_path: Path) -> None:
    # Hopper falls within some 20 steps: episodes end by termination, and its solver keeps state.
    config = toy("rlx2.td3", environment="Hopper-v5", steps=140, learning_starts=100)
    records = check(config, tmp_path, every=31)
    assert [record["episodes"] for record in records if record["kind"] == "train"][-1] > 1


def test_another_seed_or_size_does_not_pass_unnoticed(tmp_path: Path) -> None:
    # The comparison above can fail: one lost random number is enough.
    config = toy("rlx2.td3", steps=60)
    experiment = config.build(3)
    for _ in range(40):
        next(experiment.records())
    save_state(tmp_path / "a.npz", experiment.state_dict())
    one, two = (config.build(3) for _ in range(2))
    for again in (one, two):
        again.load_state_dict(load_state(tmp_path / "a.npz"))
    two._replay_rng.random()
    assert list(one.records()) != list(two.records())
    assert plain(one.state_dict()) != plain(two.state_dict())
