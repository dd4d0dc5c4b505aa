"""The picture of TD3 updates per second over sparsity, from the rows of `thrifty bench td3`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from matplotlib.transforms import blended_transform_factory

from thrifty.bench import updates
from thrifty.bench.schema import Row

INK, MUTED, GRID = "#1f2328", "#6e7781", "#e4e8ec"
ENGINE, LIMIT = "#d55e00", "#1f2328"
DENSE = {  # implementation: label, colour
    updates.DENSE_LIMIT_BF16: ("dense by hand, bfloat16", "#009e73"),
    updates.DENSE_LIMIT: ("dense by hand", "#009e73"),
    "sbx TD3": ("sbx (JAX)", "#0072b2"),
    updates.REFERENCE: ("our dense reference", MUTED),
    updates.REFERENCE_MASKED: ("masked dense", MUTED),
    "SB3 TD3": ("Stable-Baselines3", "#cc79a7"),
}
LEFT_OUT = (updates.REFERENCE_MASKED,)  # on top of the dense reference
PANELS = {
    "halfcheetah": "HalfCheetah sizes (17 → 6)",
    "humanoid": "Humanoid sizes (348 → 17)",
}
APART = 0.052  # least distance of two labels, of the axes' height


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the picture: one panel for each case, low quantiles.

    Args:
        rows: of `thrifty bench td3`.
        path: PNG.
    """
    low = [row for row in rows if row.statistic == "low" and row.metric == updates.METRIC]
    cases = [case for case in PANELS if any(row.case == case for row in low)]
    figure = Figure(figsize=(5.4 * len(cases), 4.6), dpi=160, layout="constrained")
    panels = figure.subplots(1, len(cases), sharey=True, squeeze=False)[0]
    for axes, case in zip(panels, cases, strict=True):
        _panel(axes, case, [row for row in low if row.case == case])
    values = [row.value for row in low if row.case in cases and row.value is not None]
    panels[0].set_ylim(0.8 * min(values), 1.35 * max(values))
    for axes, case in zip(panels, cases, strict=True):
        _labels(axes, [row for row in low if row.case == case])
    figure.suptitle(
        "TD3 updates per second on one core, by sparsity of actor and critics",
        x=0.01,
        ha="left",
        color=INK,
        fontsize=12.5,
        fontweight="bold",
    )
    figure.supxlabel(
        "On the curve: how many times as many as sbx, both with one update per call. "
        "Networks 256 × 256, batch 256, float32 unless said otherwise.",
        x=0.01,
        ha="left",
        color=MUTED,
        fontsize=8.5,
    )
    figure.savefig(path, metadata={"Software": None})


def _curve(rows: Sequence[Row], implementation: str) -> tuple[list[float], list[float]]:
    """Sparsities and updates per second of an implementation, each sparsity once."""
    points = {
        row.sparsity: row.value
        for row in rows
        if row.implementation == implementation and row.sparsity is not None
    }
    found = sorted((s, value) for s, value in points.items() if value is not None)
    return [s for s, _ in found], [value for _, value in found]


def _panel(axes: Axes, case: str, rows: Sequence[Row]) -> None:
    axes.set_yscale("log")
    # Even steps of the number of links: the limit is a straight line.
    axes.set_xscale("function", functions=(_to_links, _from_links))
    ticks = _curve(rows, updates.ENGINE)[0]
    # Room on the left, so that the first point's label keeps off the axis numbers.
    axes.set_xlim(1.0 - 1.3 * (1.0 - min(ticks)), 1.0 - 0.78 * (1.0 - max(ticks)))
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{s:.0%}" for s in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(FixedLocator([50, 100, 200, 500, 1000, 2000, 5000, 10000]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_title(PANELS[case], loc="left", fontsize=10.5, color=INK)
    axes.set_xlabel("weights that are zero", color=MUTED)
    axes.tick_params(colors=MUTED, length=0, labelleft=True)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    for implementation, (_, colour) in DENSE.items():
        _, values = _curve(rows, implementation)
        if values and implementation not in LEFT_OUT:
            axes.axhline(values[0], color=colour, linewidth=1.4, zorder=2)
    axes.plot(*_curve(rows, updates.ARITHMETIC), color=LIMIT, linewidth=1.4, linestyle=(0, (5, 3)))
    sparsities, values = _curve(rows, updates.ENGINE)
    axes.plot(sparsities, values, color=ENGINE, linewidth=2.6, marker="o", markersize=6, zorder=4)
    (base,) = _curve(rows, "sbx TD3")[1] or [None]
    for sparsity, value in zip(sparsities, values, strict=True):
        if base is not None:
            axes.annotate(
                f"{value / base:.1f}×",
                (sparsity, value),
                xytext=(0, 8),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color=ENGINE,
                fontweight="bold",
            )


def _to_links(sparsity: Any) -> Any:
    return -np.log(np.maximum(1.0 - np.asarray(sparsity, float), 1e-6))


def _from_links(x: Any) -> Any:
    return 1.0 - np.exp(-np.asarray(x, float))


def _labels(axes: Axes, rows: Sequence[Row]) -> None:
    """Name every line at its right end; labels keep their distance."""
    wanted = []
    for implementation, (text, colour) in DENSE.items():
        _, values = _curve(rows, implementation)
        if values and implementation not in LEFT_OUT:
            wanted.append((values[0], f"{text}  {values[0]:,.0f}", colour))
    for implementation, text, colour in (
        (updates.ARITHMETIC, "arithmetic limit", LIMIT),
        (updates.ENGINE, "thrifty engine", ENGINE),
    ):
        sparsities, values = _curve(rows, implementation)
        axes.annotate(
            text,
            (sparsities[-1], values[-1]),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=9,
        )
    wanted.sort()
    to_axes = axes.transScale + axes.transLimits
    heights = [float(to_axes.transform((0.9, value))[1]) for value, *_ in wanted]
    places = spread(heights, APART)
    across = blended_transform_factory(axes.transAxes, axes.transAxes)
    for (_, text, colour), height, place in zip(wanted, heights, places, strict=True):
        axes.plot(
            [1.0, 1.025],
            [height, place],
            color=colour,
            linewidth=0.8,
            transform=across,
            clip_on=False,
        )
        axes.text(1.035, place, text, color=colour, fontsize=9, va="center", transform=across)


def spread(heights: Sequence[float], apart: float) -> list[float]:
    """Move sorted heights as little as need be until neighbours are so far apart.

    Runs of close ones are centred on their mean, joined with a neighbouring run they then meet.
    """
    runs: list[list[float]] = []
    for height in heights:
        runs.append([height])
        while len(runs) > 1 and _edge(runs[-2], apart, 1) + apart > _edge(runs[-1], apart, -1):
            runs[-2:] = [runs[-2] + runs[-1]]
    return [
        sum(run) / len(run) + apart * (k - (len(run) - 1) / 2)
        for run in runs
        for k in range(len(run))
    ]


def _edge(run: Sequence[float], apart: float, side: int) -> float:
    return sum(run) / len(run) + side * apart * (len(run) - 1) / 2
