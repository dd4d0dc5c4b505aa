"""Agents small enough to learn in a moment, and what they tell."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import thrifty

SMALL: dict[str, Any] = {
    "learning_starts": 20,
    "batch_size": 8,
    "policy_kwargs": {"net_arch": [8, 8]},
}
AGENTS = pytest.mark.parametrize("kind", [thrifty.TD3, thrifty.SAC])


def make(kind: Any = thrifty.TD3, env: Any = "Pendulum-v1", **options: Any) -> Any:
    return kind(env, **{**SMALL, **options})


class Notes(list[dict[str, Any]]):
    """A callback that keeps the records, and stops at the n-th."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at

    def __call__(self, record: dict[str, Any]) -> bool | None:
        self.append(record)
        return False if len(self) == self.stop_at else None


def parameters(agent: Any) -> list[torch.Tensor]:
    learner = agent.learner
    return [
        *(p.detach().clone() for n in learner.networks().values() for p in n.module.parameters()),
        *(p.detach().clone() for p in learner.critic_target.parameters()),
        *(
            value.clone()
            for n in learner.networks().values()
            for state in n.optimizer.state.values()
            for value in state.values()
        ),
    ]


def same(one: Any, two: Any) -> bool:
    return all(map(torch.equal, parameters(one), parameters(two)))
