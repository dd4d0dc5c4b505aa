from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import thrifty
from small_agents import make


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"actor_sparsity": 1.0}, r"sparsity must lie in \[0, 1\), got 1.0"),
        ({"critic_sparsity": -0.1}, r"sparsity must lie in \[0, 1\)"),
        ({"topology": "ring"}, "choose rigl, set or static"),
        ({"env": "CartPole-v1"}, "need continuous actions"),
        ({"env": "NoSuchTask-v0"}, "NoSuchTask-v0"),
        ({"policy_kwargs": {"net_arc": [8]}}, r"unknown keys \['net_arc'\]"),
        ({"policy_kwargs": {"net_arch": {"pi": [8]}}}, "net_arch takes"),
        ({"policy_kwargs": {"net_arch": [0]}}, "net_arch takes positive integers"),
        ({"policy_kwargs": {"activation_fn": "rlu"}}, "unknown activation 'rlu'"),
        ({"policy_kwargs": {"activation_fn": nn.Softplus}}, "unknown activation"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"learning_rate": lambda left: left}, "learning_rate must be a number, got <function"),
        ({"action_noise": "small"}, "exploration_noise must be a number, got 'small'"),
        ({"batch_size": 8.0}, r"batch_size must be an integer, got 8\.0"),
        ({"policy_delay": 0}, "policy_delay must be at least 1"),
        ({"n_steps": 0}, "n_step must be at least 1"),
        ({"gamma": 1.5}, "discount must lie"),
        ({"buffer_size": 1e6}, r"capacity must be an integer, got 1000000\.0"),
        ({"buffer_size": 0}, "capacity must be at least 1"),
        ({"learning_starts": -1}, "learning_starts must be at least 0"),
        ({"train_freq": 0}, "train_freq must be at least 1"),
        ({"n_envs": 0}, "environments must be at least 1"),
    ],
)
def test_mistakes_are_told_in_one_line_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as problem:
        make(**options)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("value", ["often", "auto_", "auto_x", ""])
def test_entropy_coefficients_that_mean_nothing(value: str) -> None:
    with pytest.raises(ValueError, match="ent_coef must be"):
        make(thrifty.SAC, ent_coef=value)


def test_unknown_keywords_are_refused() -> None:
    with pytest.raises(TypeError, match="learn_rate"):
        make(learn_rate=1e-3)


def test_a_missing_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch sees no GPU"):
        make(device="cuda")
    assert make(device="auto").learner.device.type == "cpu"


def test_learning_mistakes() -> None:
    agent = make()
    with pytest.raises(ValueError, match="nothing to resume"):
        agent.resume()
    with pytest.raises(ValueError, match="at least 1, got 0"):
        agent.learn(0)
    with pytest.raises(ValueError, match=r"steps must be an integer, got 30\.0"):
        agent.learn(3e1)
    agent.learn(30)
    with pytest.raises(ValueError, match=r"steps must be an integer, got 60\.0"):
        agent.learn(3e1)
    with pytest.raises(ValueError, match=r"evaluate_every must be an integer, got 5\.5"):
        agent.learn(30, evaluate_every=5.5)
    assert agent.learn(10).num_timesteps == 40


def test_a_policy_class_in_the_first_place_is_explained() -> None:
    with pytest.raises(ValueError, match="not a policy class such as 'MlpPolicy'"):
        make(env="MlpPolicy")


@pytest.mark.parametrize("seed", [None, -1, 1.5, True])
def test_a_seed_is_a_number(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed must be an integer of at least 0"):
        make(seed=seed)


@pytest.mark.parametrize("backend", ["engine", "reference"])
def test_an_environment_of_other_sizes_is_told(backend: str) -> None:
    agent = make(backend=backend)
    with pytest.raises(ValueError, match=r"Car\w+-v0 has 2 obs.* and 1 act.*, this agent 3 and 1"):
        agent.evaluate(1, env="MountainCarContinuous-v0")
