"""Figures of runs as matplotlib `Figure` objects: no pyplot, no global backend.

Each figure is 5.2 inches wide so that its text stays readable on a phone, where a page shows it at
about that size. Legends stand above the axes, never over a curve. Colours are Okabe and Ito's,
which people with colour-vision deficiency can tell apart; `inline_svg` turns each into a CSS
variable, so that a page can show other shades on a dark ground.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from thrifty.report import numbers
from thrifty.report.run_data import RunData
from thrifty.stats.curves import align, band

INK = "#1f2328"
MUTED = "#6e7781"
GRID = "#d7dce1"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
LINE_STYLES = ("-", "-.", (0, (1, 1)))  # dashes are the random policy's
CSS_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid"} | {
    colour: f"--c{index}" for index, colour in enumerate(PALETTE)
}
WIDTH = 5.2  # inches

FloatArray = npt.NDArray[np.float64]
Groups = Mapping[str, Sequence[RunData]]


def learning_curve(run: RunData) -> Figure | None:
    """Evaluation return over steps, with the training episodes' and the random policy's return.

    Args:
        run: one run.

    Returns:
        The figure, or None without evaluation records.
    """
    steps, means = run.column("evaluation", "return_mean")
    if steps.size == 0:
        return None
    figure, axes = panel(4.0)
    train_steps, train_returns = run.column("train", "return")
    if train_steps.size:
        axes.plot(
            train_steps,
            train_returns,
            color=MUTED,
            linewidth=0.8,
            alpha=0.7,
            label="training episodes",
        )
    deviation_steps, deviations = run.column("evaluation", "return_std")
    if deviation_steps.size == steps.size:
        axes.fill_between(
            steps,
            means - deviations,
            means + deviations,
            color=PALETTE[0],
            alpha=0.2,
            linewidth=0,
            label="± 1 std over episodes",
        )
    axes.plot(
        steps,
        means,
        color=PALETTE[0],
        linewidth=1.8,
        label="evaluation",
        marker="o" if steps.size < 40 else None,
        markersize=3,
    )
    if run.random_return is not None:
        _random_line(axes, run.random_return)
    _step_axis(axes, run.steps)
    axes.set_ylabel("return per episode")
    legend(figure, axes)
    return figure


def sparsity_per_layer(run: RunData) -> Figure | None:
    """Share of zeros in every layer, with the number of links that are left.

    Args:
        run: one run.

    Returns:
        The figure, or None where the start record names no layers.
    """
    layers = [layer for layer in run.first("start").get("layers") or () if layer.get("shape")]
    if not layers:
        return None
    figure, axes = panel(0.95 + 0.27 * len(layers))
    networks = list(dict.fromkeys(str(layer["network"]) for layer in layers))
    for index, layer in enumerate(layers):
        colour = _colour(networks.index(str(layer["network"])))
        axes.barh(index, 100 * layer["sparsity"], color=colour, height=0.66)
        axes.text(
            103,
            index,
            f"{numbers.count(layer['nnz'])} of {numbers.count(np.prod(layer['shape']))}",
            va="center",
            fontsize=8,
            color=INK,
        )
    axes.set_yticks(range(len(layers)), [_layer_label(layer) for layer in layers])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlim(0, 140)
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_xlabel("sparsity (% of the layer's weights that are zero)", loc="left")
    axes.text(103, -0.62, "links", fontsize=8, color=MUTED, va="bottom")
    axes.grid(axis="y", visible=False)
    axes.spines["bottom"].set_bounds(0, 100)
    return figure


def topology_change(run: RunData) -> Figure | None:
    """Links replaced at each evolution step, and the survival of the initial links, per network.

    A link that was dropped and grew back in the same step is not counted as replaced.

    Args:
        run: one run.

    Returns:
        The figure, or None without topology records.
    """
    records = run.of("topology")
    if not records:
        return None
    figure, (replaced_axes, survival_axes) = _rows(2)
    for index, network in enumerate(_networks(run)):
        own = [record for record in records if record.get("network") == network]
        replaced = {r["step"]: share for r in own if (share := _replaced(r)) is not None}
        alive = {r["step"]: r["survival"] for r in own if r.get("survival") is not None}
        for axes, points in ((replaced_axes, replaced), (survival_axes, alive)):
            axes.plot(
                list(points),
                [100 * value for value in points.values()],
                color=_colour(index),
                linewidth=1.4,
                marker="o" if len(points) <= 60 else None,
                markersize=2.5,
                label=_short(network, 40),
            )
    _step_axis(survival_axes, run.steps)
    replaced_axes.set_ylim(bottom=0)
    replaced_axes.set_ylabel("links replaced per\nevolution step (%)")
    survival_axes.set_ylim(0, 103)
    survival_axes.set_ylabel("initial links\nstill active (%)")
    figure.align_ylabels()
    legend(figure, replaced_axes)
    return figure


def value_tricks(run: RunData) -> Figure | None:
    """The n-step length, the replay buffer's size and its policy distance over time.

    Args:
        run: one run.

    Returns:
        The figure with a row for each that was recorded, or None if nothing was.
    """
    n_steps = _merged(run, (("train", "n_step"), ("n_step", "n_step")))
    sizes = _merged(run, (("train", "buffer_size"), ("buffer", "size")))
    distances = run.column("buffer", "distance")
    rows = [
        (label, points, kind)
        for label, points, kind in (
            ("n-step length\n(steps)", n_steps, "steps"),
            ("buffer size\n(transitions)", sizes, "line"),
            ("policy distance\nof old data", distances, "markers"),
        )
        if points[0].size
    ]
    if not rows:
        return None
    figure, panels = _rows(len(rows))
    for index, (label, (steps, values), kind) in enumerate(rows):
        axes = panels[index]
        axes.plot(
            steps,
            values,
            color=_colour(index),
            linewidth=1.6,
            drawstyle="steps-post" if kind == "steps" else "default",
            marker="o" if kind == "markers" and steps.size < 60 else None,
            markersize=3,
        )
        axes.set_ylabel(label)
        axes.set_ylim(0, 1.12 * float(values.max()) or 1.0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: numbers.count(value)))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=kind == "steps"))
    _step_axis(panels[-1], run.steps)
    figure.align_ylabels()
    return figure


def learning_curves(
    groups: Groups,
    *,
    generator: np.random.Generator,
    over: str = "step",
    colours: Sequence[str] | None = None,
) -> Figure | None:
    """Evaluation returns of groups of runs on one environment: IQM, bootstrap band, thin runs.

    Where some runs of a group have no data, the IQM of the others is drawn faint.

    Args:
        groups: label -> the runs of one recipe on the environment.
        generator: draws the bootstrap resamples.
        over: "step" or "wall_seconds".
        colours: labels in the order that fixes colours over several figures; None: of `groups`.

    Returns:
        The figure, or None where no run has an evaluation over that axis.
    """
    figure, axes = panel(3.1)
    order = list(colours if colours is not None else groups)
    columns = {
        label: [
            c for c in (run.column("evaluation", "return_mean", over) for run in runs) if c[0].size
        ]
        for label, runs in groups.items()
    }
    longest = max((float(c[0][-1]) for cs in columns.values() for c in cs), default=0.0)
    scale, unit = _time_unit(longest) if over == "wall_seconds" else (1.0, "")
    for label, curves in columns.items():
        if not curves:
            continue
        colour, style = _colour(order.index(label)), _line_style(order.index(label))
        for positions, values in curves:
            axes.plot(positions / scale, values, color=colour, linewidth=0.6, alpha=0.45)
        # Clocks never agree on their positions; evaluation steps do.
        grid, values_RG = align(curves, None if over == "step" else np.linspace(0.0, longest, 201))
        centre = band(values_RG, generator=generator)
        x = grid / scale
        complete = centre.runs == len(curves)
        axes.plot(x, centre.value, color=colour, linewidth=1.0, linestyle=style, alpha=0.5)
        axes.plot(
            x,
            np.where(complete, centre.value, np.nan),
            color=colour,
            linewidth=2.0,
            linestyle=style,
            label=f"{_short(label, 48)} ({_runs(len(curves))})",
        )
        axes.fill_between(x, centre.low, centre.high, color=colour, alpha=0.18, linewidth=0)
    if not axes.lines:
        return None
    random_returns = [
        run.random_return
        for runs in groups.values()
        for run in runs
        if run.random_return is not None
    ]
    if random_returns:
        _random_line(axes, float(np.mean(random_returns)))
    if over == "step":
        _step_axis(axes, longest)
    else:
        axes.set_xlim(0, 1.02 * longest / scale)
        axes.set_xlabel(f"training time ({unit})")
    axes.set_ylabel("return per episode")
    legend(figure, axes)
    return figure


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """A figure as an `<svg>` element for an HTML page.

    Text stays text in the page's font, colours become CSS variables, ids begin with the name, and
    nothing refers to anything outside.

    Args:
        figure: what is drawn.
        name: unique on the page; letters, digits and hyphens.
        description: read out in place of the picture.

    Returns:
        The element, equal for equal figures.
    """
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    text = buffer.getvalue()
    # Matplotlib's rule for "*" would hold in the whole page; what it says is on the element below.
    text = re.sub(r"<style.*?</style>", "", text[text.index("<svg") :].strip())
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--font)", text)
    for colour, variable in CSS_VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    assert size is not None
    label = html.escape(description, quote=True)
    head = f'<svg role="img" aria-label="{label}" {size[0]} stroke-linejoin="round"'
    head += ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return head + text[text.index(">") + 1 :]


def panel(height: float = 2.7) -> tuple[Figure, Axes]:
    """A figure of one panel in the style of all of them."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    _style(axes)
    return figure, axes


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(labelsize=8, labelcolor=INK, color=MUTED)
    axes.xaxis.label.set(fontsize=9, color=INK)
    axes.yaxis.label.set(fontsize=9, color=INK)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(y=0.08)


