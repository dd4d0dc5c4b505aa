"""From equal parameters, batches and noise, our dense learners take Stable-Baselines3's steps.

Both sides run in float64 for 100 updates on the same made-up transitions; parameters of all
networks and the temperature must agree to 1e-5.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from thrifty.control import SAC, TD3, SACConfig, TD3Config
from thrifty.rl import Batch

sb3 = pytest.importorskip("stable_baselines3", reason="extra sb3 is not installed")
from stable_baselines3.common import policies  # noqa: E402
from stable_baselines3.common.logger import Logger  # noqa: E402
from stable_baselines3.common.type_aliases import ReplayBufferSamples  # noqa: E402

OBS, A, B = 5, 2, 64
UPDATES = 100
DOUBLE = torch.float64


class _Spaces(gym.Env[np.ndarray, np.ndarray]):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (A,), np.float32)


@pytest.fixture(autouse=True)
def _keep_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stable-Baselines3 casts observations to float32 on their way in; let doubles pass."""
    monkeypatch.setattr(
        policies, "preprocess_obs", lambda observation, *args, **kwargs: observation
    )


def _double_model(algorithm: Any, **options: Any) -> Any:
    model = algorithm(
        "MlpPolicy",
        _Spaces(),
        learning_rate=3e-4,
        batch_size=B,
        device="cpu",
        seed=0,
        policy_kwargs={"net_arch": [32, 32]},
        **options,
    )
    model.policy.to(DOUBLE)
    model._logger = Logger(None, [])
    return model


def _transitions(update: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Observation, action, reward, next observation, terminated of one minibatch."""
    draw = torch.Generator().manual_seed(1000 + update)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=DOUBLE)

    terminated = (torch.rand(B, generator=draw) < 0.1).to(DOUBLE)
    return normal(B, OBS), torch.tanh(normal(B, A)), normal(B), normal(B, OBS), terminated


def _feed(model: Any, update: int) -> None:
    observation, action, reward, next_observation, terminated = _transitions(update)
    sample = ReplayBufferSamples(
        observation, action, next_observation, terminated[:, None], reward[:, None]
    )
    model.replay_buffer.sample = lambda *args, **kwargs: sample


def _batch(update: int) -> Batch:
    observation, action, reward, next_observation, terminated = _transitions(update)
    discount = 0.99 * (1.0 - terminated)
    return Batch(
        observation,
        action,
        reward,
        discount,
        next_observation,
        next_observation[None],
        discount[None],
    )


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


@torch.no_grad()
def _copy(source: list[nn.Linear], target: list[nn.Linear]) -> None:
    for theirs, ours in zip(source, target, strict=True):
        ours.weight.copy_(theirs.weight)
        ours.bias.copy_(theirs.bias)


def _assert_close(source: list[nn.Linear], target: list[nn.Linear]) -> None:
    for theirs, ours in zip(source, target, strict=True):
        torch.testing.assert_close(ours.weight, theirs.weight, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.bias, theirs.bias, rtol=0, atol=1e-5)


def test_td3_takes_the_steps_of_stable_baselines3() -> None:
    model = _double_model(sb3.TD3)
    config = TD3Config(actor_hidden=(32, 32), critic_hidden=(32, 32), batch_size=B, dtype="float64")
    agent = TD3(config, OBS, A)
    pairs = [
        (_linears(model.actor), _linears(agent.actor.module)),
        (_linears(model.critic), _linears(agent.critic.module)),
        (_linears(model.actor_target), _linears(agent.actor_target)),
        (_linears(model.critic_target), _linears(agent.critic_target)),
    ]
    for theirs, ours in pairs:
        _copy(theirs, ours)
    before = agent.actor.module.net[0].weight.detach().clone()
    for update in range(UPDATES):
        _feed(model, update)
        torch.manual_seed(update)
        model.train(gradient_steps=1, batch_size=B)
        torch.manual_seed(update)
        agent.update(_batch(update), torch.empty(B, A, dtype=DOUBLE).normal_(0, 1))
    for theirs, ours in pairs:
        _assert_close(theirs, ours)
    # 50 actor steps of Adam at 3e-4 move weights by far more than the tolerance.
    assert (agent.actor.module.net[0].weight - before).abs().max() > 1e-3


def _split_output(layer: nn.Linear) -> list[nn.Linear]:
    """Our actor's last layer as the two that Stable-Baselines3 has: mean and log deviation."""
    halves = []
    for rows in (slice(0, A), slice(A, 2 * A)):
        half = nn.Linear(layer.in_features, A, dtype=DOUBLE)
        half.weight.data, half.bias.data = layer.weight.data[rows], layer.bias.data[rows]
        halves.append(half)
    return halves


def test_sac_takes_the_steps_of_stable_baselines3() -> None:
    model = _double_model(sb3.SAC)
    model.log_ent_coef.data = model.log_ent_coef.data.to(DOUBLE)
    config = SACConfig(
        actor_hidden=(32, 32),
        critic_hidden=(32, 32),
        batch_size=B,
        log_std_bounds=(-20.0, 2.0),
        log_std_squash="clamp",
        squash_epsilon=1e-6,
        dtype="float64",
    )
    agent = SAC(config, OBS, A)
    *hidden, output = _linears(agent.actor.module)
    theirs_actor = [*_linears(model.actor.latent_pi), model.actor.mu, model.actor.log_std]
    pairs = [
        (theirs_actor, [*hidden, *_split_output(output)]),
        (_linears(model.critic), _linears(agent.critic.module)),
        (_linears(model.critic_target), _linears(agent.critic_target)),
    ]
    for theirs, ours in pairs:
        _copy(theirs, ours)
    for update in range(UPDATES):
        _feed(model, update)
        torch.manual_seed(update)
        model.train(gradient_steps=1, batch_size=B)
        torch.manual_seed(update)
        noise = torch.randn(B, A, dtype=DOUBLE)
        agent.update(_batch(update), noise, torch.randn(1, B, A, dtype=DOUBLE))
    for theirs, ours in pairs:
        _assert_close(theirs, ours)
    torch.testing.assert_close(agent.log_alpha, model.log_ent_coef.reshape(()), rtol=0, atol=1e-5)
    assert abs(agent.log_alpha.item()) > 1e-3
