"""The sections of a page about runs on episodic MDPs: regret, switches, bonuses, V_1 beside V*.

Regret is exact where a model was known. Where it was not, the page shows returns and the optimistic
V_1, and never calls anything regret.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from thrifty.report import numbers, risk, single
from thrifty.report.elements import (
    Column,
    cards,
    folded,
    note,
    pairs,
    picture,
    pictures,
    section,
    table,
)
from thrifty.report.figures import INK, LINE_STYLES, MUTED, PALETTE, legend, panel
from thrifty.report.groups import instances
from thrifty.report.run_data import FloatArray, RunData

_LABEL = 66  # characters that a legend holds in one line
_ROUNDING = 1e-9  # regret below it is none, and has no place on a logarithmic axis

Curves = Mapping[str, Sequence[tuple[FloatArray, FloatArray]]]

# What the constants of a learner are, in words.
_MEANINGS = {
    "beta": "beta: factor of the bonus",
    "regulariser": "lambda: regulariser of the regression",
    "gamma2": "gamma^2: width of the confidence sets of kernels",
    "radius": "radius of the ellipsoid of reward parameters",
    "beta_bar": "beta_bar: bonus factor of the pessimistic value",
    "beta_tilde": "beta_tilde: error factor of the squared value",
    "beta_reward": "beta_reward: bonus factor of estimated rewards",
    "variance": "weight of the estimated variance",
    "error": "weight of its error E",
    "gap": "weight of D, which compares optimism and pessimism",
    "gap_scale": "factor inside D",
    "gap_cap": "greatest D",
    "offset": "added variance",
    "floor": "least variance",
    "conservatism": "least variance per unit of the elliptical norm",
}


def is_episodic(run: RunData) -> bool:
    """Whether a run's records are those of an episodic MDP."""
    start = run.first("start")
    return "V_star" in start and "model" in start


def sections(run: RunData) -> list[str]:
    """All sections of one run, as HTML."""
    of_risk = [*risk.policy(run), *risk.labels(run)] if risk.has_risk(run) else []
    return [
        _headline(run),
        *of_risk,
        _learning(run),
        _exploration(run),
        _constants(run),
        single.reproduce(run),
    ]


def comparison(runs: Sequence[RunData]) -> list[str]:
    """All sections of several runs, as HTML: regret curves and a table."""
    learners, problems = _learners(runs), instances(runs)
    found: dict[str, set[str]] = {}
    for run, problem in zip(runs, problems, strict=True):
        found.setdefault(run.recipe, set()).add(problem)
    groups: dict[str, list[RunData]] = {}
    for run, learner, problem in zip(runs, learners, problems, strict=True):
        instance = f"{run.recipe}, {problem}" if len(found[run.recipe]) > 1 else run.recipe
        groups.setdefault(f"{instance}, {learner}", []).append(run)
    curves = {
        name: [run.column("progress", "regret") for run in members]
        for name, members in groups.items()
    }
    known = {name: drawn for name, drawn in curves.items() if all(x.size for x, _ in drawn)}
    rows = [
        (
            run.recipe,
            problem,
            learner,
            numbers.MISSING if run.seed is None else run.seed,
            numbers.count(run.steps),
            numbers.significant(_last(run, "regret"), 4),
            numbers.significant(_last(run, "V_1"), 4),
            numbers.count(_last(run, "switches")),
        )
        for run, learner, problem in zip(runs, learners, problems, strict=True)
    ]
    without = sum(not run.column("progress", "regret")[0].size for run in runs)
    columns = (
        Column("recipe", False), Column("instance", False), Column("learner", False),
        Column("seed"), Column("episodes"), Column("regret"), Column("optimistic V_1"),
        Column("switches"),
    )  # fmt: skip
    return [
        section(
            "Regret",
            pictures(
                [
                    picture(_regret(known, scale="linear"), "linear", "Regret"),
                    picture(_regret(known, scale="log"), "log", "Regret, both axes logarithmic"),
                ]
            )
            if known
            else note("No run knew its model, so regret is not known."),
            note(
                "One line a run, one colour a recipe and learner."
                + (
                    f" Without a curve: {without} of {len(runs)} runs, whose model is not known "
                    "or which have no record of progress yet."
                    if known and without
                    else ""
                )
            ),
        ),
        *risk.comparison(runs),
        section("Runs", table(columns, rows)),
    ]


