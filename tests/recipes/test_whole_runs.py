"""Whole runs: twenty thousand steps of RLx2, Pendulum-v1 solved, and the demo's promise."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest

from thrifty.control import ControlConfig, ControlExperiment, SACConfig, SparsityConfig
from thrifty.recipes import rlx2
from toy_environments import Count

pytestmark = pytest.mark.slow


def run(experiment: ControlExperiment) -> list[dict[str, Any]]:
    return [record for record in experiment.records() if record is not None]


@pytest.mark.parametrize("learner", ["td3", "sac"])
def test_twenty_thousand_steps_use_every_ingredient(learner: str) -> None:
    """Real time constants, toy networks and environment: only the arithmetic is small."""
    config: Any = getattr(rlx2, learner)("HalfCheetah-v5", 20_000)
    algorithm = dataclasses.replace(
        config.algorithm, actor_hidden=(32, 32), critic_hidden=(32, 32), batch_size=4
    )
    config = dataclasses.replace(config, algorithm=algorithm, evaluate_every=0, random_episodes=0)
    experiment = ControlExperiment(config, 0, lambda: Count(50))
    records = run(experiment)
    kinds = Counter(record["kind"] for record in records)
    changes = [
        record
        for record in records
        if record["kind"] == "topology"
        and record["network"] == "critic"
        and any(layer["grown"] > layer["regrown"] for layer in record["layers"].values())
    ]
    assert len(changes) >= 20
    # 2,000 updates after the warm-up of 1,000 steps.
    assert [(r["step"], r["n_step"]) for r in records if r["kind"] == "n_step"] == [(3_000, 3)]
    assert kinds["buffer"] == 40
    assert experiment.learner.updates == 19_000
    assert records[-1]["kind"] == "end"


@pytest.mark.parametrize("sparsity", [0.0, 0.9])
def test_sac_solves_pendulum(sparsity: float) -> None:
    steps = 10_000
    # Links move every 200 updates, to the end of the run.
    part = SparsityConfig(
        sparsity=sparsity, update_every=200, update_until=steps if sparsity else 0
    )
    config = ControlConfig(
        environment="Pendulum-v1",
        steps=steps,
        learning_starts=1_000,
        evaluate_every=1_000,
        evaluation_episodes=10,
        random_episodes=10,
        algorithm=SACConfig(learning_rate=1e-3, actor=part, critic=part),
    )
    records = run(config.build(0))
    control = next(r for r in records if r["kind"] == "random_policy")["return_mean"]
    assert control < -800
    best = max(r["return_mean"] for r in records if r["kind"] == "evaluation")
    assert best > -250
    last = records[-1]
    assert last["kind"] == "end"
    assert last["return_mean"] > -250


def test_the_demo_learns_to_run() -> None:
    """Median of three seeds, four minutes each; where two agree, the third cannot change it."""
    enough: list[bool] = []
    limbs = 8  # of the half cheetah
    for seed in range(3):
        if max(enough.count(True), enough.count(False)) == 2:
            break
        records = run(rlx2.demo().build(seed))
        assert records[0]["backend"] == "engine"
        returns = [r["return_mean"] for r in records if r["kind"] == "evaluation"]
        enough.append(bool(np.mean(returns[-3:]) >= 1_500))  # after 140,000 steps and later
        (gait,) = (r for r in records if r["kind"] == "gait")
        assert [len(frame["limbs"]) for frame in gait["frames"]] == [limbs] * 8
        # The filmed episode is the first of the last evaluation.
        last = next(r for r in reversed(records) if r["kind"] == "evaluation")
        assert gait["return"] == last["returns"][0]
    assert enough.count(True) == 2
