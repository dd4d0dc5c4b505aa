"""A whole training step of a GPT-2 on the links that exist, beside dense ones.

4,096 tokens a step, T = 512, C = 768, two layers, the embedded corpus and its vocabulary, two
threads each. Drawing the batch, tied head, clipping and AdamW are included; attention is dense for
all. Sparse steps are those between two evolution steps; links and blocks are allocated by
Erdos-Renyi, blocks of 64 a side with at least one in every block-row. "gathered" is the same
without compiled code.

Marks: at density .125 in blocks at least 1.8 times as fast as dense float32 and 1.3 times as dense
bfloat16, single links at density .10 at least 1.5 times as dense float32 (ratios at most 0.556,
0.769 and 0.667); a whole run of mixed sparsity (``mst`` at .25 of the FLOPs with its own attention,
evolution steps included, one run of 50 steps with the dense run's steps in turn) at least 1.4 times
(0.714); our dense step not slower than nanoGPT's. On a processor without bfloat16 arithmetic dense
bfloat16 is slower than float32, and ratios to it say little.

``--reference PATH`` names a checkout of nanoGPT, whose model and optimizer are then timed beside
ours, unchanged; without it they are "not measured". So is everything on a GPU.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from thrifty.bench.schema import NOT_MEASURED, Row, compare
from thrifty.bench.timing import Seconds, interleave, summarise
from thrifty.lm import tokens
from thrifty.lm.config import (
    ConstantConfig,
    DenseConfig,
    PhasesConfig,
    PretrainingConfig,
    SparsityConfig,
)
from thrifty.lm.gpt import GPTConfig

THREADS = 2
SHAPE = GPTConfig(layers=2, heads=12, width=768, context=512, biases=False)
BATCH = 8
DENSE, DENSE_BF16, NANOGPT = "dense, float32", "dense, bfloat16", "nanoGPT, float32"
BLOCKS, GATHERED, LINKS = "blocks, engine", "blocks, gathered", "single links, engine"
SPARSE = ((BLOCKS, 0.25), (BLOCKS, 0.125), (GATHERED, 0.125), (LINKS, 0.1))
"""What is measured, by density."""
WHOLE = 50
"""Steps of a whole run."""
STEP, RUN = "time per training step", "time of a training run"
MIXED = ("mixed sparsity, blocks", "mixed sparsity, single links")
MARKS = (
    (BLOCKS, STEP, 0.125, DENSE, 1 / 1.8),
    (BLOCKS, STEP, 0.125, DENSE_BF16, 1 / 1.3),
    (LINKS, STEP, 0.1, DENSE, 1 / 1.5),
    *((name, RUN, None, DENSE, 1 / 1.4) for name in MIXED),
    (DENSE, STEP, 1.0, NANOGPT, 1.0),
)
"""Implementation, metric, density, what it is held beside, and the greatest ratio to that."""
_GPU = "blocks of 128 beside compiled dense, bfloat16, GPT-2 medium on a GPU"


def measure(
    *,
    rounds: int = 7,
    model: GPTConfig = SHAPE,
    batch: int = BATCH,
    block: int = 64,
    whole: int = WHOLE,
    reference: Path | None = None,
) -> list[Row]:
    """Measure all; takes some minutes.

    Args:
        rounds: samples of each.
        model: the shape.
        batch: windows of a step.
        block: links a side; it divides the width.
        whole: steps of a whole run.
        reference: checkout of nanoGPT.

    Returns:
        Rows in milliseconds per step and seconds per run, sparse ones with their ratio to dense
        ones; below 1 is faster.

    Raises:
        ValueError: the reference is no checkout of nanoGPT.
    """
    case = f"T = {model.context}, C = {model.width}, {batch * model.context:,} tokens"
    with _threads():
        theirs = None if reference is None else _nanogpt(reference, model, batch)
        actions: dict[str, Callable[[], None]] = {
            DENSE: _step(model, batch, DenseConfig()),
            DENSE_BF16: _step(model, batch, DenseConfig(), precision="bfloat16"),
        }
        for name, density in SPARSE:
            sparsity = ConstantConfig(
                sparsity=1.0 - density, drop_fraction=0.0, block=1 if name == LINKS else block
            )
            backend: Any = "block" if name == GATHERED else "engine"
            actions[f"{name} {density}"] = _step(model, batch, sparsity, backend=backend)
        if theirs is not None:
            actions[NANOGPT] = theirs
        samples = interleave(actions, rounds=rounds)
        runs = _runs(model, batch, block, whole)
    rows: list[Row] = []
    for name, density in SPARSE:
        for base in (DENSE, DENSE_BF16):
            beside = f"{case}, density {density:g} beside {base}"
            mine = samples[f"{name} {density}"]
            pair = [*_rows(beside, base, samples[base]), *_rows(beside, name, mine, 1.0 - density)]
            rows += compare(pair, implementation=name, ratio_to=base)
    beside = f"{case}, dense beside nanoGPT"
    if reference is None:
        rows += [*_rows(beside, DENSE, samples[DENSE]), _missing(beside, NANOGPT)]
    else:
        pair = [*_rows(beside, NANOGPT, samples[NANOGPT]), *_rows(beside, DENSE, samples[DENSE])]
        rows += compare(pair, implementation=DENSE, ratio_to=NANOGPT)
    rows.append(_missing(case, _GPU))
    return rows + _of_runs(f"{case}, {whole} steps", runs)


def _rows(
    case: str, implementation: str, seconds: Seconds, sparsity: float | None = 0.0
) -> list[Row]:
    return [
        Row(
            case=case,
            implementation=implementation,
            sparsity=sparsity,
            threads=THREADS,
            metric=STEP,
            statistic=statistic,
            value=1000.0 * taken,
            unit="ms",
        )
        for statistic, taken in summarise(seconds).items()
    ]


def _missing(case: str, implementation: str) -> Row:
    return Row(
        case=case,
        implementation=implementation,
        threads=THREADS,
        metric=STEP,
        statistic=NOT_MEASURED,
        value=None,
        unit="ms",
    )


def _of_runs(case: str, runs: dict[str, float]) -> list[Row]:
    rows = [
        Row(
            case=case,
            implementation=name,
            threads=THREADS,
            metric=RUN,
            statistic="one run",
            value=seconds,
            unit="s",
        )
        for name, seconds in runs.items()
    ]
    for name in runs:
        if name != DENSE:
            rows = compare(rows, implementation=name, ratio_to=DENSE)
    return rows


def _config(model: GPTConfig, batch: int, sparsity: SparsityConfig) -> PretrainingConfig:
    return PretrainingConfig(
        steps=1_000_000,  # never reached; the learning rate stays in its warm-up
        batch_size=batch,
        model=model,
        sparsity=sparsity,
        record_every=1_000_000,
        evaluate_every=0,
    )


def _step(
    model: GPTConfig,
    batch: int,
    sparsity: SparsityConfig,
    *,
    precision: Literal["float32", "bfloat16"] = "float32",
    backend: Literal["auto", "block", "engine"] = "auto",
) -> Callable[[], None]:
    config = _config(model, batch, sparsity)
    return replace(config, precision=precision, backend=backend).build(0).advance


def _runs(model: GPTConfig, batch: int, block: int, steps: int) -> dict[str, float]:
    """Return the seconds of whole runs, whose steps were done in turn."""
    sparsities: dict[str, SparsityConfig] = {
        DENSE: DenseConfig(),
        MIXED[0]: PhasesConfig(block=block),
        MIXED[1]: PhasesConfig(),
    }
    running = {
        name: replace(_config(model, batch, sparsity), steps=steps).build(0)
        for name, sparsity in sparsities.items()
    }
    seconds = dict.fromkeys(running, 0.0)
    for _ in range(steps):
        for name, run in running.items():
            begin = time.perf_counter()
            run.advance()
            seconds[name] += time.perf_counter() - begin
    return seconds


def _nanogpt(folder: Path, model: GPTConfig, batch: int) -> Callable[[], None]:
    """Return a training step as nanoGPT's train.py takes it, on its own model and optimizer."""
    source = folder / "model.py"
    if not source.exists():
        raise ValueError(f"{folder} is no checkout of nanoGPT: it has no model.py")
    spec = importlib.util.spec_from_file_location("nanogpt_model", source)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = tokens.load("shakespeare")
    theirs = module.GPT(
        module.GPTConfig(
            block_size=model.context,
            vocab_size=data.vocabulary.size,
            n_layer=model.layers,
            n_head=model.heads,
            n_embd=model.width,
            dropout=0.0,
            bias=model.biases,
        )
    )
    optimizer = theirs.configure_optimizers(0.1, 6e-4, (0.9, 0.95), "cpu")
    steps = iter(range(1, 1_000_000))

    def step() -> None:
        ids, wanted = data.training.batch(batch, model.context, seed=0, step=next(steps))
        _, loss = theirs(ids.contiguous(), wanted.contiguous())  # as its own get_batch
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


@contextmanager
def _threads() -> Iterator[None]:
    earlier = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(earlier)
