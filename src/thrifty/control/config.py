"""Everything about a run but the algorithm, and what values cannot work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from thrifty.control.sac import SACConfig
from thrifty.control.td3 import TD3Config


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayConfig:
    """The replay and its dynamic capacity."""

    capacity: int = 1_000_000
    """Largest number of transitions kept."""
    check_every: int = 0
    """Environment steps between checks of the dynamic-capacity rule; 0 never checks."""
    minimum: int = 100_000
    """Transitions that the rule keeps in any case."""
    threshold: float = 0.2
    """Largest accepted distance between stored and present actions (half the mean square)."""
    oldest: int = 2048
    """How many of the oldest transitions are compared."""
    cut: float = 0.1
    """Share of the stored transitions dropped at a time."""
    shrink: Literal["until_accepted", "once"] = "until_accepted"
    """Cut until the distance is accepted, or once per check as the published code does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlConfig:
    """Everything about a run but the algorithm."""

    environment: str = "HalfCheetah-v5"
    """Gymnasium id."""
    environments: int = 1
    """Copies stepped together."""
    steps: int = 1_000_000
    """Environment steps of the whole run."""
    learning_starts: int = 25_000
    """Steps of uniformly random actions before the first update."""
    train_freq: int = 1
    """Steps of all environments between rounds of updates."""
    gradient_steps: int = -1
    """Updates in a round; -1 makes as many as transitions came in."""
    evaluate_every: int = 5_000
    """Environment steps between evaluations; 0 never evaluates."""
    evaluation_episodes: int = 10
    """Noise-free episodes of an evaluation."""
    random_episodes: int = 10
    """Episodes of the uniformly random control at the start; 0 leaves it out."""
    record_every: int = 500
    """Environment steps between progress records."""
    scaling: str = "as configured"
    """What the time constants are scaled to; stands under every figure of the run."""
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    """The replay and its dynamic capacity."""

    def build(self, seed: int) -> Any:
        """Return the experiment at its first step; each algorithm's class says how."""
        raise NotImplementedError(f"{type(self).__name__} names no algorithm")


def check_config(config: ControlConfig) -> None:
    """Refuse numbers that cannot work.

    Raises:
        ValueError: names the field and the remedy.
    """
    replay = config.replay
    for name, value, least in (
        ("steps", config.steps, 1),
        ("learning_starts", config.learning_starts, 0),
        ("train_freq", config.train_freq, 1),
        ("gradient_steps", config.gradient_steps, -1),
        ("evaluate_every", config.evaluate_every, 0),
        ("evaluation_episodes", config.evaluation_episodes, 1),
        ("random_episodes", config.random_episodes, 0),
        ("record_every", config.record_every, 1),
        ("replay.capacity", replay.capacity, 1),
        ("replay.check_every", replay.check_every, 0),
        ("replay.minimum", replay.minimum, 1),
        ("replay.oldest", replay.oldest, 1),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if not 0.0 < replay.cut < 1.0:
        raise ValueError(f"replay.cut must lie in (0, 1), got {replay.cut}")


def check_algorithm(algorithm: TD3Config | SACConfig) -> None:
    """Refuse hyper-parameters that cannot work.

    Raises:
        ValueError: names the field and the remedy.
    """
    for name, least in (
        ("batch_size", 1),
        ("policy_delay", 1),
        ("n_step", 1),
        ("n_step_delay", 0),
        ("learning_rate", 0.0),
        ("exploration_noise", 0.0),
        ("target_noise", 0.0),
        ("target_noise_clip", 0.0),
        ("entropy_coefficient", 0.0),
    ):
        value = getattr(algorithm, name, least)
        if not value >= least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    for name, value in (("discount", algorithm.discount), ("tau", algorithm.tau)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must lie in [0, 1], got {value}")
    if isinstance(algorithm, SACConfig):
        if algorithm.learn_entropy_coefficient and algorithm.entropy_coefficient == 0.0:
            raise ValueError("a learned entropy coefficient must start above 0")
        low, high = algorithm.log_std_bounds
        if not low < high:
            raise ValueError(f"log_std_bounds must rise, got {low} and {high}")
    try:
        torch.empty(0, device=algorithm.device)
    except (RuntimeError, AssertionError) as problem:
        reason = str(problem).splitlines()[0]
        raise ValueError(
            f"device {algorithm.device!r} cannot be used here ({reason}): use cpu"
        ) from None
