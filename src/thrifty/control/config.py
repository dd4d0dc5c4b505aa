"""The configuration of a run: what may be set, what follows from its length, what cannot work."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import tyro

from thrifty.control.sac import SACConfig
from thrifty.control.td3 import TD3Config
from thrifty.control.times import scaled_times

if TYPE_CHECKING:
    from thrifty.control.experiment import ControlExperiment


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayConfig:
    """The replay and its dynamic capacity."""

    capacity: int | None = None
    """Largest number of transitions kept; None is the length of the run."""
    check_every: int | None = 0
    """Environment steps between checks of the dynamic-capacity rule; 0 never, None 1/300 of the
    run, at least 500."""
    minimum: int | None = None
    """Transitions that the rule keeps in any case; None is 1/30 of the run, at least 10,000."""
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
    """A run of a continuous-control agent."""

    environment: str = "HalfCheetah-v5"
    """Gymnasium id."""
    environments: int = 1
    """Copies stepped together."""
    steps: int = 1_000_000
    """Environment steps of the whole run."""
    learning_starts: int | None = None
    """Steps of uniformly random actions before the first update; None is 1/120 of the run, at least
    1,000 (or half of a shorter run)."""
    train_freq: int = 1
    """Steps of all environments between rounds of updates."""
    gradient_steps: int = -1
    """Updates in a round; -1 makes as many as transitions came in."""
    evaluate_every: int | None = None
    """Environment steps between evaluations; 0 never, None 1/20 of the run within 1,000 to
    5,000."""
    evaluation_episodes: int = 10
    """Noise-free episodes of an evaluation."""
    random_episodes: int = 10
    """Episodes of the uniformly random control at the start; 0 leaves it out."""
    record_every: int | None = None
    """Environment steps between progress records; None is 1/400 of the run."""
    backend: Literal["auto", "reference", "engine"] = "auto"
    """What runs the updates: reference (torch, masked dense, any device), engine (compiled, truly
    sparse, CPU), or auto: the engine wherever it is faster."""
    engine_threads: int = 1
    """Threads that share one update of the engine. Two learners side by side use two cores better;
    results are bit-equal at an equal number."""
    scaling: Annotated[str, tyro.conf.Suppress] = ""
    """What the time constants are scaled to; written when they are resolved."""
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    """The replay and its dynamic capacity."""
    algorithm: TD3Config | SACConfig = field(default_factory=TD3Config)
    """Hyper-parameters of the learner, and by their class which one."""

    def resolved(self) -> ControlConfig:
        """Return the configuration with every time constant a number.

        A constant that is None becomes its fraction of the run (:mod:`thrifty.control.times`),
        given the run's length, updates per step and policy delay. ``scaling`` then says so, and
        names what was set otherwise. A resolved configuration is returned as it is.

        Raises:
            ValueError: a number that cannot work, with the remedy.
        """
        if self.scaling:
            return self
        check_config(self)
        algorithm, replay = self.algorithm, self.replay
        updates_per_step = 1.0
        if self.gradient_steps >= 0:
            updates_per_step = self.gradient_steps / (self.train_freq * self.environments)
        times = scaled_times(
            self.steps,
            policy_delay=algorithm.policy_delay if isinstance(algorithm, TD3Config) else 1,
            learning_starts=self.learning_starts,
            updates_per_step=updates_per_step,
        )
        set_otherwise: list[str] = []

        def of(name: str, value: int | None, scaled: int) -> int:
            if value is not None and value not in (0, scaled):  # 0 switches an ingredient off
                set_otherwise.append(f"{name} {value:,}")
            return scaled if value is None else value

        default_times = scaled_times(self.steps, policy_delay=1, updates_per_step=updates_per_step)
        networks = {
            name: replace(
                network,
                update_every=of(
                    f"{name} update_every", network.update_every, times.evolution_interval
                ),
                update_until=of(f"{name} update_until", network.update_until, until),
            )
            for name, network, until in (
                ("actor", algorithm.actor, times.actor_until),
                ("critic", algorithm.critic, times.critic_until),
            )
        }
        config = replace(
            self,
            learning_starts=of(
                "learning_starts", self.learning_starts, default_times.learning_starts
            ),
            evaluate_every=of("evaluate_every", self.evaluate_every, times.evaluate_every),
            record_every=of("record_every", self.record_every, times.record_every),
            replay=replace(
                replay,
                capacity=of("replay capacity", replay.capacity, times.replay_maximum),
                check_every=of("replay check_every", replay.check_every, times.check_every),
                minimum=of("replay minimum", replay.minimum, times.replay_minimum),
            ),
            algorithm=replace(
                algorithm,
                n_step_delay=of("n_step_delay", algorithm.n_step_delay, times.n_step_delay),
                actor=networks["actor"],
                critic=networks["critic"],
            ),
        )
        label = f"fractions of a run of {self.steps:,} steps"
        if set_otherwise:
            label += f", but {', '.join(set_otherwise)}"
        return replace(config, scaling=label)

    def build(self, seed: int) -> ControlExperiment:
        """Return the experiment at its first step.

        Raises:
            ValueError: an environment or a number that cannot work, with the remedy.
        """
        from thrifty.control.experiment import ControlExperiment  # it is built on this file

        return ControlExperiment(self, seed)


def check_config(config: ControlConfig) -> None:
    """Refuse numbers that cannot work.

    Raises:
        ValueError: names the field and the remedy.
    """
    replay = config.replay
    counts: tuple[tuple[str, Any, int], ...] = (  # Any: nothing has checked their types yet
        ("steps", config.steps, 1),
        ("environments", config.environments, 1),
        ("learning_starts", config.learning_starts, 0),
        ("train_freq", config.train_freq, 1),
        ("gradient_steps", config.gradient_steps, -1),
        ("evaluate_every", config.evaluate_every, 0),
        ("evaluation_episodes", config.evaluation_episodes, 1),
        ("random_episodes", config.random_episodes, 0),
        ("record_every", config.record_every, 1),
        ("engine_threads", config.engine_threads, 1),
        ("replay.capacity", replay.capacity, 1),
        ("replay.check_every", replay.check_every, 0),
        ("replay.minimum", replay.minimum, 1),
        ("replay.oldest", replay.oldest, 1),
    )
    for name, value, least in counts:
        if value is None:
            continue
        if not isinstance(value, Integral):
            raise ValueError(f"{name} must be an integer, got {value!r}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if not replay.threshold >= 0.0:
        raise ValueError(f"replay.threshold must be at least 0, got {replay.threshold}")
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
        value = getattr(algorithm, name, None)
        if value is None:
            continue
        if not isinstance(value, Real):  # another library's noise or schedule, say
            raise ValueError(f"{name} must be a number, got {value!r}")
        if isinstance(least, int) and not isinstance(value, Integral):
            raise ValueError(f"{name} must be an integer, got {value!r}")
        if not float(value) >= least:
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