def _learners(runs: Sequence[RunData]) -> list[str]:
    """Each run's learner, with the settings in which it differs from others of its name."""
    names = [str(run.first("start").get("algorithm", numbers.MISSING)) for run in runs]
    settings = [_settings(run) for run in runs]
    told = []
    for run, name, own in zip(runs, names, settings, strict=True):
        alike = [
            other
            for one, same, other in zip(runs, names, settings, strict=True)
            if one.recipe == run.recipe and same == name
        ]
        differing = [
            f"{key}={'default' if value is None else value}"
            for key, value in own.items()
            if any(other.get(key) != value for other in alike)
        ]
        told.append(f"{name} ({', '.join(differing)})" if differing else name)
    return told


def _settings(run: RunData) -> dict[str, Any]:
    """The learner's part of a configuration, without the instance and the run's length."""
    config = run.config.get("config")
    if not isinstance(config, Mapping):
        return {}
    algorithm = config.get("algorithm")
    settings = dict(algorithm) if isinstance(algorithm, Mapping) else {}
    if "risk_level" in config:
        settings["risk_level"] = config["risk_level"]
    return settings


def _last(run: RunData, field: str) -> float | None:
    _, values = run.column("progress", field)
    return float(values[-1]) if values.size else None


def _headline(run: RunData) -> str:
    start, K = run.first("start"), run.steps
    regret, gap, V_star = _last(run, "regret"), _last(run, "regret_per_episode"), _star(run)
    uniform = start.get("uniform_gap")
    rows = []
    if regret is not None:
        against = (
            f"the uniform policy's: {numbers.significant(uniform * K, 4)}"
            if uniform is not None
            else ""
        )
        rows += [
            ("regret", numbers.significant(regret, 4), against),
            ("regret per episode, now", numbers.significant(gap), f"V* is {_text(V_star)}"),
        ]
    returns = _last(run, "return_mean")
    seconds = run.wall_seconds
    optimistic = _last(run, "V_1")
    if optimistic is not None:
        rows.append(("optimistic V_1", numbers.significant(optimistic, 4), f"V*: {_text(V_star)}"))
    rows += [
        ("mean return, lately", numbers.significant(returns, 4), "rewards mapped to [0, 1]"),
        ("plans", numbers.count(_last(run, "switches")), f"in {numbers.count(K)} episodes"),
        ("training time", numbers.duration(seconds), f"{_speed(K, seconds)} episodes per second"),
    ]
    unfinished = ""
    if not run.finished:
        unfinished = note(f"This run is not finished: its records end at episode {K}.")
    return unfinished + cards(rows)


def _speed(K: int, seconds: float | None) -> str:
    return numbers.count(K / seconds) if seconds else numbers.MISSING


def _star(run: RunData) -> float | None:
    value = run.first("start").get("V_star")
    return float(value) if value is not None else None


def _text(value: float | None) -> str:
    return "not known" if value is None else numbers.significant(value, 4)


def _learning(run: RunData) -> str:
    curve = run.column("progress", "regret")
    uniform = run.first("start").get("uniform_gap")
    if not curve[0].size:
        return section(
            "Learning",
            picture(_values(run), "returns", "Return beside the optimistic V_1"),
            note("The model is not known, so neither is regret."),
        )
    one = {"this run": [curve]}
    return section(
        "Regret",
        pictures(
            [
                picture(_regret(one, scale="linear"), "linear", "Regret"),
                picture(
                    _regret(one, scale="log", uniform=uniform),
                    "log",
                    "Regret, both axes logarithmic",
                ),
                picture(
                    _values(run),
                    "values",
                    f"{'Mean return' if _last(run, 'V_1') is None else 'Optimistic V_1'} beside V*",
                ),
                picture(_gap(run), "gap", "Regret of one episode"),
            ]
        ),
        note(
            "Regret is the sum of V* minus the value of the policy that played, both exact. "
            "The uniform policy draws every action alike. Optimism means that V_1 stays above V*; "
            "practical constants do not promise it. Regret of one episode is that of the last "
            "one before each recorded point; the policy may change in between."
        ),
    )


def _exploration(run: RunData) -> str:
    return section(
        "Exploration",
        pictures(
            [
                picture(_switches(run), "switches", "Plans made"),
                picture(_bonus(run), "bonus", "Bonus and variance at visited pairs"),
            ]
        ),
        note(
            "A plan is made when what was learned has grown: a determinant or the visits of a pair "
            "have doubled, or a confidence set has shrunk, unless the configuration says "
            "otherwise. Bonus and variance (whose inverse is a sample's weight) are means since "
            "the point before."
        ),
    )


def _constants(run: RunData) -> str:
    constants = run.first("start").get("constants") or {}
    rows = [
        (_MEANINGS.get(name, name), numbers.significant(value, 4))
        for name, value in constants.items()
    ]
    return section("Constants", folded("as the learner used them", pairs(rows), opened=True))


