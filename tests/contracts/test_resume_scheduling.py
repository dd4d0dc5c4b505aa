"""Every recipe of a scheduling agent can be stopped anywhere and goes on exactly."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from states import plain
from stopping import check

from thrifty.cli import main
from thrifty.runs import Run, execute, load_state, save_state
from thrifty.runs.naming import names, resolve
from thrifty.scheduling import optimum
from thrifty.scheduling.config import SchedulingConfig
from thrifty.scheduling.scenarios import Scenario

STEPS = 70
# Enrolled by existing.
ALL = [name for name in names("thrifty.recipes") if name.startswith("rsd4.")]


_solve = optimum.solve
_solved: dict[Any, optimum.Optimum] = {}


def _solved_once(of: Scenario, budget: Any) -> optimum.Optimum:
    """The optimum, which both runs ask for at the same budgets."""
    key = of.name, tuple(np.atleast_1d(budget).tolist())
    if key not in _solved:
        _solved[key] = _solve(of, budget)
    return _solved[key]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr("thrifty.scheduling.assessment._USERS", 20)
    monkeypatch.setattr("thrifty.scheduling.assessment.WARM_UP", 2)
    monkeypatch.setattr("thrifty.scheduling.assessment.COUNTED", 5)
    monkeypatch.setattr("thrifty.scheduling.optimum.solve", _solved_once)
    torch.set_num_threads(1)


def toy(name: str, **arguments: Any) -> SchedulingConfig:
    config = resolve(name, "thrifty.recipes")(steps=STEPS, **arguments)
    assert isinstance(config, SchedulingConfig)
    small = dataclasses.replace(
        config.algorithm, width=6, sequences=3, samples=2, rows=64, evolve_every=2, critic_first=3
    )
    return dataclasses.replace(
        config,
        environments=2,
        episode=16,
        update_every=4,
        warm_up=1,
        capacity=6 * 4,
        evaluate_every=30,
        record_every=20,
        calibration_episodes=12,
        test_episodes=12,
        curve_points=2,
        algorithm=small,
    )


@pytest.mark.parametrize("name", ALL)
def test_a_stopped_run_goes_on_as_if_it_had_not(name: str, tmp_path: Path) -> None:
    records = check(toy(name), tmp_path, every=17, journalled=False)
    kinds = Counter(record["kind"] for record in records)
    assert kinds["start"] == kinds["curve"] == kinds["test"] == kinds["end"] == 1
    assert kinds["progress"] == 3
    assert kinds["evaluation"] == 2
    assert kinds["calibration"] >= 5
    assert records[-1]["step"] == STEPS


@pytest.mark.parametrize("mode", ["ascent", "bisection"])
def test_prices_that_move(mode: str, tmp_path: Path) -> None:
    records = check(toy("rsd4.s1", mode=mode), tmp_path, every=5, journalled=False)
    prices = {tuple(one["multiplier"]) for one in records if one["kind"] == "evaluation"}
    assert len(prices) == 2


def test_a_lost_number_does_not_pass_unnoticed(tmp_path: Path) -> None:
    config = toy("rsd4.s2")
    experiment = config.build(3)
    stream = experiment.records()
    for _ in range(40):
        next(stream)
    save_state(tmp_path / "a.npz", experiment.state_dict())
    one, two = (config.build(3) for _ in range(2))
    for again in (one, two):
        again.load_state_dict(load_state(tmp_path / "a.npz"))
    with torch.no_grad():
        next(two.learner.networks["actor_1"].module.parameters())[0, 0] += 0.5
    list(one.records())
    list(two.records())
    assert plain(one.state_dict()) != plain(two.state_dict())


def test_a_checkpoint_of_before_a_name_changed_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The calibration kept one ``slope`` a node before it kept a matrix of ``slopes``."""
    folder = tmp_path / "run"
    config = toy("rsd4.s1")
    run = Run(recipe="rsd4.s1", arguments={"steps": STEPS}, config=config, seed=0, directory=folder)
    execute(run, callbacks=[lambda record: False])
    (path,) = folder.glob("checkpoint-*.npz")
    state = load_state(path, journal=folder / "journal")
    calibration = state["experiment"]["calibration"]
    calibration["slope"] = calibration.pop("slopes").diagonal()
    save_state(path, state, journal=folder / "journal")
    for verb in ("resume", "evaluate"):
        capsys.readouterr()
        assert main([verb, str(folder)]) == 2
        line = capsys.readouterr().err
        assert line.startswith(f"error: the checkpoint in {folder} has no 'slopes', so another ")
        assert line.endswith("go on with that version, or start in a new folder\n")
        assert line.count("\n") == 1
