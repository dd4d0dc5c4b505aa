"""Runs of a scheduling agent: what they refuse, that they repeat, and that they learn."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from thrifty.recipes import rsd4
from thrifty.scheduling import optimum
from thrifty.scheduling.assessment import Assessment
from thrifty.scheduling.config import SchedulingConfig
from thrifty.scheduling.experiment import sight_of
from thrifty.scheduling.queueing import Sight
from thrifty.scheduling.scenarios import scenario
from thrifty.scheduling.schedulers import TableScheduler


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


def test_the_optimal_table_measured_against_itself_is_the_optimum() -> None:
    """Played by the same randomness at its own energy, nothing is left to differ but rounding."""
    of = scenario("S1")
    best = optimum.solve(of, 10.0)
    assessment = Assessment(of, Sight(), of.budget, seed=3)
    found = None
    while found is None:
        found = assessment.test(TableScheduler(of, best), 600)  # type: ignore[arg-type]
    assert found["episodes"] == 600
    assert found["paired"] == pytest.approx(1.0, abs=5e-3)
    assert found["paired_error"] < 2e-3
    assert found["off_budget"] < 0.02
    assert np.allclose(np.sum(found["delays"], axis=-1)[[0, 3]], 1.0)  # two users are served
    assert len(found["energy_over_time"]) == 100


@pytest.mark.slow
def test_an_agent_learns_what_is_optimal() -> None:
    config = dataclasses.replace(
        rsd4.sd3("S1", steps=1_500), calibration_episodes=800, curve_points=0
    )
    records = {one["kind"]: one for one in config.build(100).records() if one is not None}
    assert records["test"]["paired"] > 0.95
    assert records["test"]["off_budget"] < 0.01