# ---------------------------------------------------------------------- figures


def _regret(curves: Curves, *, scale: str, uniform: float | None = None) -> Figure | None:
    """Cumulated regret over episodes; on logarithmic axes with a guide that grows like sqrt(k)."""
    figure, axes = panel(3.4)
    longest, guide, further_lines = 1.0, 0.0, 0
    for index, (name, drawn) in enumerate(curves.items()):
        label = textwrap.fill(name, _LABEL)
        further_lines += label.count("\n")
        for number, (steps, regret) in enumerate(drawn):
            axes.plot(
                steps,
                np.where(regret > _ROUNDING, regret, np.nan) if scale == "log" else regret,
                color=PALETTE[index % len(PALETTE)],
                linestyle=LINE_STYLES[index // len(PALETTE) % len(LINE_STYLES)],
                linewidth=1.6,
                label=label if number == 0 else None,
            )
            longest, guide = max(longest, float(steps[-1])), max(guide, float(regret[-1]))
    _episodes(axes, longest, scale)
    axes.set_ylabel("regret")
    if scale == "log":
        axes.set_yscale("log")
        positions = np.geomspace(1.0, longest, 50)
        if guide > _ROUNDING:
            axes.plot(
                positions, guide * np.sqrt(positions / longest), color=MUTED, linewidth=1.0,
                linestyle=":", label="grows like √k",
            )  # fmt: skip
        if uniform:
            axes.plot(
                positions, uniform * positions, color=INK, linewidth=1.2, linestyle="--",
                label="uniform policy",
            )  # fmt: skip
    else:
        axes.set_ylim(bottom=0)
    legend(figure, axes)
    figure.set_figheight(figure.get_figheight() + 0.13 * further_lines)
    return figure


def _values(run: RunData) -> Figure | None:
    figure, axes = panel(2.9)
    steps, values = run.column("progress", "V_1")
    if steps.size:
        axes.plot(steps, values, color=PALETTE[0], linewidth=1.6, label="optimistic V_1")
    steps, returns = run.column("progress", "return_mean")
    axes.plot(steps, returns, color=MUTED, linewidth=0.8, alpha=0.7, label="mean return")
    V_star = _star(run)
    if V_star is not None:
        axes.axhline(V_star, color=INK, linewidth=1.2, linestyle="--", label="V*")
    _episodes(axes, run.steps, "log")
    axes.set_ylabel("value")
    axes.set_ylim(bottom=0)
    legend(figure, axes)
    return figure


def _gap(run: RunData) -> Figure | None:
    steps, gap = run.column("progress", "regret_per_episode")
    figure, axes = panel(2.9)
    axes.plot(steps, gap, color=PALETTE[1], linewidth=1.6, drawstyle="steps-post")
    _episodes(axes, run.steps, "log")
    axes.set_ylabel("V* minus the policy's value")
    axes.set_ylim(bottom=0)
    return figure


def _switches(run: RunData) -> Figure | None:
    steps, switches = run.column("progress", "switches")
    figure, axes = panel(2.9)
    axes.plot(steps, switches, color=PALETTE[2], linewidth=1.6)
    _episodes(axes, run.steps, "log")
    axes.set_ylabel("plans made")
    axes.set_ylim(bottom=0)
    return figure


def _bonus(run: RunData) -> Figure | None:
    if not run.column("progress", "bonus")[0].size:
        return None
    figure, axes = panel(2.9)
    for index, (field, label) in enumerate((("bonus", "bonus"), ("variance", "variance"))):
        steps, values = run.column("progress", field)
        if field == "variance" and np.all(values == 1.0):
            continue  # unweighted
        shown = np.where(values > 0.0, values, np.nan)  # a greedy learner has no bonus
        axes.plot(steps, shown, color=PALETTE[index], linewidth=1.6, label=label)
    axes.set_yscale("log")
    _episodes(axes, run.steps, "log")
    axes.set_ylabel("mean at visited pairs")
    legend(figure, axes)
    return figure


def _episodes(axes: Axes, longest: float, scale: str) -> None:
    """The axis of episodes."""
    axes.set_xlabel("episode")
    if scale == "log":
        axes.set_xscale("log")
        axes.set_xlim(1.0, 1.1 * max(longest, 2.0))
    else:
        axes.set_xlim(0, 1.02 * max(longest, 1.0))
    axes.xaxis.set_major_formatter(FuncFormatter(_count))


def _count(value: float, _: Any) -> str:
    return numbers.count(value)
