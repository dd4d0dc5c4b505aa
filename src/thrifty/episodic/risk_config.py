"""The configuration of a run for the iterated CVaR: on which instance, which learner, how long."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from thrifty.episodic.cvar import check_risk_level
from thrifty.episodic.rollout import check_episodes

if TYPE_CHECKING:
    from thrifty.episodic.risk_experiment import RiskExperiment


@dataclass(frozen=True, kw_only=True, slots=True)
class LavaGridConfig:
    """A grid with lava and a slippery rim."""

    kind: Annotated[Literal["lava_grid"], tyro.conf.Suppress] = "lava_grid"
    """Which instance."""
    width: int = 6
    """Columns."""
    height: int = 3
    """Rows."""
    horizon: int = 20
    """Stages of an episode."""
    slip: float = 0.01
    """Probability that a step from the rim slides into the lava."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureConfig:
    """A mixture of random sparse kernels."""

    kind: Annotated[Literal["mixture"], tyro.conf.Suppress] = "mixture"
    """Which instance."""
    states: int = 12
    """States."""
    actions: int = 4
    """Actions."""
    horizon: int = 5
    """Stages of an episode."""
    dimension: int = 5
    """Base kernels."""
    instance_seed: int = 0
    """Draws the instance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HardChainConfig:
    """The instance of the tabular lower bound, made for the run's risk level."""

    kind: Annotated[Literal["hard_chain"], tyro.conf.Suppress] = "hard_chain"
    """Which instance."""
    n: int = 3
    """Regular states."""
    horizon: int = 6
    """Stages of an episode."""
    gap: float = 0.05
    """How much more probable the good outcome of the one right action is."""
    actions: int = 4
    """Actions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearHardChainConfig:
    """The instance of the linear lower bound, made for the run's risk level."""

    kind: Annotated[Literal["linear_hard_chain"], tyro.conf.Suppress] = "linear_hard_chain"
    """Which instance."""
    n: int = 3
    """Regular states."""
    horizon: int = 6
    """Stages of an episode."""
    gap: float = 0.01
    """How much one right sign changes a probability, half of it each way."""
    dimension: int = 4
    """Parameters; there are 2^(dimension - 1) actions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoDoorConfig:
    """A sure reward or a larger one that can fail."""

    kind: Annotated[Literal["two_door"], tyro.conf.Suppress] = "two_door"
    """Which instance."""
    safe: float = 0.6
    """The sure reward."""
    failure: float = 0.1
    """Probability that the reward of 1 fails."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InventoryConfig:
    """A stock with a rare rush."""

    kind: Annotated[Literal["inventory"], tyro.conf.Suppress] = "inventory"
    """Which instance."""
    horizon: int = 8
    """Stages of an episode."""
    shock: float = 0.05
    """Probability of the rush."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelClassConfig:
    """A finite class of random kernels, the first of which is the truth."""

    kind: Annotated[Literal["kernel_class"], tyro.conf.Suppress] = "kernel_class"
    """Which instance."""
    members: int = 60
    """Kernels in the class."""
    states: int = 10
    """States."""
    actions: int = 3
    """Actions."""
    horizon: int = 5
    """Stages of an episode."""
    instance_seed: int = 0
    """Draws the instance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeaturesConfig:
    """A random kernel with rewards linear in random features."""

    kind: Annotated[Literal["features"], tyro.conf.Suppress] = "features"
    """Which instance."""
    states: int = 10
    """States."""
    actions: int = 4
    """Actions."""
    horizon: int = 5
    """Stages of an episode."""
    dimension: int = 4
    """Features of rewards."""
    members: int = 1
    """Kernels in the class of a learner that does not know the transitions; the first is true."""
    instance_seed: int = 0
    """Draws the instance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ICVaRLConfig:
    """ICVaR-L, for linear mixtures."""

    kind: Annotated[Literal["icvar_l"], tyro.conf.Suppress] = "icvar_l"
    """Which learner."""
    constants: Literal["practical", "theory"] = "practical"
    """Radius of the ellipsoids: beta below, or the one of the proof."""
    beta: float | None = None
    """Radius; None is 0.3, or the one of the proof."""
    regulariser: float = 0.1
    """lambda."""
    delta: float = 0.01
    """Probability of failure, in theory."""
    knots: Literal["values", "values+horizon", "net"] = "values"
    """Levels that are tried: the values of V (exact), with H, or a net."""
    spacing: float = 0.1
    """Of the net."""
    switch: Literal["determinant", "episode"] = "determinant"
    """Plan when a determinant has doubled, or before every episode."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ICVaRRMConfig:
    """ICVaR-RM, tabular."""

    kind: Annotated[Literal["icvar_rm"], tyro.conf.Suppress] = "icvar_rm"
    """Which learner."""
    constants: Literal["practical", "theory"] = "practical"
    """Factor of the bonus: beta below, or the one of the proof."""
    beta: float | None = None
    """Factor of the bonus; None is 0.3, or the one of the proof."""
    delta: float = 0.01
    """Probability of failure, in theory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ICVaRBPIConfig:
    """ICVaR-BPI, tabular: stops learning when its policy is good enough."""

    kind: Annotated[Literal["icvar_bpi"], tyro.conf.Suppress] = "icvar_bpi"
    """Which learner."""
    accuracy: float = 0.2
    """The loss that is allowed."""
    constants: Literal["practical", "theory"] = "theory"
    """Factor of bonus and malus: beta below, or the one that makes the answer hold."""
    beta: float | None = None
    """Factor; None is 0.3, or the one of the proof."""
    delta: float = 0.01
    """Probability of failure, in theory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaxWPConfig:
    """MaxWP, tabular: the worst path."""

    kind: Annotated[Literal["max_wp"], tyro.conf.Suppress] = "max_wp"
    """Which learner."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ICVaRGConfig:
    """ICVaR-G on a finite class of kernels."""

    kind: Annotated[Literal["icvar_g"], tyro.conf.Suppress] = "icvar_g"
    """Which learner."""
    constants: Literal["practical", "theory"] = "practical"
    """Width of the sets: gamma2 below, or the one of the proof."""
    gamma2: float | None = None
    """Width; None is 5, or the one of the proof."""
    delta: float = 0.01
    """Probability of failure, in theory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnsembleConfig:
    """An ensemble of softmax models in the manner of ICVaR-G: a heuristic."""

    kind: Annotated[Literal["icvar_g_ensemble"], tyro.conf.Suppress] = "icvar_g_ensemble"
    """Which learner."""
    members: int = 16
    """Models."""
    gap: float = 20.0
    """Models whose log-likelihood is lower by more than this are left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ICVaRHFConfig:
    """ICVaR-HF: rewards from comparisons; transitions known, or learned as ICVaR-G does."""

    kind: Annotated[Literal["icvar_hf"], tyro.conf.Suppress] = "icvar_hf"
    """Which learner."""
    annotator: Literal["simulated", "person"] = "simulated"
    """Who answers: the comparison model, or people at `thrifty label RUN`, who are asked about two
    clips once only."""
    transitions: Literal["known", "learned"] = "known"
    """Known, or one of the instance's finite class of kernels."""
    gamma2: float = 5.0
    """Width of ICVaR-G's sets, where transitions are learned."""
    annotators: int = 1
    """How many have to answer a query."""
    scale: float | None = None
    """Of comparisons; None is 1/H."""
    flip: float = 0.0
    """Probability that a simulated annotator gives the opposite answer."""
    lapse: float = 0.0
    """Probability that a simulated annotator tosses a coin."""
    cycle: float = 0.0
    """Bonus that goes in circles, for a simulated annotator who is intransitive."""
    annotator_risk_level: float = 1.0
    """Of a simulated annotator who is averse to bad steps; 1 is none."""
    radius: float = 1.0
    """Of the ellipsoid."""
    regulariser: float = 1.0
    """Of the estimate."""
    candidates: int = 16
    """Rewards drawn on the ellipsoid for a plan."""
    reference: Literal["fixed", "best"] = "fixed"
    """What trajectories are compared with: the first one, or the best so far."""
    threshold: float = 0.0
    """No query is asked about which the set disagrees by less."""
    queue: int = 10
    """No query is asked while so many wait for answers."""
    repeat_every: int = 0
    """Every so many queries one is shown again, to test people; 0 for never."""
    wait: bool = True
    """Whether to wait for people while the queue is full or nothing new comes up to be asked, or to
    go on with what is known."""