def _step_axis(axes: Axes, longest: float) -> None:
    axes.set_xlabel("environment steps")
    axes.set_xlim(0, 1.02 * max(longest, 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: numbers.count(value)))


def _random_line(axes: Axes, value: float) -> None:
    axes.axhline(value, color=INK, linewidth=1.2, linestyle="--", label="random policy")


def legend(figure: Figure, axes: Axes) -> None:
    """A legend above the axes, in as many columns as its labels allow."""
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    # About 5.5 points a character and 34 for the handle, on 374 points of width.
    columns = max(1, min(len(labels), int(374 / (34 + 5.0 * max(map(len, labels))))))
    handles = [_opaque(handle) for handle in handles]
    rows = math.ceil(len(labels) / columns)
    figure.set_figheight(figure.get_figheight() + 0.16 * (rows - 1))  # the axes keep their height
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        handlelength=2.2,
        columnspacing=1.4,
        borderpad=0.2,
    )


def _opaque(handle: Any) -> Any:
    """A faint thin line is hard to recognise in a legend."""
    if not isinstance(handle, Line2D):
        return handle
    line = Line2D([], [])
    line.update_from(handle)  # with its pattern of dashes, which no getter returns
    marker = handle.get_marker() if handle.get_linestyle() == "None" else ""  # points alone keep it
    line.set(alpha=1.0, marker=marker, linewidth=max(1.2, handle.get_linewidth()))
    return line


