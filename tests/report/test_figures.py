from __future__ import annotations

import re
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from thrifty.report import figures, load_run

MakeRun = Any  # the fixture of conftest.py
SINGLE = (
    figures.learning_curve,
    figures.sparsity_per_layer,
    figures.topology_change,
    figures.value_tricks,
)


def line(figure: Figure, label: str) -> tuple[list[float], list[float]]:
    """The points of the first curve with that label."""
    for axes in figure.axes:
        for curve in axes.lines:
            if curve.get_label() == label:
                return list(map(float, curve.get_xdata())), list(map(float, curve.get_ydata()))
    raise AssertionError(f"no curve {label}")


def test_learning_curve_shows_the_records(make_run: MakeRun) -> None:
    records = [
        {"kind": "random_policy", "step": 0, "return_mean": -3.0},
        {"kind": "train", "step": 5, "return": None},
        {"kind": "evaluation", "step": 10, "return_mean": 1.0, "return_std": 0.5},
        {"kind": "evaluation", "step": 20, "return_mean": 2.0, "return_std": 0.5},
    ]
    figure = figures.learning_curve(load_run(make_run("r", records=records)))
    assert figure is not None
    assert line(figure, "evaluation") == ([10.0, 20.0], [1.0, 2.0])
    assert set(line(figure, "random policy")[1]) == {-3.0}
    (axes,) = figure.axes
    assert "training episodes" not in axes.get_legend_handles_labels()[1]
    assert axes.lines[-1].get_linestyle() == "--"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("environment steps", "return per episode")


def test_sparsity_bars(make_run: MakeRun) -> None:
    layers = [
        {"network": "actor", "layer": "in", "shape": [4, 3], "nnz": 3, "sparsity": 0.75},
        {
            "network": "critic",
            "layer": "in.weight",
            "shape": [2000, 5],
            "nnz": 1000,
            "sparsity": 0.9,
        },
    ]
    run = load_run(make_run("r", records=[{"kind": "start", "step": 0, "layers": layers}]))
    figure = figures.sparsity_per_layer(run)
    assert figure is not None
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [75.0, 90.0]
    assert axes.patches[0].get_facecolor() != axes.patches[1].get_facecolor()
    assert {"3 of 12", "1k of 10k"} <= {text.get_text() for text in axes.texts}
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "actor in  3×4",
        "critic in  5×2000",
    ]


def test_topology_counts_what_is_really_new(make_run: MakeRun) -> None:
    # 200 links; 30 grew, of which 10 had just been dropped: 20 of 200 are replaced.
    layers = {
        "a": {"nnz": 150, "dropped": 20, "grown": 20, "regrown": 10},
        "b": {"nnz": 50, "dropped": 10, "grown": 10, "regrown": 0},
    }
    common = {"kind": "topology", "layers": layers, "update": 1, "drop_fraction": 0.15}
    records = [
        common | {"step": 100, "network": "actor", "survival": 0.9},
        common | {"step": 100, "network": "critic", "survival": 0.8},
        common | {"step": 300, "network": "actor", "survival": 0.7},
    ]
    figure = figures.topology_change(load_run(make_run("r", records=records)))
    assert figure is not None
    replaced, survival = figure.axes
    assert replaced.lines[0].get_ydata() == pytest.approx([10.0, 10.0])
    assert replaced.lines[1].get_ydata() == pytest.approx([10.0])
    assert survival.lines[0].get_ydata() == pytest.approx([90.0, 70.0])
    assert list(survival.lines[0].get_xdata()) == [100, 300]


def test_value_tricks_show_what_was_recorded(make_run: MakeRun) -> None:
    records = [
        {"kind": "train", "step": 10, "n_step": 1, "buffer_size": 10},
        {"kind": "n_step", "step": 15, "n_step": 3},
        {"kind": "train", "step": 20, "n_step": 3, "buffer_size": 20},
        {"kind": "buffer", "step": 20, "distance": 0.3, "size_before": 20, "size": 18, "cuts": 1},
    ]
    figure = figures.value_tricks(load_run(make_run("r", records=records)))
    assert figure is not None
    points = [axes.lines[0].get_xydata().tolist() for axes in figure.axes]
    assert points == [[[10, 1], [15, 3], [20, 3]], [[10, 10], [20, 18]], [[20, 0.3]]]
    alone = figures.value_tricks(load_run(make_run("alone", records=records[:1])))
    assert alone is not None
    assert len(alone.axes) == 2