InstanceConfig = (
    LavaGridConfig
    | MixtureConfig
    | HardChainConfig
    | LinearHardChainConfig
    | TwoDoorConfig
    | InventoryConfig
    | KernelClassConfig
    | FeaturesConfig
)
LearnerConfig = (
    ICVaRLConfig
    | ICVaRRMConfig
    | ICVaRBPIConfig
    | MaxWPConfig
    | ICVaRGConfig
    | EnsembleConfig
    | ICVaRHFConfig
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RiskConfig:
    """A run of a learner for the iterated CVaR."""

    steps: int = 10_000
    """K, episodes of the whole run."""
    record_every: int | None = None
    """Episodes between progress records, besides those at 1, 2, 4, ...; None is 1/100 of the run.
    """
    risk_level: float = 0.1
    """alpha in (0, 1]: the fraction of worst outcomes that counts."""
    instance: InstanceConfig = field(default_factory=LavaGridConfig)
    """What is learned on."""
    algorithm: LearnerConfig = field(default_factory=ICVaRLConfig)
    """Who learns, and with which constants."""

    def resolved(self) -> RiskConfig:
        """Return the configuration with nothing left open that the run's length decides."""
        check_episodes(self.steps)
        check_risk_level(self.risk_level)
        if self.record_every is not None:
            if self.record_every < 1:
                raise ValueError(f"record_every must be at least 1, got {self.record_every}")
            return self
        return replace(self, record_every=max(1, self.steps // 100))

    def build(self, seed: int) -> RiskExperiment:
        """Return the run at its beginning.

        Raises:
            ValueError: something cannot work; the message names it.
        """
        from thrifty.episodic.risk_experiment import RiskExperiment  # it is built on this file

        return RiskExperiment(self, seed)
