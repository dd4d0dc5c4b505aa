"""A whole training step of a GPT-2 by blocks beside dense ones: 4,096 tokens, T = 512, C = 768.

Drawing the batch, tied head, clipping, AdamW and the projection of weights are included; attention
is dense for all, two layers, the embedded corpus and its vocabulary, two threads each. Blocks are
64 a side, allocated by Erdos-Renyi with a block in every block-row.

Mark: at density .125 at least 1.8 times as fast as dense float32 and 1.3 times as dense bfloat16.
Not measured here: single links on the engine's kernels, nanoGPT on the same shape, any GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from thrifty.bench.schema import NOT_MEASURED, Row, compare
from thrifty.bench.timing import Seconds, interleave, summarise
from thrifty.lm.config import ConstantConfig, DenseConfig, PretrainingConfig, SparsityConfig
from thrifty.lm.gpt import GPTConfig

THREADS = 2
SHAPE = GPTConfig(layers=2, heads=12, width=768, context=512, biases=False)
BATCH = 8
DENSE, DENSE_BF16, BLOCKS = "dense, float32", "dense, bfloat16", "by blocks, float32"
DENSITIES = (0.25, 0.125)
METRIC = "time per training step"


def measure(
    *, rounds: int = 7, model: GPTConfig = SHAPE, batch: int = BATCH, block: int = 64
) -> list[Row]:
    """Measure all; takes some minutes.

    Args:
        rounds: samples of each.
        model: the shape.
        batch: windows of a step.
        block: links a side; it divides the width.

    Returns:
        Rows in milliseconds per step, those by blocks with their ratio to either dense step; below
        1 is faster.
    """
    case = f"T = {model.context}, C = {model.width}, {batch * model.context:,} tokens"
    with _threads():
        actions: dict[str, Callable[[], None]] = {
            DENSE: _step(model, batch, DenseConfig()),
            DENSE_BF16: _step(model, batch, DenseConfig(), precision="bfloat16"),
        }
        for density in DENSITIES:
            sparsity = ConstantConfig(sparsity=1.0 - density, drop_fraction=0.0, block=block)
            actions[f"{BLOCKS} {density}"] = _step(model, batch, sparsity)
        samples = interleave(actions, rounds=rounds)
    rows: list[Row] = []
    for density in DENSITIES:
        for base in (DENSE, DENSE_BF16):
            beside = f"{case}, density {density:g} beside {base}"
            pair = [
                *_rows(beside, base, samples[base], 0.0),
                *_rows(beside, BLOCKS, samples[f"{BLOCKS} {density}"], 1.0 - density),
            ]
            rows += compare(pair, implementation=BLOCKS, ratio_to=base)
    return rows + _missing(case)


def _rows(case: str, implementation: str, seconds: Seconds, sparsity: float) -> list[Row]:
    return [
        Row(
            case=case,
            implementation=implementation,
            sparsity=sparsity,
            threads=THREADS,
            metric=METRIC,
            statistic=statistic,
            value=1000.0 * taken,
            unit="ms",
        )
        for statistic, taken in summarise(seconds).items()
    ]


def _missing(case: str) -> list[Row]:
    names = ("single links, engine's kernels", "nanoGPT, float32", "compiled dense on a GPU")
    return [
        Row(
            case=case,
            implementation=name,
            metric=METRIC,
            statistic=NOT_MEASURED,
            value=None,
            unit="ms",
        )
        for name in names
    ]


def _step(
    model: GPTConfig, batch: int, sparsity: SparsityConfig, precision: str = "float32"
) -> Callable[[], None]:
    config = PretrainingConfig(
        steps=1_000_000,  # never reached; the learning rate stays in its warm-up
        batch_size=batch,
        model=model,
        sparsity=sparsity,
        precision="bfloat16" if precision == "bfloat16" else "float32",
        record_every=1_000_000,
        evaluate_every=0,
    )
    return config.build(0).advance


@contextmanager
def _threads() -> Iterator[None]:
    earlier = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(earlier)
