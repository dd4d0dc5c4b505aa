"""The sections of a page about several runs: curves and tables of groups of runs.

A group is one recipe with one choice of settings on one environment (`thrifty.report.groups`); its
members should differ in their seed only, and the page says so where they do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thrifty.report import aggregates, figures, numbers
from thrifty.report.elements import Column, folded, note, picture, pictures, section, table, text
from thrifty.report.groups import Groups, by_task, finals, labels
from thrifty.report.run_data import RunData
from thrifty.report.single import command, final_return, flattened, ledger_ratio, speed
from thrifty.stats.aggregate import bootstrap_interval, difference_interval
from thrifty.stats.curves import area


def sections(runs: Sequence[RunData], generator: np.random.Generator) -> list[str]:
    """All sections of a comparison, as HTML.

    Args:
        runs: in the order in which their recipes shall stand; differences are to the first.
        generator: draws the bootstrap resamples.
    """
    tasks = by_task(runs)
    names = list(dict.fromkeys(labels(runs)))
    return [
        aggregates.section_of(tasks, names, generator),
        _curves(tasks, names, generator),
        _tables(tasks, generator),
        _caveats(tasks),
        _list(runs),
    ]


def _curves(
    by_task: dict[str, Groups], recipes: Sequence[str], generator: np.random.Generator
) -> str:
    shown = []
    for index, (task, groups) in enumerate(by_task.items()):
        for over, caption in (("step", "over steps"), ("wall_seconds", "over training time")):
            figure = figures.learning_curves(
                groups, generator=generator, over=over, colours=recipes
            )
            shown.append(picture(figure, f"curves-{index}-{over}", f"{task}, {caption}"))
    return section(
        "Learning curves",
        pictures(shown) or note("No run holds an evaluation yet."),
        note(
            "Thick: interquartile mean over runs, with its pointwise 95 % bootstrap band; faint "
            "where some runs of the group have no data. Thin: single runs." + _scalings(by_task)
        ),
    )


def _scalings(by_task: dict[str, Groups]) -> str:
    every = (run for groups in by_task.values() for runs in groups.values() for run in runs)
    scalings = dict.fromkeys(run.scaling for run in every if run.scaling)
    return f" Time constants: {'; '.join(scalings)}." if scalings else ""


def _tables(by_task: dict[str, Groups], generator: np.random.Generator) -> str:
    return section("Final returns", *(_table(*item, generator) for item in by_task.items()))


def _table(task: str, groups: Groups, generator: np.random.Generator) -> str:
    final = finals(groups)
    if final is None:
        return f"<h3>{text(task)}</h3>" + note("No run holds an evaluation yet.")
    common, ends, compared = final.common, final.ends, final.runs
    scores = {label: list(own.values()) for label, own in final.scores.items()}
    first = next(recipe for recipe in scores if scores[recipe])
    rows = []
    for recipe, runs in compared.items():
        if not scores[recipe]:
            rows.append((recipe, "0", *(numbers.MISSING,) * 10))
            continue
        middle = bootstrap_interval(scores[recipe], generator=generator)
        difference, difference_bounds = "reference", ""
        if recipe != first:
            gap = difference_interval(scores[recipe], scores[first], generator=generator)
            difference = numbers.signed(gap.value)
            difference_bounds = numbers.interval(gap.low, gap.high, signs=True)
        rows.append(
            (
                recipe,
                str(len(scores[recipe])),
                numbers.significant(middle.value, 4),
                numbers.interval(middle.low, middle.high),
                difference,
                difference_bounds,
                numbers.significant(_mean([_height(run, common) for run in runs]), 4),
                numbers.share(_mean([ledger_ratio(run, "parameters") for run in runs])),
                numbers.share(_mean([ledger_ratio(run, "training_flops") for run in runs])),
                numbers.share(_mean([ledger_ratio(run, "inference_flops") for run in runs])),
                numbers.duration(_mean([run.wall_seconds for run in runs])),
                numbers.count(_mean([speed(run) for run in runs])),
            )
        )
    columns = (
        Column("recipe", False), Column("runs"), Column("final return (IQM)"),
        Column("95 % interval"), Column(f"difference to {first}"),
        Column("95 % interval"), Column("mean while training"),
        Column("parameters kept"), Column("training FLOPs kept"),
        Column("inference FLOPs kept"), Column("training time"), Column("steps/s"),
    )  # fmt: skip
    remarks = []
    if left_out := [run.name for run in ends if ends[run] < common]:
        remarks.append(
            f"Not finished and left out of the table, because they did not get to step "
            f"{numbers.count(common)}: {_some(left_out)}."
        )
    if common < max(ends.values()):
        shortest = [run.name for run in ends if ends[run] == common]
        remarks.append(
            f"The runs have different lengths: returns are compared at step "
            f"{numbers.count(common)}, where the shortest end ({_some(shortest)})."
        )
    return f"<h3>{text(task)}</h3>" + table(columns, rows) + "".join(map(note, remarks))


def _caveats(by_task: dict[str, Groups]) -> str:
    remarks = [
        "Final return: mean of a run's evaluations in the last tenth of its steps, IQM over runs; "
        "its interval is a percentile bootstrap over runs. With few runs such intervals are too "
        "narrow: of nominal 95 % intervals 50 % hold the truth with 2 runs, 75 % with 3, 90 % "
        "with 5, 94 % with 10 (IQM of normal data).",
        "Mean while training: area under a run's curve, from its first evaluation on, per step.",
    ]
    for task, groups in by_task.items():
        for recipe, runs in groups.items():
            place = f"{recipe} on {task}"
            if differing := _differing_settings(runs):
                remarks.append(f"{place}: the runs differ in more than the seed: {differing}.")
            seeds = [run.seed for run in runs]
            repeated = sorted({str(seed) for seed in seeds if seeds.count(seed) > 1})
            if repeated:
                remarks.append(
                    f"{place}: seed {', '.join(repeated)} occurs more than once; such runs are not "
                    "independent, so the interval is too narrow."
                )
            if unfinished := [run.name for run in runs if not run.finished]:
                remarks.append(f"{place}: not finished: {_some(unfinished)}.")
        machines = {run.processor for runs in groups.values() for run in runs} - {""}
        if len(machines) > 1:
            remarks.append(
                f"{task}: the runs ran on different processors ({', '.join(sorted(machines))}); "
                "their times do not compare."
            )
    return section("How to read this", *map(note, remarks))


def _list(runs: Sequence[RunData]) -> str:
    columns = (
        Column("run", False), Column("recipe", False), Column("environment", False),
        Column("seed"), Column("steps"), Column("final return"), Column("command", False),
    )  # fmt: skip
    rows = []
    for run in runs:
        rows.append(
            (
                run.name,
                run.recipe,
                run.task,
                run.seed if run.seed is not None else numbers.MISSING,
                numbers.count(run.steps) + ("" if run.finished else " (unfinished)"),
                numbers.significant(final_return(run), 4),
                command(run),
            )
        )
    return section("Runs", folded(f"all {len(runs)} runs and their commands", table(columns, rows)))


def _height(run: RunData, common: float) -> float | None:
    """Mean height of a run's curve from its first evaluation to the common step."""
    steps, returns = run.column("evaluation", "return_mean")
    if not steps[0] < common <= steps[-1]:
        return None
    return area(steps, returns, stop=common) / (common - float(steps[0]))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _differing_settings(runs: Sequence[RunData]) -> str:
    """Names of the settings in which the runs' configurations differ, the seed apart."""
    settings: list[dict[str, Any]] = [
        dict(flattened(run.config.get("config") or {})) for run in runs
    ]
    names = sorted({name for setting in settings for name in setting})
    differing = [
        name
        for name in names
        if name.rsplit(".", 1)[-1] != "seed"
        and len({repr(setting.get(name)) for setting in settings}) > 1
    ]
    return _some(differing)


def _some(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