def test_learning_curves_mark_where_runs_are_missing(make_run: MakeRun) -> None:
    def run(name: str, returns: list[float]) -> Any:
        records = [
            {"kind": "evaluation", "step": 10 * i, "return_mean": r, "wall_seconds": 60.0 * i}
            for i, r in enumerate(returns, start=1)
        ]
        return load_run(make_run(name, records=records))

    groups = {
        "one": [run("a", [1.0, 2.0, 3.0, 4.0]), run("b", [3.0, 4.0])],
        "two": [run("c", [0.0, 0.0, 0.0, 0.0])],
    }
    figure = figures.learning_curves(groups, generator=np.random.default_rng(0))
    assert figure is not None
    steps, values = line(figure, "one (2 runs)")
    assert steps == [10.0, 20.0, 30.0, 40.0]
    np.testing.assert_array_equal(values, [2.0, 3.0, np.nan, np.nan])
    assert line(figure, "two (1 run)")[1] == [0.0] * 4
    over_time = figures.learning_curves(
        groups, generator=np.random.default_rng(0), over="wall_seconds"
    )
    assert over_time is not None
    assert over_time.axes[0].get_xlabel() == "training time (minutes)"
    assert max(line(over_time, "two (1 run)")[0]) == 4.0


def test_nothing_is_drawn_from_nothing(make_run: MakeRun) -> None:
    run = load_run(make_run("empty", records=[]))
    assert [draw(run) for draw in SINGLE] == [None] * 4
    generator = np.random.default_rng(0)
    assert figures.learning_curves({"a": [run]}, generator=generator) is None


def test_svg_is_well_formed_and_self_contained(make_run: MakeRun) -> None:
    run = load_run(make_run("r"))
    before = dict(matplotlib.rcParams)
    seen: set[str] = set()
    for index, draw in enumerate(SINGLE):
        figure = draw(run)
        assert figure is not None
        svg = figures.inline_svg(figure, f"figure-{index}", 'a "quoted" <name>')
        root = ElementTree.fromstring(svg)
        assert root.get("aria-label") == 'a "quoted" <name>'
        ids = re.findall(r'\bid="([^"]+)"', svg)
        assert ids
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        seen |= set(ids)
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) <= set(ids)
        # Colours are variables, so that a dark page can show others; text stays text.
        assert not re.search(r"#[0-9a-f]{6}", svg)
        assert "var(--ink)" in svg
        assert "<text" in svg
        assert "DejaVu" not in svg
        assert "<style" not in svg  # it would hold for the whole page
        assert svg == figures.inline_svg(draw(run), f"figure-{index}", 'a "quoted" <name>')
    assert dict(matplotlib.rcParams) == before


def test_figures_leave_pyplot_to_the_user() -> None:
    code = """
import sys
from thrifty.report import figures
figure, axes = figures.panel(3.0)
axes.plot([0, 1])
figures.inline_svg(figure, "one", "a line")
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_legends_stand_outside_the_axes(make_run: MakeRun) -> None:
    for draw in (figures.learning_curve, figures.topology_change):
        figure = draw(load_run(make_run(draw.__name__)))
        assert figure is not None
        figure.draw_without_rendering()
        (legend,) = figure.legends
        top = max(axes.get_window_extent().y1 for axes in figure.axes)
        assert legend.get_window_extent().y0 >= top


def test_names_of_any_kind_leave_room_for_the_bars(make_run: MakeRun) -> None:
    layer = {"shape": [4, 3], "nnz": 3, "sparsity": 0.75}
    layers = [
        layer | {"network": "$a_{$", "layer": "x" * 300},
        layer | {"network": "model", "layer": "decoder.layers.11.attention.query"},
    ]
    run = load_run(make_run("r", records=[{"kind": "start", "step": 0, "layers": layers}]))
    figure = figures.sparsity_per_layer(run)
    assert figure is not None
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_window_extent().width > 0.5 * figure.bbox.width
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[1] == "model decoder.l…tion.query  3×4"
    svg = figures.inline_svg(figure, "r", "d")
    assert ">$a_{$ xxxxxxxxx…xxxxxxxxxx  3×4<" in svg
