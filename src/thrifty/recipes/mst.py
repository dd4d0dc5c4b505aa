"""Mixed Sparsity Training of GPT-2 (Hu et al., TMLR 2025), and the controls it must be held beside.

| recipe | links | FLOPs, square convention |
|---|---|---|
| shakespeare | dense, ultra-sparse, dense again | .25 of dense |
| mst | the same at the size of the study | .25 |
| dense | all | 1 |
| dense_steps | all, a quarter of the steps with a cosine of its own | .25 |
| dense_batch | all, a quarter of the batch | .25 |
| tiny | all of a model of a quarter of the FLOPs per token | about .25 |
| static | 20 %, never exchanged | about .3 |
| set | 20 %, random ones grow | about .3 |
| rigl | 20 %, those of greatest gradient grow | about .3 |
| gpt2 | the released setting: 124M parameters, 600,000 steps | .25 |
| gpt2_published | the same, as the released code trains by its defaults | about .57 |

The paper's schedule is not published. Default is: 10 % of the run from dense to ultra-sparse along
a cubic, 70 % there with local and strided attention, 20 % back to dense along a line; the density
of the ultra phase follows from the FLOPs asked for. Links grow three by gradient and one at random.
"""

from __future__ import annotations

from typing import Literal

from thrifty.lm.config import (
    ConstantConfig,
    DenseConfig,
    OptimizerConfig,
    PhasesConfig,
    PretrainingConfig,
    SparsityConfig,
)
from thrifty.lm.gpt import GPTConfig

__all__ = [
    "dense",
    "dense_batch",
    "dense_steps",
    "gpt2",
    "gpt2_published",
    "mst",
    "rigl",
    "set",
    "shakespeare",
    "static",
    "tiny",
]

_STEPS = 2500  # of the study: 5.1 million tokens
_BATCH = 8
_SMALL = GPTConfig(layers=4, heads=4, width=256, context=256, biases=False)
_TINY = GPTConfig(layers=4, heads=4, width=112, context=256, biases=False)


def _study(
    sparsity: SparsityConfig, steps: int, model: GPTConfig = _SMALL, batch_size: int = _BATCH
) -> PretrainingConfig:
    return PretrainingConfig(
        steps=steps,
        batch_size=batch_size,
        model=model,
        optimizer=OptimizerConfig(learning_rate=2e-3),
        sparsity=sparsity,
    )


def shakespeare(steps: int = 1200) -> PretrainingConfig:
    """Train a GPT-2 of 3.7 million parameters on the embedded Shakespeare and Milton, sparsely.

    Prints a sample at the start, in the middle and at the end. Attention of the ultra-sparse phase
    is local, which is the fastest.

    Args:
        steps: optimizer steps of 2,048 tokens.
    """
    return _study(PhasesConfig(attention="local"), steps)


def mst(
    steps: int = _STEPS, flops: float = 0.25, block: Literal[1, 16, 32] = 1
) -> PretrainingConfig:
    """Mixed sparsity at the size of the study; with blocks at a width of 384.

    Larger blocks need a wider model, where one in every block-row is little enough.

    Args:
        steps: optimizer steps of 2,048 tokens.
        flops: of the run, over those of the same steps dense.
        block: links are cut in square blocks of this many a side.
    """
    wide = GPTConfig(layers=2, heads=6, width=384, context=256, biases=False)
    sparsity = PhasesConfig(flops=flops, block=block)
    return _study(sparsity, steps, _SMALL if block == 1 else wide)


def dense(steps: int = _STEPS) -> PretrainingConfig:
    """Every link for the whole run.

    Args:
        steps: optimizer steps of 2,048 tokens.
    """
    return _study(DenseConfig(), steps)


def dense_steps(steps: int = _STEPS // 4) -> PretrainingConfig:
    """Dense with a quarter of the steps and a cosine of its own: the control at equal FLOPs.

    Args:
        steps: a quarter of those of the run that it is held beside.
    """
    return _study(DenseConfig(), steps)


def dense_batch(steps: int = _STEPS) -> PretrainingConfig:
    """Dense with a quarter of the batch: the other control at equal FLOPs.

    Args:
        steps: optimizer steps of 512 tokens.
    """
    return _study(DenseConfig(), steps, batch_size=_BATCH // 4)


def tiny(steps: int = _STEPS) -> PretrainingConfig:
    """A dense model that costs about a quarter per token.

    Args:
        steps: optimizer steps of 2,048 tokens.
    """
    return _study(DenseConfig(), steps, _TINY)


def static(steps: int = _STEPS, sparsity: float = 0.8) -> PretrainingConfig:
    """A random topology that never changes.

    Args:
        steps: optimizer steps of 2,048 tokens.
        sparsity: fraction of the links that is cut.
    """
    return _study(ConstantConfig(sparsity=sparsity, drop_fraction=0.0), steps)


def set(steps: int = _STEPS, sparsity: float = 0.8) -> PretrainingConfig:
    """SET: links of least magnitude go, random ones come.

    Args:
        steps: optimizer steps of 2,048 tokens.
        sparsity: fraction of the links that is cut.
    """
    return _study(ConstantConfig(sparsity=sparsity, grow="random"), steps)


def rigl(steps: int = _STEPS, sparsity: float = 0.8) -> PretrainingConfig:
    """RigL: links of least magnitude go, those of greatest gradient come.

    Args:
        steps: optimizer steps of 2,048 tokens.
        sparsity: fraction of the links that is cut.
    """
    return _study(ConstantConfig(sparsity=sparsity), steps)


def gpt2(data: str = "openwebtext", steps: int = 600_000) -> PretrainingConfig:
    """Mixed sparsity in the released setting: 124 million parameters, 491,520 tokens a step.

    Needs a folder of token files (nanoGPT's, or llm.c's) and hardware for it.

    Args:
        data: the folder, with train.bin and val.bin.
        steps: optimizer steps.
    """
    return _released(data, steps, PhasesConfig(update_every=100, density_every=1000))


def gpt2_published(data: str = "openwebtext", steps: int = 600_000) -> PretrainingConfig:
    """The released setting as the released code trains by its defaults: RigL at a constant 50 %.

    Its defaults hold none of the paper's schedule. The step at which links are exchanged is no
    step of the optimizer, a link dropped and regrown at once keeps its value, and moments stay.

    Args:
        data: the folder, with train.bin and val.bin.
        steps: optimizer steps.
    """
    sparsity = ConstantConfig(sparsity=0.5, update_every=100, regrown="keep", on_update="skip")
    return _released(data, steps, sparsity, moments="keep")


def _released(
    data: str, steps: int, sparsity: SparsityConfig, moments: Literal["zero", "keep"] = "zero"
) -> PretrainingConfig:
    return PretrainingConfig(
        data=data,
        steps=steps,
        batch_size=12,
        micro_batches=40,
        precision="bfloat16",
        device="cuda",
        evaluation_tokens=1_228_800,
        model=GPTConfig(biases=False, padding=128),
        optimizer=OptimizerConfig(moments=moments),
        sparsity=sparsity,
    )
