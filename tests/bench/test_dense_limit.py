from __future__ import annotations

import numpy as np
import pytest
import torch

from thrifty.bench.cases import Case, random_replay
from thrifty.bench.dense_limit import DenseSAC, DenseTD3
from thrifty.control import SAC, TD3, SACConfig, TD3Config

CASE = Case("toy", 11, 3)
BATCH, UPDATES = 64, 20


def parameters_of(learner: TD3 | SAC) -> dict[str, torch.Tensor]:
    networks = {
        "actor": learner.actor.module,
        "critic": learner.critic.module,
        "critic_target": learner.critic_target,
    }
    if isinstance(learner, TD3):
        networks["actor_target"] = learner.actor_target
    found = {
        name: torch.cat([p.detach().reshape(-1) for p in network.parameters()])
        for name, network in networks.items()
    }
    if isinstance(learner, SAC):
        found["log_alpha"] = learner.log_alpha.detach().reshape(1)
    return found


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_td3_by_hand_is_the_reference(dtype: torch.dtype, tolerance: float) -> None:
    """The same minibatches and noise: equal to rounding after 20 updates, 10 of the actor."""
    replay = random_replay(CASE, 500)
    learner = TD3(
        TD3Config(batch_size=BATCH, actor_hidden=(40, 24), critic_hidden=(40, 24)),
        CASE.observations,
        CASE.actions,
    )
    by_hand = DenseTD3(learner, replay, dtype=dtype)
    first = parameters_of(learner)
    rng, generator = np.random.default_rng(1), torch.Generator().manual_seed(1)
    for _ in range(UPDATES):
        rows = rng.integers(0, 500, BATCH)
        noise = torch.randn(BATCH, CASE.actions, generator=generator)
        learner.update(replay.windows(rows, n_step=1, discount=0.99), noise)
        by_hand.update(rows, noise)
    ours = by_hand.parameters()
    for name, theirs in parameters_of(learner).items():
        torch.testing.assert_close(ours[name], theirs, rtol=0, atol=tolerance)
    moved = (parameters_of(learner)["actor"] - first["actor"]).abs().max()
    assert moved > 1e-3  # ten steps of Adam of 3e-4: far beyond the tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_sac_by_hand_is_the_reference(dtype: torch.dtype, tolerance: float) -> None:
    """The same minibatches and noise: equal to rounding after 20 updates."""
    replay = random_replay(CASE, 500)
    learner = SAC(
        SACConfig(batch_size=BATCH, actor_hidden=(40, 24), critic_hidden=(40, 24)),
        CASE.observations,
        CASE.actions,
    )
    by_hand = DenseSAC(learner, replay, dtype=dtype)
    first = parameters_of(learner)
    first = {name: vector.clone() for name, vector in first.items()}
    rng, generator = np.random.default_rng(1), torch.Generator().manual_seed(1)
    for _ in range(UPDATES):
        rows = rng.integers(0, 500, BATCH)
        noise, path = torch.randn(2, BATCH, CASE.actions, generator=generator)
        learner.update(replay.windows(rows, n_step=1, discount=0.99), noise, path[None])
        by_hand.update(rows, noise, path)
    ours = by_hand.parameters()
    for name, theirs in parameters_of(learner).items():
        torch.testing.assert_close(ours[name], theirs, rtol=0, atol=tolerance)
        assert (theirs - first[name]).abs().max() > 1e-4  # the targets move least


def test_it_draws_minibatches_and_noise_of_its_own() -> None:
    replay = random_replay(CASE, 500)
    learner = TD3(TD3Config(batch_size=BATCH), CASE.observations, CASE.actions)
    one, two, other = (DenseTD3(learner, replay, seed=seed) for seed in (0, 0, 1))
    for by_hand in (one, two, other):
        by_hand.update()
        by_hand.update()
    assert torch.equal(one.parameters()["actor"], two.parameters()["actor"])
    assert not torch.equal(one.parameters()["actor"], other.parameters()["actor"])
