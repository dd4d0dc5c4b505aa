"""Runs short enough to follow record by record."""

from __future__ import annotations

from typing import Any

from thrifty.control import ControlConfig, ControlExperiment, SparsityConfig, TD3Config
from toy_environments import Count

SMALL: dict[str, Any] = {
    "actor_hidden": (6,),
    "critic_hidden": (6,),
    "batch_size": 4,
}
SPARSE = SparsityConfig(sparsity=0.5, update_every=5, update_until=1000)


def config(algorithm: dict[str, Any] | None = None, **fields: Any) -> ControlConfig:
    return ControlConfig(
        **{
            "environment": "Pendulum-v1",
            "steps": 40,
            "learning_starts": 10,
            "evaluate_every": 0,
            "random_episodes": 0,
            "record_every": 10,
            "algorithm": TD3Config(**{**SMALL, **(algorithm or {})}),
            **fields,
        }
    )


def run(experiment: ControlExperiment) -> list[dict[str, Any]]:
    return [record for record in experiment.records() if record is not None]


def of_kind(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record for record in records if record["kind"] == kind]


def count_experiment(seed: int = 0, source: Any = Count, **fields: Any) -> ControlExperiment:
    return ControlExperiment(config(**fields), seed, source)
