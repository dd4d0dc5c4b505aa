"""The film of a MuJoCo agent at the end of its run."""

from __future__ import annotations

import dataclasses
from typing import Any

from thrifty.control import ControlConfig, TD3Config

CONFIG = ControlConfig(
    environment="Hopper-v5",
    steps=12,
    learning_starts=6,
    evaluate_every=12,
    evaluation_episodes=2,
    random_episodes=1,
    backend="reference",
    algorithm=TD3Config(actor_hidden=(8,), critic_hidden=(8,), batch_size=4),
)


def test_a_run_ends_with_the_gait_of_its_last_evaluation() -> None:
    records = [record for record in CONFIG.build(0).records() if record is not None]
    assert [record["kind"] for record in records[-3:]] == ["evaluation", "gait", "end"]
    evaluation, gait, _ = records[-3:]
    assert gait["return"] == evaluation["returns"][0]
    assert gait["length"] == evaluation["lengths"][0]
    assert gait["step"] == 12


def test_a_run_that_is_resumed_films_the_same() -> None:
    whole = [record for record in CONFIG.build(0).records() if record is not None]
    for kind in ("random_policy", "evaluation", "gait"):  # stopped right after it
        first = CONFIG.build(0)
        begun: list[dict[str, Any]] = []
        for record in first.records():
            if record is not None:
                begun.append(record)
                if record["kind"] == kind:
                    break
        second = CONFIG.build(0)  # the seeds of evaluations follow from the run's seed
        second.load_state_dict(first.state_dict())
        rest = [record for record in second.records() if record is not None]
        assert begun + rest == whole


def test_without_evaluations_there_is_no_film() -> None:
    config = dataclasses.replace(CONFIG, evaluate_every=0, random_episodes=0)
    assert "gait" not in {record["kind"] for record in config.build(0).records() if record}