def _rows(count: int) -> tuple[Figure, list[Axes]]:
    """Panels below each other over one axis of steps."""
    figure = Figure(figsize=(WIDTH, 0.7 + 1.3 * count), layout="constrained")
    panels = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    for axes in panels:
        _style(axes)
    return figure, list(panels)


def _replaced(record: Mapping[str, Any]) -> float | None:
    """Share of a network's links that one evolution step replaced."""
    layers = (record.get("layers") or {}).values()
    links = sum(layer["nnz"] for layer in layers)
    replaced = sum(layer["grown"] - layer.get("regrown", 0) for layer in layers)
    return replaced / links if links else None


def _networks(run: RunData) -> list[str]:
    """Networks in the order of the start record, so that colours agree between figures."""
    layers = run.first("start").get("layers") or ()
    named = [str(layer["network"]) for layer in layers]
    return list(dict.fromkeys(named + [str(r.get("network")) for r in run.of("topology")]))


def _merged(run: RunData, sources: Sequence[tuple[str, str]]) -> tuple[FloatArray, FloatArray]:
    """Points of several kinds of records over steps; the later source wins at equal steps."""
    points: dict[float, float] = {}
    for kind, field in sources:
        steps, values = run.column(kind, field)
        points.update(zip(steps.tolist(), values.tolist(), strict=True))
    ordered = sorted(points)
    return np.array(ordered), np.array([points[step] for step in ordered])


def _layer_label(layer: Mapping[str, Any]) -> str:
    out, *rest = layer["shape"]
    shape = "×".join(str(size) for size in (*reversed(rest), out))
    name = str(layer["layer"]).removesuffix(".weight")
    return f"{_short(layer['network'], 12)} {_short(name, 20)}  {shape}"


def _short(name: object, most: int) -> str:
    """A name from a run as plain text of bounded length: a long one would squeeze the axes out."""
    text = str(name)
    if len(text) > most:
        text = text[: most // 2 - 1] + "…" + text[len(text) - (most - most // 2) :]
    return text.replace("$", r"\$")  # else matplotlib reads mathematics between two of them


def _colour(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


def _line_style(index: int) -> Any:
    return LINE_STYLES[index // len(PALETTE) % len(LINE_STYLES)]


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"


def _time_unit(longest_seconds: float) -> tuple[float, str]:
    """Seconds per unit, and the unit, in which so long a time reads well."""
    if longest_seconds < 180:
        return 1.0, "seconds"
    return (60.0, "minutes") if longest_seconds < 3 * 3600 else (3600.0, "hours")
