"""The configuration of a pretraining run: model, data, optimizer, and how sparse it is when."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from thrifty.lm.attention import Pattern
from thrifty.lm.gpt import GPTConfig
from thrifty.sparse import check_sparsity

if TYPE_CHECKING:
    from thrifty.lm.experiment import Pretraining

Growth = Literal["mixed", "gradient", "random"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DenseConfig:
    """Every link exists for the whole run."""

    kind: Annotated[Literal["dense"], tyro.conf.Suppress] = "dense"
    """Which way of being sparse."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConstantConfig:
    """One sparsity for the whole run: RigL, SET, or a static topology."""

    kind: Annotated[Literal["constant"], tyro.conf.Suppress] = "constant"
    """Which way of being sparse."""
    sparsity: float = 0.8
    """Fraction of the links that is cut."""
    drop_fraction: float = 0.3
    """Share of the active links exchanged at first; 0 keeps the first topology."""
    grow: Growth = "gradient"
    """Which links grow: those of greatest gradient (RigL), random ones (SET), or both."""
    update_every: int | None = None
    """Steps between exchanges; None is 2 % of the run, at least 25."""
    block: int = 1
    """Links are cut in square blocks of this many a side."""
    regrown: Literal["zero", "keep"] = "zero"
    """Value of a link dropped and regrown at once; the published code keeps it."""
    on_update: Literal["step", "skip"] = "step"
    """Whether the optimizer steps where links are exchanged; the published code leaves it out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhasesConfig:
    """Mixed sparsity: warm-up, ultra-sparsification, restoration."""

    kind: Annotated[Literal["phases"], tyro.conf.Suppress] = "phases"
    """Which way of being sparse."""
    flops: float = 0.25
    """FLOPs of the run over those of the same steps dense, square convention; the density of the
    ultra phase follows from it."""
    density: float | None = None
    """Density of the ultra phase; None solves for it."""
    warm_up: float = 0.1
    """Fraction of the run that goes from dense to ultra-sparse."""
    restoration: float = 0.2
    """Fraction of the run that goes back."""
    tail: float = 0.0
    """Fraction of the run at its end with the final density."""
    initial_density: float = 1.0
    """Density at the beginning."""
    final_density: float = 1.0
    """Density at the end of restoration; 1 leaves an ordinary dense model."""
    attention: Pattern = "union"
    """Who sees whom in the ultra phase."""
    warm_up_attention: Pattern = "dense"
    """Who sees whom in the warm-up."""
    restoration_attention: Pattern = "dense"
    """Who sees whom in restoration and the tail; dense leaves an ordinary model."""
    window: int | None = None
    """Window of sparse attention in positions; None is 1/8 of the context."""
    drop_fraction: float = 0.3
    """Share of the active links exchanged at the beginning of each phase."""
    grow: Growth = "mixed"
    """Which links grow: mixed takes three by gradient and one at random."""
    update_every: int | None = None
    """Steps between exchanges; None is 2 % of the run, at least 25."""
    density_every: int | None = None
    """Steps between moves of the density; None is 1 % of the run."""
    restoration_learning_rate: Literal["cosine", "rewarmed"] = "cosine"
    """Learning rate while links come back: the published cosine, or a second rise."""
    rewarmed_peak: float = 0.5
    """What the second rise reaches, as a fraction of the learning rate."""
    block: int = 1
    """Links are cut in square blocks of this many a side."""
    regrown: Literal["zero", "keep"] = "zero"
    """Value of a link dropped and regrown at once; the published code keeps it."""
    on_update: Literal["step", "skip"] = "step"
    """Whether the optimizer steps where links are exchanged; the published code leaves it out."""

    @property
    def ultra(self) -> float:
        """Fraction of the run that is ultra-sparse."""
        return 1.0 - self.warm_up - self.restoration - self.tail


SparsityConfig = DenseConfig | ConstantConfig | PhasesConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW and its learning rate."""

    learning_rate: float = 6e-4
    """Peak."""
    least: float = 0.1
    """Learning rate at the end of the run, as a fraction of the peak."""
    warm_up: int | None = None
    """Steps of the linear rise; None is 5 % of the run, at most 2,000."""
    weight_decay: float = 0.1
    """Of the matrices of linear layers; nothing else decays."""
    beta1: float = 0.9
    """Decay of the mean of the gradients."""
    beta2: float = 0.95
    """Decay of the mean of their squares."""
    clip_norm: float = 1.0
    """Largest norm of the gradient, after masking."""
    moments: Literal["zero", "keep"] = "zero"
    """Moments of links that go and come are reset, or left alone as in the published code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainingConfig:
    """A pretraining run of a GPT-2."""

    data: str = "shakespeare"
    """shakespeare (embedded), or a folder with train.bin and val.bin."""
    steps: int = 1000
    """Optimizer steps of the whole run."""
    batch_size: int = 8
    """Windows of a micro-batch."""
    micro_batches: int = 1
    """Micro-batches whose gradients make one step."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the forward and backward pass; weights and moments are float32."""
    backend: Literal["auto", "dense", "block", "engine"] = "auto"
    """What multiplies by sparse matrices: dense with cut links 0, gathered blocks
    (sparsity.block), the engine's kernels (CPU, float32), or auto, what is fastest."""
    device: str = "cpu"
    """Where it runs: cpu, cuda."""
    evaluate_every: int | None = None
    """Steps between evaluations; 0 only at the start and the end, None 1/20 of the run."""
    evaluation_tokens: int = 16_384
    """Held-out tokens of an evaluation; the last one takes all."""
    record_every: int | None = None
    """Steps between progress records; None is 1/200 of the run."""
    sample_tokens: int = 150
    """Tokens of the samples at the start, the middle and the end; 0 takes none."""
    temperature: float = 0.8
    """Of the samples."""
    scaling: Annotated[str, tyro.conf.Suppress] = ""
    """What the time constants are scaled to; written when they are resolved."""
    model: GPTConfig = field(default_factory=GPTConfig)
    """The shape of the model."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW."""
    sparsity: SparsityConfig = field(default_factory=PhasesConfig)
    """How sparse it is, and when."""

    def resolved(self) -> PretrainingConfig:
        """Return the configuration with every time constant a number.

        A resolved configuration is returned as it is.

        Raises:
            ValueError: a number that cannot work, with the remedy.
        """
        if self.scaling:
            return self
        check(self)
        sparsity, optimizer = self.sparsity, self.optimizer
        if not isinstance(sparsity, DenseConfig) and sparsity.update_every is None:
            sparsity = replace(sparsity, update_every=max(25, round(self.steps / 50)))
        if isinstance(sparsity, PhasesConfig):
            if sparsity.density_every is None:
                sparsity = replace(sparsity, density_every=max(1, round(self.steps / 100)))
            if sparsity.window is None:
                sparsity = replace(sparsity, window=max(1, self.model.context // 8))
        if optimizer.warm_up is None:
            optimizer = replace(optimizer, warm_up=min(2000, math.ceil(self.steps / 20)))
        every, record = self.evaluate_every, self.record_every
        return replace(
            self,
            evaluate_every=max(1, round(self.steps / 20)) if every is None else every,
            record_every=max(1, round(self.steps / 200)) if record is None else record,
            sparsity=sparsity,
            optimizer=optimizer,
            scaling=f"fractions of a run of {self.steps:,} steps",
        )

    def build(self, seed: int) -> Pretraining:
        """Return the run at its first step.

        Raises:
            ValueError: data or a number that cannot work, with the remedy.
        """
        from thrifty.lm.experiment import Pretraining  # it is built on this file

        return Pretraining(self, seed)


def check(config: PretrainingConfig) -> None:
    """Refuse numbers that cannot work.

    Raises:
        ValueError: names the field and the remedy.
    """
    optimizer, sparsity = config.optimizer, config.sparsity
    least: list[tuple[str, float | None, float]] = [
        ("steps", config.steps, 1),
        ("batch_size", config.batch_size, 1),
        ("micro_batches", config.micro_batches, 1),
        ("evaluate_every", config.evaluate_every, 0),
        ("evaluation_tokens", config.evaluation_tokens, 1),
        ("record_every", config.record_every, 1),
        ("sample_tokens", config.sample_tokens, 0),
        ("temperature", config.temperature, 0.0),
        ("optimizer.learning_rate", optimizer.learning_rate, 0.0),
        ("optimizer.warm_up", optimizer.warm_up, 0),
        ("optimizer.weight_decay", optimizer.weight_decay, 0.0),
    ]
    share: list[tuple[str, float | None]] = [
        ("optimizer.least", optimizer.least),
        ("optimizer.beta1", optimizer.beta1),
        ("optimizer.beta2", optimizer.beta2),
    ]
    if not isinstance(sparsity, DenseConfig):
        least += [
            ("sparsity.update_every", sparsity.update_every, 1),
            ("sparsity.block", sparsity.block, 1),
        ]
        share += [("sparsity.drop_fraction", sparsity.drop_fraction)]
    if isinstance(sparsity, ConstantConfig):
        check_sparsity(sparsity.sparsity)
    if isinstance(sparsity, PhasesConfig):
        least += [
            ("sparsity.density_every", sparsity.density_every, 1),
            ("sparsity.window", sparsity.window, 1),
        ]
        fractions = ("warm_up", "restoration", "tail", "rewarmed_peak")
        share += [(f"sparsity.{name}", getattr(sparsity, name)) for name in fractions]
        if not sparsity.ultra > 0.0:
            raise ValueError(
                "sparsity.warm_up, restoration and tail must leave something for the ultra phase, "
                f"but they are {sparsity.warm_up}, {sparsity.restoration} and {sparsity.tail} of "
                "the run"
            )
        for name in ("flops", "density", "initial_density", "final_density"):
            value = getattr(sparsity, name)
            if value is not None and not 0.0 < value <= 1.0:
                raise ValueError(f"sparsity.{name} must lie in (0, 1], got {value}")
    for name, value, bound in least:
        if value is not None and not value >= bound:
            raise ValueError(f"{name} must be at least {bound}, got {value}")
    for name, value in share:
        if value is not None and not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must lie in [0, 1], got {value}")
    if not optimizer.clip_norm > 0.0:
        raise ValueError(f"optimizer.clip_norm must be more than 0, got {optimizer.clip_norm}")
