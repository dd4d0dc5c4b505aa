"""The configuration of a run: on which instance, which learner, how long."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

from thrifty.episodic import instances, ucbvi, weighting
from thrifty.episodic.environments import Environment, from_gymnasium
from thrifty.episodic.feature_learner import FeatureLSVI
from thrifty.episodic.latent import LatentMDP
from thrifty.episodic.lsvi_ucb import LSVIUCB
from thrifty.episodic.lsvi_ucb_plus import LSVIUCBPlus
from thrifty.episodic.mdp import EpisodicMDP, LinearMDP, tabular
from thrifty.episodic.rollout import Learner, check_episodes

if TYPE_CHECKING:
    from thrifty.episodic.experiment import EpisodicExperiment


@dataclass(frozen=True, kw_only=True, slots=True)
class RiverSwimConfig:
    """RiverSwim, tabular as linear."""

    kind: Annotated[Literal["river_swim"], tyro.conf.Suppress] = "river_swim"
    """Which instance."""
    S: int = 6
    """States."""
    H: int = 20
    """Stages of an episode."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LockConfig:
    """The combination lock."""

    kind: Annotated[Literal["lock"], tyro.conf.Suppress] = "lock"
    """Which instance."""
    H: int = 8
    """Stages of an episode."""
    A: int = 3
    """Actions."""
    observations: int = 1
    """Symbols that a latent state emits."""
    instance_seed: int = 0
    """Draws the instance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepSeaConfig:
    """Deep sea, tabular as linear."""

    kind: Annotated[Literal["deep_sea"], tyro.conf.Suppress] = "deep_sea"
    """Which instance."""
    N: int = 8
    """Columns, and stages of an episode."""
    instance_seed: int = 0
    """Draws the instance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LotteryConfig:
    """Noisy arms beside almost sure ones."""

    kind: Annotated[Literal["lottery"], tyro.conf.Suppress] = "lottery"
    """Which instance."""
    d: int = 8
    """Kernels that can be chosen."""
    H: int = 10
    """Stages of an episode."""
    mixtures: int = 0
    """Actions beyond the pure ones."""
    instance_seed: int = 0
    """Draws the instance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SimplexConfig:
    """A random linear MDP with features in the simplex."""

    kind: Annotated[Literal["simplex"], tyro.conf.Suppress] = "simplex"
    """Which instance."""
    d: int = 8
    """Latent kernels."""
    S: int = 50
    """States."""
    A: int = 10
    """Actions."""
    H: int = 10
    """Stages of an episode."""
    instance_seed: int = 0
    """Draws the instance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HardConfig:
    """The instance of the lower bound, made for the run's number of episodes."""

    kind: Annotated[Literal["hard"], tyro.conf.Suppress] = "hard"
    """Which instance."""
    d: int = 4
    """The paper's d."""
    H: int = 10
    """Stages of an episode."""
    gap: float = 4.0
    """Multiplier of the gap."""
    instance_seed: int = 0
    """Draws the instance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenLakeConfig:
    """Gymnasium's FrozenLake as a table with one-hot features."""

    kind: Annotated[Literal["frozen_lake"], tyro.conf.Suppress] = "frozen_lake"
    """Which instance."""
    H: int = 30
    """Stages of an episode."""
    slippery: bool = True
    """Whether a move may slip to the side."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentConfig:
    """Continuous states: no model is used, so regret is not known."""

    kind: Annotated[Literal["latent"], tyro.conf.Suppress] = "latent"
    """Which instance."""
    d: int = 5
    """Latent kernels."""
    A: int = 3
    """Actions."""
    H: int = 5
    """Stages of an episode."""
    instance_seed: int = 0
    """Draws the instance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LSVIUCBConfig:
    """LSVI-UCB (Jin et al. 2020)."""

    kind: Annotated[Literal["lsvi_ucb"], tyro.conf.Suppress] = "lsvi_ucb"
    """Which learner."""
    constants: Literal["practical", "theory"] = "practical"
    """Bonus factor: beta below, or the one of the proof."""
    regulariser: float | None = None
    """lambda; None is 0.001, or 1 in theory."""
    beta: float | None = None
    """Bonus factor; None is 0.3, or the one of the proof."""
    delta: float = 0.01
    """Probability of failure, in theory."""
    switch: Literal["determinant", "episode"] = "determinant"
    """Plan when a determinant has doubled, or before every episode."""
    reward: Literal["known", "estimate"] = "known"
    """Rewards are given, or regressed together with the values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LSVIUCBPlusConfig:
    """LSVI-UCB+ in its corrected form (Hu et al. 2022, He et al. 2023)."""

    kind: Annotated[Literal["lsvi_ucb_plus"], tyro.conf.Suppress] = "lsvi_ucb_plus"
    """Which learner."""
    constants: Literal["practical", "theory"] = "practical"
    """Bonuses and weights: the ones below, or those of the proof."""
    regulariser: float | None = None
    """lambda; None is 1/H^2."""
    beta: float | None = None
    """Bonus factor; None is 1, or the one of the proof."""
    correction: float = 0.02
    """Factor of the corrections E and D of the variance; practical constants only."""
    floor: float = 0.05
    """Least variance; practical constants only."""
    delta: float = 0.01
    """Probability of failure, in theory."""
    monotone: bool = True
    """Optimistic values may only fall, pessimistic ones only rise."""
    switch: Literal["determinant", "episode"] = "determinant"
    """Plan when a determinant has doubled, or before every episode."""
    gap: Literal["pessimistic", "over"] = "pessimistic"
    """What D compares with the pessimistic value: the optimistic or the over-optimistic one."""
    reward: Literal["known", "estimate"] = "known"
    """Rewards are given, or regressed with a bonus of their own."""
    beta_reward: float | None = None
    """Bonus factor of regressed rewards; None is beta, or the one of the proof."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UCBVIConfig:
    """UCBVI (Azar et al. 2017), for tabular MDPs."""

    kind: Annotated[Literal["ucbvi"], tyro.conf.Suppress] = "ucbvi"
    """Which learner."""
    constants: Literal["practical", "theory"] = "practical"
    """Bonus factor: beta below, or the one of the proof."""
    beta: float | None = None
    """Bonus factor; None is 1, or the one of the proof."""
    delta: float = 0.01
    """Probability of failure, in theory."""
    switch: Literal["determinant", "episode"] = "determinant"
    """Plan when the visits of a pair have doubled, or before every episode."""


