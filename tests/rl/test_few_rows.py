"""Acting through NumPy must be the network, after every kind of change to its parameters."""

from __future__ import annotations

import pytest
import torch

from thrifty.control import SAC, TD3, SACConfig, SparsityConfig, TD3Config
from thrifty.rl import Batch
from thrifty.rl.networks import FewRows, mlp

SPARSE = SparsityConfig(sparsity=0.5, update_every=2, update_until=100)


def batch(draw: torch.Generator) -> Batch:
    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw)

    discount = torch.full((8,), 0.99)
    seen = normal(8, 3)
    return Batch(
        normal(8, 3),
        torch.tanh(normal(8, 1)),
        normal(8),
        discount,
        seen,
        seen[None],
        discount[None],
    )


@pytest.mark.parametrize("kind", ["TD3", "SAC"])
def test_it_follows_updates_topology_changes_and_loading(kind: str) -> None:
    draw = torch.Generator().manual_seed(0)
    small = {"actor_hidden": (16, 16), "critic_hidden": (16, 16), "actor": SPARSE, "critic": SPARSE}

    def build(seed: int) -> TD3 | SAC:
        if kind == "TD3":
            return TD3(TD3Config(**small), 3, 1, seed=seed)  # type: ignore[arg-type]
        return SAC(SACConfig(**small), 3, 1, seed=seed)  # type: ignore[arg-type]

    agent, other = build(0), build(1)
    observation = torch.randn((2, 3), generator=draw)
    seen = []
    for _ in range(6):
        agent.update(batch(draw))
        with torch.no_grad():
            expected = agent.actor.module(observation)
        torch.testing.assert_close(agent.policy(observation), expected, rtol=1e-6, atol=1e-6)
        seen.append(expected)
    assert not torch.equal(seen[0], seen[-1])
    other.load_state_dict(agent.state_dict())
    assert torch.equal(other.policy(observation), agent.policy(observation))


@pytest.mark.parametrize(
    ("activation", "dtype", "rows"),
    [("relu", torch.float32, 8), ("relu", torch.float32, 9), ("tanh", torch.float32, 2)]
    + [("relu", torch.float64, 2)],
)
def test_it_is_the_network(activation: str, dtype: torch.dtype, rows: int) -> None:
    net = mlp(5, (7, 6), 4, activation=activation).to(dtype)
    x = torch.randn(rows, 5, dtype=dtype)
    torch.testing.assert_close(FewRows(net)(x), net(x).detach(), rtol=1e-6, atol=1e-6)
    assert not FewRows(net)(x).requires_grad
