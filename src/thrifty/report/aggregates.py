"""The section about all tasks together: normalised scores, performance profiles, improvement.

As in Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
NeurIPS 2021. A score is normalised within its task: 0 is the random policy, 1 the reference group's
mean. Where we differ: the reference is a group of these runs, and its mean is taken as exact.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from thrifty.report import numbers
from thrifty.report.elements import Column, note, picture, pictures, section, table
from thrifty.report.figures import INK, LINE_STYLES, MUTED, PALETTE, legend, panel
from thrifty.report.groups import Groups, finals
from thrifty.report.run_data import RunData
from thrifty.stats import (
    Interval,
    iqm,
    mean,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)
from thrifty.stats.aggregate import FloatArray

_SUMMARIES = (
    ("IQM", iqm),
    ("mean", mean),
    ("optimality gap", optimality_gap()),
)
_THRESHOLDS = 121


def section_of(
    tasks: Mapping[str, Groups], names: Sequence[str], generator: np.random.Generator
) -> str:
    """Return the section as HTML; nothing for a single task, which its own table tells all about.

    Args:
        tasks: the groups of each task.
        names: of the groups, in the order in which they shall stand; the first is the reference.
        generator: draws the bootstrap resamples.
    """
    if len(tasks) < 2:
        return ""
    scores, used, remarks = normalised(tasks, names)
    if len(used) < 2:
        return section("All tasks together", *map(note, remarks))
    drawn = [name for name in names if name in scores]
    estimates = {
        name: [
            stratified_interval(scores[name], statistic, generator=generator)
            for _, statistic in _SUMMARIES
        ]
        for name in drawn
    }
    better = {
        name: probability_of_improvement(scores[name], scores[names[0]], generator=generator)
        for name in drawn[1:]
    }
    return section(
        "All tasks together",
        table(_columns(names[0]), _rows(scores, estimates, better)),
        pictures(
            [
                picture(_intervals(estimates, names), "aggregates", "Normalised score, IQM"),
                picture(
                    _profiles(scores, names, generator), "profiles", "Runs above a normalised score"
                ),
            ]
        ),
        *map(note, remarks),
    )


def normalised(
    tasks: Mapping[str, Groups], names: Sequence[str]
) -> tuple[dict[str, FloatArray], list[str], list[str]]:
    """Return normalised scores [R, T] of each group, the tasks, and what was left out and why.

    A task takes part if every group has a score there and the reference is better than the random
    policy; a seed, if the group has a score for it on all these tasks.

    Args:
        tasks: the groups of each task.
        names: of the groups; the first is the reference.
    """
    found: dict[str, dict[str, dict[int | None, float]]] = {}
    remarks = []
    for task, groups in tasks.items():
        final = finals(groups)
        own = {name: final.scores.get(name, {}) if final else {} for name in names}
        by_group = {name: _by_seed(scores) for name, scores in own.items()}
        if twice := [name for name in names if len(own[name]) > len(by_group[name])]:
            remarks.append(f"{task}: {', '.join(twice)} has several runs of a seed: their mean.")
        zero, one = _random(groups), _mean(by_group[names[0]].values())
        if missing := [name for name in names if not by_group[name]]:
            remarks.append(f"{task} is left out: no comparable run of {', '.join(missing)}.")
        elif zero is None or one <= zero:
            remarks.append(f"{task} is left out: {names[0]} is not above the random policy.")
        else:
            found[task] = {
                name: {seed: (score - zero) / (one - zero) for seed, score in own.items()}
                for name, own in by_group.items()
            }
    scores = {}
    for name in names if found else ():
        columns = [by_group[name] for by_group in found.values()]
        seeds = [seed for seed in columns[0] if all(seed in column for column in columns)]
        if seeds:
            scores[name] = np.array([[column[seed] for column in columns] for seed in seeds])
        if dropped := {seed for column in columns for seed in column} - set(seeds):
            told = ", ".join(sorted(map(str, dropped)))
            remarks.append(f"{name}: seeds that not every task has are left out: {told}.")
    if names[0] not in scores:
        return {}, [], [*remarks, f"{names[0]} has no seed that every task has."]
    remarks.append(
        f"Tasks: {', '.join(found)}. A score is normalised within its task: 0 is the random "
        f"policy, 1 the mean of {names[0]}, which is taken as exact. Optimality gap: mean "
        "shortfall below 1. Improvement: how often a run lies above one of the reference, not by "
        "how much. 95 % intervals: runs resampled within each task; too narrow with few runs."
    )
    return scores, list(found), remarks


def _by_seed(scores: Mapping[RunData, float]) -> dict[int | None, float]:
    found: dict[int | None, list[float]] = {}
    for run, score in scores.items():
        found.setdefault(run.seed, []).append(score)
    return {seed: _mean(values) for seed, values in found.items()}


def _random(groups: Groups) -> float | None:
    known = [run.random_return for runs in groups.values() for run in runs]
    returns = [value for value in known if value is not None]
    return float(np.mean(returns)) if returns else None


def _mean(values: Collection[float]) -> float:
    return float(np.mean(list(values))) if values else float("nan")


def _columns(reference: str) -> list[Column]:
    columns = [Column("recipe", False), Column("runs a task")]
    for name, _ in _SUMMARIES:
        columns += [Column(name), Column("95 % interval")]
    return [*columns, Column(f"improvement over {reference}"), Column("95 % interval")]


def _rows(
    scores: Mapping[str, FloatArray],
    estimates: Mapping[str, Sequence[Interval]],
    better: Mapping[str, Interval],
) -> list[list[str]]:
    rows = []
    for name, intervals in estimates.items():
        row = [name, str(len(scores[name]))]
        for one in intervals:
            row += [numbers.significant(one.value), numbers.interval(one.low, one.high)]
        if name in better:
            chance = better[name]
            bounds = numbers.interval(100.0 * chance.low, 100.0 * chance.high)
            row += [numbers.share(chance.value), bounds]
        else:
            row += ["reference", ""]
        rows.append(row)
    return rows


def _style(name: str, names: Sequence[str]) -> tuple[str, Any]:
    """Colour and line of a group, the same as in the learning curves."""
    index = list(names).index(name)
    return PALETTE[index % len(PALETTE)], LINE_STYLES[index // len(PALETTE) % len(LINE_STYLES)]


def _intervals(estimates: Mapping[str, Sequence[Interval]], names: Sequence[str]) -> Figure:
    figure, axes = panel(0.8 + 0.3 * len(estimates))
    for row, (name, (middle, *_)) in enumerate(estimates.items()):
        colour, _ = _style(name, names)
        if middle.defined:
            axes.barh(row, middle.high - middle.low, left=middle.low, color=colour, alpha=0.35)
        axes.plot([middle.value] * 2, [row - 0.4, row + 0.4], color=colour, linewidth=2.4)
    axes.axvline(1.0, color=MUTED, linewidth=1.0, linestyle=":")
    axes.set_yticks(range(len(estimates)), [_short(name) for name in estimates])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(estimates) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("IQM of normalised scores")
    return figure


def _profiles(
    scores: Mapping[str, FloatArray], names: Sequence[str], generator: np.random.Generator
) -> Figure:
    every = np.concatenate([own.ravel() for own in scores.values()])
    thresholds = np.linspace(min(0.0, every.min()), max(1.0, every.max()) * 1.02, _THRESHOLDS)
    figure, axes = panel(3.1)
    for name, own in scores.items():
        colour, style = _style(name, names)
        profile = performance_profile(own, thresholds, generator=generator)
        axes.plot(
            thresholds,
            100 * profile.value,
            color=colour,
            linestyle=style,
            linewidth=1.8,
            label=_short(name),
            drawstyle="steps-post",
        )
        axes.fill_between(
            thresholds,
            100 * profile.low,
            100 * profile.high,
            color=colour,
            alpha=0.15,
            linewidth=0,
            step="post",
        )
    axes.axvline(1.0, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xlim(thresholds[0], thresholds[-1])
    axes.set_ylim(0, 103)
    axes.set_xlabel("normalised score")
    axes.set_ylabel("runs above it (%)")
    legend(figure, axes)
    return figure


def _short(name: str, most: int = 48) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
