"""The sections of a page about pretraining runs: loss, FLOPs, density and attention, samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from thrifty.report import numbers, single
from thrifty.report.elements import (
    Column,
    cards,
    code,
    note,
    picture,
    pictures,
    section,
    table,
)
from thrifty.report.figures import GRID, INK, LINE_STYLES, MUTED, PALETTE, legend, panel
from thrifty.report.groups import labels
from thrifty.report.run_data import FloatArray, RunData

_OVER = (
    ("step", "optimizer step"),
    ("flops_square", "training FLOPs (square convention)"),
    ("wall_seconds", "training time in seconds, evaluations included"),
)
_CONVENTIONS = ("square", "causal")


def is_language(run: RunData) -> bool:
    """Whether a run's records are those of a language model."""
    return "training_tokens" in run.first("start")


def sections(run: RunData) -> list[str]:
    """All sections of one run, as HTML."""
    return [
        _headline(run),
        _learning(run),
        _phases(run),
        _ledger(run),
        _samples(run),
        single.reproduce(run),
    ]


def comparison(runs: Sequence[RunData]) -> list[str]:
    """All sections of several runs, as HTML: curves over steps, FLOPs and time, and a table."""
    names = labels(runs)
    rows = [
        (
            name,
            numbers.MISSING if run.seed is None else run.seed,
            numbers.count(run.first("start").get("parameters")),
            numbers.count(run.steps),
            numbers.count(_last(run, "train", "tokens")),
            numbers.count(_last(run, "train", "flops_square")),
            numbers.significant(_last(run, "evaluation", "bits_per_byte"), 4),
            numbers.significant(_last(run, "evaluation", "perplexity"), 4),
            numbers.duration(run.wall_seconds),
        )
        for run, name in zip(runs, names, strict=True)
    ]
    columns = (
        Column("recipe", False), Column("seed"), Column("parameters"), Column("steps"),
        Column("tokens"), Column("FLOPs"), Column("bits per byte"), Column("perplexity"),
        Column("time"),
    )  # fmt: skip
    return [
        section(
            "Held-out loss",
            pictures(
                picture(_evaluations(runs, over, label), over, f"Bits per byte over {label}")
                for over, label in _OVER
            ),
            note(
                "One line a run, one colour a recipe and its settings. FLOPs are counted, not "
                "measured. The last evaluation takes all held-out tokens, the others a part of "
                "them."
            ),
        ),
        section("Runs", table(columns, rows)),
    ]


def _last(run: RunData, kind: str, field: str) -> float | None:
    _, values = run.column(kind, field)
    return float(values[-1]) if values.size else None


def _headline(run: RunData) -> str:
    start = run.first("start")
    loss = _last(run, "evaluation", "loss")
    ratio = start.get("flops_ratio") or {}
    of_dense = start.get("dense_flops") or {}
    spent = _last(run, "train", "flops_square")
    done = spent / of_dense["square"] if spent is not None and of_dense.get("square") else None
    rows = [
        (
            "bits per byte, held out",
            numbers.significant(_last(run, "evaluation", "bits_per_byte"), 4),
            f"perplexity {numbers.significant(_last(run, 'evaluation', 'perplexity'), 4)}, loss "
            f"{numbers.significant(loss, 4)} nats a token",
        ),
        (
            "FLOPs of the dense run",
            numbers.share(done),
            f"planned: {numbers.significant(ratio.get('square'))}, causal convention "
            f"{numbers.significant(ratio.get('causal'))}",
        ),
        (
            "parameters",
            numbers.count(start.get("parameters")),
            f"{numbers.count(start.get('links'))} of them in matrices that can be sparse",
        ),
        (
            "tokens",
            numbers.count(_last(run, "train", "tokens")),
            f"of a corpus of {numbers.count(start.get('training_tokens'))}",
        ),
        (
            "training time",
            numbers.duration(run.wall_seconds),
            f"{numbers.count(run.steps)} steps, {start.get('precision')}, {start.get('device')}",
        ),
    ]
    unfinished = ""
    if not run.finished:
        unfinished = note(f"This run is not finished: its records end at step {run.steps}.")
    return unfinished + cards(rows)


def _learning(run: RunData) -> str:
    drawn = [
        picture(_losses(run, over, label), f"loss-{over}", f"Loss over {label}")
        for over, label in _OVER
    ]
    return section(
        "Learning",
        pictures(drawn),
        note(
            "Loss in nats per token: means of the training batches between two records, and the "
            "held-out side with the attention of its phase. The last evaluation takes all held-out "
            "tokens, the others a part of them."
        ),
    )


def _phases(run: RunData) -> str:
    density, change = _density(run), _change(run)
    table_of_phases = table(
        (Column("phase", False), Column("from step"), Column("attention", False)),
        [
            (phase["phase"], numbers.count(phase["step"] + 1), phase["attention"])
            for phase in run.of("phase")
        ],
    )
    return section(
        "Density, attention and topology",
        pictures(
            [
                picture(density, "density", "Density over training"),
                picture(change, "change", "Links exchanged at each evolution step"),
            ]
        ),
        table_of_phases,
        note(
            "Density is the share of the links that exist, over all sparse matrices, head "
            f"included. Window of the sparse attention: {run.first('start').get('window')} "
            "positions. A link counts as replaced where another grew for it; what the density "
            "alone drops or grows does not count."
        )
        if change
        else note("No link was exchanged: a dense run, or a static topology."),
    )


