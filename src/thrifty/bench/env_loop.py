"""What an environment step costs: the simulator, our loop around it, and the update.

HalfCheetah-v5, one thread, networks of 256 x 256, minibatches of 256, one update per step.

Marks: our loop without the update (policy call, environment step, insertion into the replay) takes
at most 150 microseconds beyond the simulator; our whole step is not slower than
Stable-Baselines3's TD3 and SAC (``ratio`` at most 1), both timed in turn in the same process.
The simulator's share of our loop is measured inside it, by a clock around ``step`` and ``reset``.
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from thrifty.bench import baselines
from thrifty.bench.schema import NOT_MEASURED, Row, compare
from thrifty.bench.timing import Seconds, interleave, summarise
from thrifty.control import (
    ControlConfig,
    ControlExperiment,
    ReplayConfig,
    SACConfig,
    SparsityConfig,
    TD3Config,
)
from thrifty.rl.environments import make_environment

ENVIRONMENT = "HalfCheetah-v5"
MARK = 150.0
"""Microseconds beyond the simulator that our loop may take."""
_NEVER = 1_000_000_000
_HIDDEN = (256, 256)
_METRIC = "time per environment step"
_WITH_UPDATE = f"{ENVIRONMENT}, step with one update"
_WITHOUT_UPDATE = f"{ENVIRONMENT}, step without update"


class TimedEnvironment(gym.Wrapper[Any, Any, Any, Any]):
    """Adds up the seconds that the wrapped environment takes, in ``seconds``."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.seconds = 0.0

    def step(self, action: Any) -> Any:
        """Step, timed."""
        start = time.perf_counter()
        result = self.env.step(action)
        self.seconds += time.perf_counter() - start
        return result

    def reset(self, **options: Any) -> Any:
        """Reset, timed."""
        start = time.perf_counter()
        result = self.env.reset(**options)
        self.seconds += time.perf_counter() - start
        return result


def measure(*, rounds: int = 20, steps: int = 100, loop_steps: int = 1000) -> list[Row]:
    """Measure all cases; takes about two minutes.

    Args:
        rounds: samples of each.
        steps: environment steps per sample where updates are made.
        loop_steps: environment steps per sample where none are made.

    Returns:
        Rows in microseconds per environment step.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _without_update(rounds, loop_steps) + _with_update(rounds, steps)
    finally:
        torch.set_num_threads(threads)


def _config(**changes: Any) -> ControlConfig:
    """A run that neither ends nor evaluates nor reports, with updates from the start."""
    quiet = {"evaluate_every": 0, "random_episodes": 0, "record_every": _NEVER, "steps": _NEVER}
    replay = ReplayConfig(capacity=1_000_000)
    return ControlConfig(
        environment=ENVIRONMENT, learning_starts=0, replay=replay, **{**quiet, **changes}
    )


def _advance(experiment: ControlExperiment, steps: int) -> Callable[[], None]:
    """So many environment steps and the updates that follow them."""
    records = experiment.records()

    def sample() -> None:
        end = experiment.step + steps
        while experiment.step < end:
            next(records)

    return sample


def _simulate(steps: int) -> Callable[[], None]:
    """The bare environment under uniformly random actions, reset where an episode ends."""
    env = make_environment(ENVIRONMENT)
    env.reset(seed=0)
    shape = (steps, *(env.action_space.shape or ()))
    actions = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)

    def sample() -> None:
        for action in actions:
            *_, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    return sample


def _without_update(rounds: int, steps: int) -> list[Row]:
    env = TimedEnvironment(make_environment(ENVIRONMENT))
    experiment = ControlExperiment(_config(gradient_steps=0), 0, source=env)
    advance = _advance(experiment, steps)
    inside: list[float] = []

    def sample() -> None:
        before = env.seconds
        advance()
        inside.append(env.seconds - before)

    samples = interleave({"simulator": _simulate(steps), "loop": sample}, rounds=rounds)
    beyond = samples["loop"] - np.array(inside[-rounds:])
    case = _WITHOUT_UPDATE
    rows = _rows(case, "gymnasium", samples["simulator"], steps, sparsity=None, updates=None)
    rows += _rows(case, "thrifty TD3", samples["loop"], steps, updates=0)
    metric = f"{_METRIC}, beyond the simulator"
    return rows + _rows(case, "thrifty TD3", beyond, steps, updates=0, metric=metric)


def _with_update(rounds: int, steps: int) -> list[Row]:
    td3, sac = TD3Config(), SACConfig()
    assert td3.actor_hidden == td3.critic_hidden == sac.actor_hidden == sac.critic_hidden == _HIDDEN
    sparse = dataclasses.replace(
        td3, actor=SparsityConfig(sparsity=0.9), critic=SparsityConfig(sparsity=0.85)
    )
    experiments: dict[str, ControlExperiment] = {
        "thrifty TD3": _config(algorithm=td3).build(0),
        "thrifty TD3 sparse": _config(algorithm=sparse).build(0),
        "thrifty SAC": _config(algorithm=sac).build(0),
    }
    actions = {name: _advance(one, steps) for name, one in experiments.items()}
    sparsity = {name: one.sparsity()["all"] for name, one in experiments.items()}
    try:
        actions |= {f"SB3 {name}": _stable_baselines3(name, steps) for name in ("TD3", "SAC")}
    except ModuleNotFoundError:
        print('Stable-Baselines3 is not measured: pip install "thrifty[sb3]"')
    rows: list[Row] = []
    for name, seconds in interleave(actions, rounds=rounds).items():
        rows += _rows(_WITH_UPDATE, name, seconds, steps, sparsity=sparsity.get(name, 0.0))
    for name in ("TD3", "SAC"):
        if f"SB3 {name}" in actions:
            rows = compare(rows, implementation=f"thrifty {name}", ratio_to=f"SB3 {name}")
        else:
            rows.append(
                Row(
                    case=_WITH_UPDATE,
                    implementation=f"SB3 {name}",
                    metric=_METRIC,
                    statistic=NOT_MEASURED,
                    value=None,
                    unit="us",
                )
            )
    return rows


def _stable_baselines3(name: str, steps: int) -> Callable[[], None]:
    """SB3's learner at our settings, driven through its public ``learn``."""
    sb3 = importlib.import_module("stable_baselines3")
    settings: dict[str, Any] = {"learning_rate": 3e-4, "batch_size": 256, "learning_starts": 1}
    if name == "TD3":
        noise = importlib.import_module("stable_baselines3.common.noise").NormalActionNoise
        settings["action_noise"] = noise(np.zeros(6), np.full(6, 0.1))
    model = getattr(sb3, name)(
        "MlpPolicy",
        make_environment(ENVIRONMENT),
        train_freq=1,
        gradient_steps=1,
        policy_kwargs={"net_arch": list(_HIDDEN)},
        device="cpu",
        seed=0,
        **settings,
    )
    baselines.silence(model)

    def sample() -> None:
        model.learn(steps, reset_num_timesteps=False, log_interval=None)

    return sample


def _rows(
    case: str,
    implementation: str,
    seconds: Seconds,
    steps: int,
    *,
    sparsity: float | None = 0.0,
    updates: int | None = 1,
    metric: str = _METRIC,
) -> list[Row]:
    return [
        Row(
            case=case,
            implementation=implementation,
            sparsity=sparsity,
            updates_per_call=updates,
            metric=metric,
            statistic=statistic,
            value=value,
            unit="us",
        )
        for statistic, value in summarise(seconds / steps * 1e6).items()
    ]
