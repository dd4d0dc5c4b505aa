"""Pretraining runs of the size of a toy, and a folder of tokens for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thrifty.lm import bpe, tokens
from thrifty.lm.config import (
    ConstantConfig,
    DenseConfig,
    OptimizerConfig,
    PhasesConfig,
    PretrainingConfig,
    SparsityConfig,
)
from thrifty.lm.gpt import GPTConfig

STEPS = 40
TEXT = "the quick brown fox jumps over the lazy dog, and the dog does not mind. " * 40

SPARSITIES: dict[str, SparsityConfig] = {
    "dense": DenseConfig(),
    "static": ConstantConfig(drop_fraction=0.0),
    "rigl": ConstantConfig(update_every=5),
    "set": ConstantConfig(grow="random", update_every=5),
    "mst": PhasesConfig(flops=0.5, update_every=5, density_every=2),
    "mst, rewarmed": PhasesConfig(
        flops=0.5, update_every=5, density_every=2, restoration_learning_rate="rewarmed"
    ),
}


def folder(path: Path) -> str:
    """Write token files of a small text, with their vocabulary."""
    vocabulary = bpe.learn([TEXT], size=270)
    for side, text in (("train", TEXT), ("val", TEXT[:700])):
        tokens.write(path / f"{side}.bin", [text], vocabulary)
    vocabulary.write(path / "merges.txt")
    return str(path)


def toy(data: str, kind: str = "mst", **changes: Any) -> PretrainingConfig:
    """A run of 40 steps of a model with 4,000 weights."""
    settings: dict[str, Any] = {
        "data": data,
        "steps": STEPS,
        "batch_size": 2,
        "micro_batches": 2,
        "evaluate_every": 20,
        "evaluation_tokens": 64,
        "record_every": 10,
        "sample_tokens": 5,
        "model": GPTConfig(layers=1, heads=2, width=16, context=16),
        "optimizer": OptimizerConfig(learning_rate=1e-2),
        "sparsity": SPARSITIES[kind],
    }
    return PretrainingConfig(**{**settings, **changes})
