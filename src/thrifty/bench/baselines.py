"""The dense learners that we compare with, driven at a fixed number of updates per call.

Stable-Baselines3 (torch, eager) and sbx (the same interface on JAX, compiled), through their own
``train(gradient_steps, batch_size)`` and ``learn``. Both read the very transitions that ours read.
sbx's actor loss evaluates both critics where TD3 asks for one: about 10 % more work per update.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from thrifty.bench.cases import BATCH, HIDDEN, Case
from thrifty.rl.transitions import Replay

Package = Literal["SB3", "sbx"]
Action = Callable[[], None]
MODULES: dict[Package, str] = {"SB3": "stable_baselines3", "sbx": "sbx"}
REMEDY = 'pip install "thrifty[bench]"'
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


class Blank(gym.Env[Any, Any]):
    """An environment of the right sizes, which learners ask for and updates never touch."""

    def __init__(self, case: Case) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (case.observations,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (case.actions,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Return zeros."""
        super().reset(seed=seed)
        return np.zeros(self.observation_space.shape or (), np.float32), {}

    def step(self, action: Any) -> Any:
        """Return zeros."""
        return np.zeros(self.observation_space.shape or (), np.float32), 0.0, False, False, {}


def updates(
    package: Package, learner_name: str, case: Case, replay: Replay, per_call: int, n_step: int = 1
) -> Action:
    """Return a call that does so many updates of a baseline and waits for their end.

    Args:
        package: SB3 or sbx.
        learner_name: TD3 or SAC.
        case: sizes.
        replay: the transitions that minibatches are drawn from.
        per_call: gradient steps of a call.
        n_step: length of the return.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    return updates_of(package, learner(package, learner_name, case, replay, n_step), per_call)


def learner(package: Package, name: str, case: Case, replay: Replay, n_step: int = 1) -> Any:
    """Return a baseline's learner with our transitions in its replay; see :func:`updates`."""
    model = _model(package, name, Blank(case), buffer_size=len(replay), n_steps=n_step)
    fill(model.replay_buffer, replay)
    silence(model)
    return model


def silence(model: Any) -> None:
    """Let a baseline log nowhere; its own logger makes a folder in any case."""
    logger = importlib.import_module("stable_baselines3.common.logger").Logger
    model.set_logger(logger(folder=None, output_formats=[]))


def updates_of(package: Package, model: Any, per_call: int) -> Action:
    """Return a call that does so many updates of a model; JAX's are waited for."""
    if package == "SB3":
        return lambda: model.train(gradient_steps=per_call, batch_size=BATCH)
    ready = importlib.import_module("jax").block_until_ready

    def call() -> None:
        model.train(gradient_steps=per_call, batch_size=BATCH)
        critic, actor = model.policy.qf_state, model.policy.actor_state
        ready((critic.params, critic.target_params, critic.opt_state, actor.params))

    return call


def loop(package: Package, name: str, env: gym.Env[Any, Any], steps: int) -> Action:
    """Return a call that makes so many environment steps with one update each.

    Args:
        package: SB3 or sbx.
        name: TD3 or SAC.
        env: stepped.
        steps: of a call.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    settings: dict[str, Any] = {}
    if name == "TD3":
        noise = importlib.import_module("stable_baselines3.common.noise").NormalActionNoise
        size = int(np.prod(env.action_space.shape or ()))
        settings["action_noise"] = noise(np.zeros(size), np.full(size, 0.1))
    model = _model(package, name, env, train_freq=1, gradient_steps=1, **settings)
    silence(model)
    return lambda: model.learn(steps, reset_num_timesteps=False, log_interval=None)


def _model(package: Package, name: str, env: gym.Env[Any, Any], **settings: Any) -> Any:
    if package == "sbx":
        _tame_jax()
    module = importlib.import_module(MODULES[package])
    return getattr(module, name)(
        "MlpPolicy",
        env,
        learning_rate=3e-4,
        batch_size=BATCH,
        learning_starts=1,
        policy_kwargs={"net_arch": list(HIDDEN)},
        device="cpu",
        seed=0,
        **settings,
    )


def _tame_jax() -> None:
    """One thread on the CPU for JAX, which reads this when it is imported for the first time."""
    if "jax" in sys.modules:
        return
    flags = os.environ.get("XLA_FLAGS", "")
    if _ONE_THREAD not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_ONE_THREAD}".strip()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")


def fill(buffer: Any, replay: Replay) -> None:
    """Put a full replay's transitions into a Stable-Baselines3 replay buffer."""
    at, matrix = replay.columns, replay.matrix
    buffer.observations[:, 0] = matrix[:, at.observation]
    buffer.next_observations[:, 0] = matrix[:, at.next_observation]
    buffer.actions[:, 0] = matrix[:, at.action]
    buffer.rewards[:, 0] = matrix[:, at.reward]
    buffer.dones[:, 0] = matrix[:, at.ended]
    buffer.timeouts[:, 0] = matrix[:, at.ended] - matrix[:, at.terminated]
    buffer.pos, buffer.full = 0, True