def _ledger(run: RunData) -> str:
    start = run.first("start")
    rows = []
    for name in _CONVENTIONS:
        dense = (start.get("dense_flops") or {}).get(name)
        spent = _last(run, "train", f"flops_{name}")
        rows.append(
            (
                name,
                numbers.count(dense),
                numbers.count(spent),
                numbers.significant(spent / dense, 4) if dense and spent is not None else "",
                numbers.significant((start.get("flops_ratio") or {}).get(name), 4),
            )
        )
    columns = (
        Column("attention counted", False), Column("dense, same steps"), Column("this run, so far"),
        Column("ratio"), Column("planned"),
    )  # fmt: skip
    return section(
        "Ledger",
        table(columns, rows),
        note(
            "FLOPs of forward and backward passes by the links that exist, head, attention and the "
            "dense gradients of evolution steps included; they are counted, not measured. Square: "
            "dense attention counts all pairs of positions; causal: half of them."
        ),
    )


def _samples(run: RunData) -> str:
    parts = []
    for sample in run.of("sample"):
        parts += [
            note(f"At the {sample['where']}, after {numbers.count(sample['step'])} steps:"),
            code(sample["text"]),
        ]
    return section("Samples", *parts) if parts else ""


# ---------------------------------------------------------------------- figures


def _losses(run: RunData, over: str, label: str) -> Figure | None:
    at, loss = run.column("train", "loss", over)
    held_at, held = run.column("evaluation", "loss", over)
    if not at.size and not held.size:
        return None
    figure, axes = panel(2.9)
    axes.plot(at, loss, color=MUTED, linewidth=0.9, label="training")
    axes.plot(
        held_at, held, color=PALETTE[0], linewidth=1.6, marker="o", markersize=3, label="held out"
    )
    _bands(run, axes, over)
    _axis(axes, label)
    axes.set_ylabel("loss, nats per token")
    legend(figure, axes)
    return figure


def _bands(run: RunData, axes: Axes, over: str) -> None:
    """Lines where a phase ends, over steps only."""
    if over != "step":
        return
    for phase in run.of("phase")[1:]:
        axes.axvline(phase["step"], color=GRID, linewidth=1.2, zorder=0)


def _density(run: RunData) -> Figure | None:
    steps, density = run.column("train", "density")
    if not steps.size:
        return None
    figure, axes = panel(2.9)
    axes.plot(steps, density, color=PALETTE[2], linewidth=1.6, drawstyle="steps-post")
    _bands(run, axes, "step")
    phases = run.of("phase")
    ends = [*(phase["step"] for phase in phases[1:]), run.steps]
    for phase, end in zip(phases, ends, strict=True):
        if end - phase["step"] > 0.12 * run.steps:  # a name fits
            middle = (phase["step"] + end) / 2
            name = f"{phase['phase']}\n{phase['attention']} attention"
            axes.text(middle, 1.04, name, ha="center", va="bottom", fontsize=8, color=INK)
    _axis(axes, "optimizer step")
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("share of links that exist")
    return figure


def _change(run: RunData) -> Figure | None:
    changes = [record for record in run.of("topology") if record.get("drop_fraction")]
    if not changes:
        return None
    steps = np.array([record["step"] for record in changes], dtype=float)
    replaced = [100 * _replaced(record) for record in changes]
    survival = [100 * record["survival"] for record in changes]
    figure, axes = panel(2.9)
    axes.plot(steps, replaced, color=PALETTE[1], linewidth=1.4, label="replaced, of those now")
    axes.plot(
        steps, survival, color=PALETTE[3], linewidth=1.4, linestyle="-.",
        label="first links that exist",
    )  # fmt: skip
    _bands(run, axes, "step")
    _axis(axes, "optimizer step")
    axes.set_ylim(0, 102)
    axes.set_ylabel("links, %")
    legend(figure, axes)
    return figure


def _replaced(change: Mapping[str, Any]) -> float:
    """Return the share of the links of now that took the place of others."""
    return float((min(change["dropped"], change["grown"]) - change["regrown"]) / change["nnz"])


def _evaluations(runs: Sequence[RunData], over: str, label: str) -> Figure | None:
    figure, axes = panel(3.4)
    names = labels(runs)
    groups = list(dict.fromkeys(names))
    drawn = False
    seen: set[str] = set()
    for run, name in zip(runs, names, strict=True):
        at, values = _column(run, over)
        drawn = drawn or bool(at.size)
        index = groups.index(name)
        axes.plot(
            at,
            values,
            color=PALETTE[index % len(PALETTE)],
            linestyle=LINE_STYLES[index // len(PALETTE) % len(LINE_STYLES)],
            linewidth=1.4,
            label=None if name in seen else name,
        )
        seen.add(name)
    if not drawn:
        return None
    _axis(axes, label)
    axes.set_ylabel("bits per byte, held out")
    legend(figure, axes)
    return figure


def _column(run: RunData, over: str) -> tuple[FloatArray, FloatArray]:
    return run.column("evaluation", "bits_per_byte", over)


def _axis(axes: Axes, label: str) -> None:
    axes.set_xlabel(label)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(_count))


def _count(value: float, _: Any) -> str:
    return numbers.count(value)
