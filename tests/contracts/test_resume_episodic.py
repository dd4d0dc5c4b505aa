"""Every recipe on an episodic MDP can be stopped anywhere and goes on exactly."""

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

from thrifty.episodic.config import EpisodicConfig
from thrifty.runs import load_state, save_state
from thrifty.runs.naming import names, resolve

STEPS = 60


def parameters(name: str) -> Any:
    return inspect.signature(resolve(name, "thrifty.recipes")).parameters


# Enrolled by existing: whatever is no recipe of test_resume.py, test_resume_lm.py
# or test_resume_scheduling.py.
ALL = [
    name
    for name in names("thrifty.recipes")
    if "environment" not in parameters(name) and not name.startswith(("mst.", "rsd4."))
]
LEARNERS = ("lsvi_ucb_plus", "lsvi_ucb", "icml", "ucbvi")


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def toy(name: str, **arguments: Any) -> Any:
    config = resolve(name, "thrifty.recipes")(steps=STEPS, **arguments)
    if isinstance(config, EpisodicConfig):
        config = dataclasses.replace(config, record_every=17)
    return config


@pytest.mark.parametrize("name", ALL)
def test_after_every_single_yield(name: str, tmp_path: Path) -> None:
    records = check(toy(name), tmp_path, every=1, journalled=False)
    kinds = Counter(record["kind"] for record in records)
    assert kinds["start"] == kinds["end"] == 1
    assert records[-1]["step"] == STEPS
    if isinstance(toy(name), EpisodicConfig):
        # 1, 2, 4, 8, 16, 17, 32, 34, 51, 60
        assert kinds["progress"] == 10
        assert kinds["switch"] > 1


@pytest.mark.parametrize("learner", LEARNERS)
def test_every_learner(learner: str, tmp_path: Path) -> None:
    check(toy("lsvi_ucb_plus.simplex", learner=learner), tmp_path, every=1, journalled=False)


@pytest.mark.parametrize("learner", ["lsvi_ucb", "icml"])
def test_with_continuous_states_and_estimated_rewards(learner: str, tmp_path: Path) -> None:
    config = toy("lsvi_ucb_plus.latent", learner=learner)
    learns = dataclasses.replace(config.algorithm, reward="estimate")
    config = dataclasses.replace(config, algorithm=learns)
    check(config, tmp_path, every=1, journalled=False)


def test_a_lost_number_does_not_pass_unnoticed(tmp_path: Path) -> None:
    config = toy("lsvi_ucb_plus.river_swim")
    experiment = config.build(3)
    stream = experiment.records()
    for _ in range(20):
        next(stream)
    save_state(tmp_path / "a.npz", experiment.state_dict())
    one, two = (config.build(3) for _ in range(2))
    for again in (one, two):
        again.load_state_dict(load_state(tmp_path / "a.npz"))
    two.learner.tables.G[0, 0, 0] += 0.5
    assert list(one.records()) != list(two.records())
    assert plain(one.state_dict()) != plain(two.state_dict())