InstanceConfig = (
    RiverSwimConfig
    | LockConfig
    | DeepSeaConfig
    | LotteryConfig
    | SimplexConfig
    | HardConfig
    | FrozenLakeConfig
    | LatentConfig
)
LearnerConfig = LSVIUCBPlusConfig | LSVIUCBConfig | UCBVIConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodicConfig:
    """A run of a learner with optimism on an episodic MDP."""

    steps: int = 10_000
    """K, episodes of the whole run."""
    record_every: int | None = None
    """Episodes between progress records, besides those at 1, 2, 4, ...; None is 1/100 of the run.
    """
    instance: InstanceConfig = field(default_factory=RiverSwimConfig)
    """What is learned on."""
    algorithm: LearnerConfig = field(default_factory=LSVIUCBPlusConfig)
    """Who learns, and with which constants."""

    def resolved(self) -> EpisodicConfig:
        """Return the configuration with nothing left open that the run's length decides."""
        check_episodes(self.steps)
        if self.record_every is not None:
            if self.record_every < 1:
                raise ValueError(f"record_every must be at least 1, got {self.record_every}")
            return self
        return replace(self, record_every=max(1, self.steps // 100))

    def build(self, seed: int) -> EpisodicExperiment:
        """Return the run at its beginning.

        Raises:
            ValueError: something cannot work; the message names it.
        """
        from thrifty.episodic.experiment import EpisodicExperiment  # it is built on this file

        return EpisodicExperiment(self, seed)


def make_instance(config: InstanceConfig, K: int) -> EpisodicMDP | Environment:
    """Return the MDP, or the environment without a model, of a configuration.

    Args:
        config: which, and of what size.
        K: episodes of the run; the hard instance depends on it.
    """
    if isinstance(config, RiverSwimConfig):
        return tabular(instances.river_swim(config.S, config.H))
    if isinstance(config, FrozenLakeConfig):
        import gymnasium

        env = gymnasium.make("FrozenLake-v1", is_slippery=config.slippery)
        return tabular(from_gymnasium(env, config.H))
    rng = np.random.default_rng(config.instance_seed)
    if isinstance(config, LockConfig):
        return instances.combination_lock(config.H, config.A, rng, observations=config.observations)
    if isinstance(config, DeepSeaConfig):
        return tabular(instances.deep_sea(config.N, rng))
    if isinstance(config, LotteryConfig):
        return instances.lottery(config.d, config.H, rng, mixtures=config.mixtures)
    if isinstance(config, SimplexConfig):
        return instances.simplex(config.d, config.S, config.A, config.H, rng)
    if isinstance(config, HardConfig):
        return instances.hard_instance(config.d, config.H, K, rng, gap=config.gap)
    return LatentMDP(config.d, config.A, config.H, rng)


def make_learner(
    config: LearnerConfig, mdp: EpisodicMDP | Environment, K: int
) -> Learner | FeatureLSVI:
    """Return the learner of a configuration at its beginning.

    Args:
        config: which, and with what constants.
        mdp: what it learns on.
        K: episodes of the run; the constants of theory depend on it.

    Raises:
        ValueError: a number out of its range, or a learner that cannot learn on this.
    """
    theory = config.constants == "theory"
    if not theory and config.delta != type(config)().delta:
        raise ValueError("delta is for constants=theory: leave it out, or take those")
    if isinstance(config, UCBVIConfig):
        if not isinstance(mdp, EpisodicMDP):
            raise ValueError("ucbvi counts states: it needs a finite MDP")
        beta = 1.0 if config.beta is None else config.beta
        if theory:
            _refuse(config, "beta")
            beta = ucbvi.theory_beta(mdp.S, mdp.A, mdp.H, K, config.delta)
        return ucbvi.UCBVI(mdp, beta=beta, switch=config.switch)
    if theory:
        _refuse(config, "beta", "regulariser")
    sizes = _sizes(mdp)
    if isinstance(config, LSVIUCBConfig):
        regulariser = 1e-3 if config.regulariser is None else config.regulariser
        beta = 0.3 if config.beta is None else config.beta
        if theory:
            regulariser, beta = 1.0, weighting.theory_beta(*sizes, K, config.delta)
        settings: dict[str, Any] = {"switch": config.switch, "reward": config.reward}
        if isinstance(mdp, LinearMDP):
            return LSVIUCB(mdp, regulariser=regulariser, beta=beta, **settings)
        return FeatureLSVI(
            _environment(mdp),
            regulariser=regulariser,
            weighting=weighting.constant_weighting(beta, 1.0),
            monotone=False,
            pooled_reward=True,
            **settings,
        )
    d, H = sizes
    regulariser = 1.0 / H**2 if config.regulariser is None else config.regulariser
    beta_reward = config.beta_reward
    if beta_reward is not None and config.reward == "known":
        raise ValueError("beta_reward is for estimated rewards: leave it out, or reward=estimate")
    if theory:
        _refuse(config, "beta_reward", "correction", "floor")
        regulariser, constants = weighting.theory_weighting(d, H, K, config.delta)
        beta_reward = weighting.reward_beta(d, H, K, config.delta, regulariser)
    else:
        beta = 1.0 if config.beta is None else config.beta
        constants = weighting.practical_weighting(
            H, beta, correction=config.correction, floor=config.floor
        )
    settings = {
        "regulariser": regulariser,
        "weighting": constants,
        "monotone": config.monotone,
        "switch": config.switch,
        "gap": config.gap,
        "reward": config.reward,
        "beta_reward": beta_reward,
    }
    if isinstance(mdp, LinearMDP):
        return LSVIUCBPlus(mdp, **settings)
    return FeatureLSVI(_environment(mdp), **settings)


def _refuse(config: LearnerConfig, *names: str) -> None:
    for name in names:
        if getattr(config, name) != getattr(type(config)(), name):
            raise ValueError(
                f"constants=theory decides {name}: leave it out, or take constants=practical"
            )


def _sizes(mdp: EpisodicMDP | Environment) -> tuple[int, int]:
    if isinstance(mdp, EpisodicMDP) and not isinstance(mdp, LinearMDP):
        raise ValueError("a linear learner needs a LinearMDP: give tabular(mdp)")
    return mdp.d, mdp.H


def _environment(mdp: EpisodicMDP | Environment) -> Environment:
    assert not isinstance(mdp, EpisodicMDP), "a finite MDP has a learner on tables"
    return mdp
