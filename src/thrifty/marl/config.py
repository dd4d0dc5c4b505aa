"""The configuration of a team's run: what may be set, what follows from its length.

| constant | fraction of the run | floor | unit |
|---|---|---|---|
| exploration | 1/10 | - | environment steps |
| evaluations | 1/40 | 1 | environment steps |
| lambda targets begin | 3/8 | - | updates |
| n-step targets begin | 1/10 | - | updates |
| evolution interval | 1/200 | 100 | updates |

Hard target copies are counted in updates and do not follow the length of the run.

Reference: MAST (Hu et al., NeurIPS 2024), appendix B.7: 3/8; RLx2 (Tan et al., ICLR 2023): 1/10.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from thrifty.marl.joint_value import PartSparsityConfig
from thrifty.marl.qmix import QMIXConfig
from thrifty.marl.res import RESConfig
from thrifty.marl.wqmix import WQMIXConfig

if TYPE_CHECKING:
    from thrifty.marl.experiment import TeamExperiment


@dataclass(frozen=True, kw_only=True, slots=True)
class TeamConfig:
    """A run of a cooperative multi-agent learner."""

    environment: str = "skirmish"
    """Name of a multi-agent environment, such as skirmish, predator_prey, smax-3m."""
    environments: int = 16
    """Copies stepped together."""
    steps: int = 1_000_000
    """Environment steps of the whole run, all copies together."""
    train_every: int = 64
    """Environment steps, all copies together, per update."""
    replay_episodes: int = 5000
    """Largest number of episodes kept."""
    epsilon_first: float = 1.0
    """Chance of a random action at first."""
    epsilon_last: float = 0.05
    """Chance of a random action after the decay."""
    epsilon_steps: int | None = None
    """Environment steps in which it falls, linearly; None is 1/10 of the run."""
    evaluate_every: int | None = None
    """Environment steps between evaluations; 0 never, None 1/40 of the run."""
    evaluation_episodes: int = 32
    """Greedy episodes of an evaluation."""
    record_every: int | None = None
    """Environment steps between progress records; None is 1/400 of the run."""
    backend: Literal["auto", "reference", "engine"] = "auto"
    """What runs the updates: reference (torch, masked dense), engine (compiled, truly sparse), or
    auto: the engine wherever it is faster."""
    scaling: Annotated[str, tyro.conf.Suppress] = ""
    """What the time constants are scaled to; written when they are resolved."""
    algorithm: QMIXConfig | WQMIXConfig | RESConfig = field(default_factory=QMIXConfig)
    """Hyper-parameters of the learner, and by their class which one."""

    @property
    def updates(self) -> int:
        """Return how many updates the run makes at most (fewer while the replay fills)."""
        return max(1, self.steps // self.train_every)

    def resolved(self) -> TeamConfig:
        """Return the configuration with every time constant a number.

        Raises:
            ValueError: a number that cannot work, with the remedy.
        """
        if self.scaling:
            return self
        check_config(self)
        algorithm = self.algorithm
        late = self.updates * 3 // 8 if algorithm.td_lambda > 0.0 else self.updates // 10
        return replace(
            self,
            epsilon_steps=_or(self.epsilon_steps, self.steps // 10),
            evaluate_every=_or(self.evaluate_every, max(1, self.steps // 40)),
            record_every=_or(self.record_every, max(1, self.steps // 400)),
            algorithm=replace(
                algorithm,
                long_after=_or(algorithm.long_after, late),
                agents=self._evolving(algorithm.agents),
                mixing=self._evolving(algorithm.mixing),
            ),
            scaling=f"fractions of a run of {self.steps:,} steps",
        )

    def _evolving(self, part: PartSparsityConfig) -> PartSparsityConfig:
        return replace(
            part,
            update_every=_or(part.update_every, max(100, self.updates // 200)),
            update_until=_or(part.update_until, self.updates),
        )

    def build(self, seed: int) -> TeamExperiment:
        """Return the experiment at its first step.

        Raises:
            ValueError: an environment or a number that cannot work, with the remedy.
        """
        from thrifty.marl.experiment import TeamExperiment  # it is built on this file

        return TeamExperiment(self, seed)


def _or(value: int | None, scaled: int) -> int:
    return scaled if value is None else value


def check_config(config: TeamConfig) -> None:
    """Refuse numbers that cannot work.

    Raises:
        ValueError: names the field and the remedy.
    """
    for name, value, least in (
        ("steps", config.steps, 1),
        ("environments", config.environments, 1),
        ("train_every", config.train_every, 1),
        ("replay_episodes", config.replay_episodes, 1),
        ("epsilon_steps", config.epsilon_steps, 0),
        ("evaluate_every", config.evaluate_every, 0),
        ("evaluation_episodes", config.evaluation_episodes, 1),
        ("record_every", config.record_every, 1),
    ):
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if config.replay_episodes <= config.algorithm.batch_episodes:
        raise ValueError(
            "updates begin once more episodes are stored than a minibatch takes: replay_episodes "
            f"must be more than batch_episodes, got {config.replay_episodes} and "
            f"{config.algorithm.batch_episodes}"
        )
    for name, chance in (
        ("epsilon_first", config.epsilon_first),
        ("epsilon_last", config.epsilon_last),
    ):
        if not 0.0 <= chance <= 1.0:
            raise ValueError(f"{name} must lie in [0, 1], got {chance}")
