"""Small agents of Stable-Baselines3, dense and sparse, and what is looked at in them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from stable_baselines3 import DDPG, SAC, TD3
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import set_random_seed
from torch import nn

from thrifty.adapters.sb3 import sparsify_agent

# Pendulum: 3 observations, 1 action. With [32, 24] TD3's actor has 3*32 + 32*24 + 24 = 888
# weights, SAC's another 24 for the log standard deviation, a critic 4*32 + 32*24 + 24 = 920.
ACTOR_WEIGHTS = {TD3: 888, DDPG: 888, SAC: 912}
CRITIC_WEIGHTS = {TD3: 1840, DDPG: 920, SAC: 1840}
STEPS, STARTS = 200, 40
KINDS = pytest.mark.parametrize("kind", [TD3, SAC, DDPG])


def dense_agent(kind: Any, seed: int | None = 0, **settings: Any) -> Any:
    settings = {
        "learning_starts": STARTS,
        "batch_size": 32,
        "buffer_size": 1_000,
        "policy_kwargs": {"net_arch": [32, 24]},
        **settings,
    }
    model = kind("MlpPolicy", "Pendulum-v1", seed=seed, device="cpu", **settings)
    model.set_logger(Logger(None, []))
    return model


def sparse_agent(kind: Any, *, sparsity: dict[str, Any] | None = None, **settings: Any) -> Any:
    model = dense_agent(kind, **settings)
    arguments = {"steps": STEPS, "actor": 0.8, "critic": 0.7, "update_every": 10}
    sparsify_agent(model, **{**arguments, **(sparsity or {})})
    return model


def networks(model: Any) -> dict[str, tuple[nn.Module, nn.Module | None]]:
    return {
        "actor": (model.actor, getattr(model, "actor_target", None)),
        "critic": (model.critic, model.critic_target),
    }


def masks_of(model: Any) -> dict[str, torch.Tensor]:
    return {
        f"{network}.{name}": topology.mask(name).clone()
        for network, topology in model.policy.sparsity.topologies.items()
        for name in topology.names
    }


def check_zero_off_mask(model: Any) -> None:
    """Online weights, target weights and Adam's moments are 0 wherever there is no link."""
    for network, (online, target) in networks(model).items():
        topology = model.policy.sparsity.topologies[network]
        assert len(topology.names) >= 3
        assert topology.sparsity > 0.5
        for name in topology.names:
            cut = ~topology.mask(name)
            parameter = online.get_parameter(name)
            assert not parameter[cut].any()
            if target is not None:
                twin = target.get_parameter(name)
                assert not twin[cut].any()
                assert twin.any()
            for moment in ("exp_avg", "exp_avg_sq"):
                state = online.optimizer.state.get(parameter, {})  # type: ignore[union-attr]
                if moment in state:
                    assert not state[moment][cut].any()


def train(model: Any, updates: int, seed: int) -> None:
    set_random_seed(seed)  # replay indices come from numpy, noise from torch
    model.train(gradient_steps=updates, batch_size=32)


def same(left: Any, right: Any) -> bool:
    """Compare nested state dicts bit by bit."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)
