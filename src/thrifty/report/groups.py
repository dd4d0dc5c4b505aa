"""Runs in groups: one recipe with one choice of settings on one task; members differ in their seed.

A group is named by its recipe, and by those settings that differ among the runs of the recipe; by
its length as well where that alone tells runs of one task apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thrifty.report.run_data import RunData
from thrifty.report.single import final_return

Groups = dict[str, list[RunData]]
_NO_SETTING = ("environment", "env", "steps")  # columns of their own


def settings_of(run: RunData) -> dict[str, str]:
    """Return what a run was told beside its recipe, task, length and seed, by name.

    Arguments of the recipe (also those left at their default) and the flags that overrode fields.
    """
    arguments = run.config.get("arguments")
    told = {
        name: str(value)
        for name, value in (arguments.items() if isinstance(arguments, Mapping) else ())
        if name not in _NO_SETTING
    }
    name = ""
    for word in map(str, run.config.get("overrides") or ()):
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            told[name] = value
        elif name:
            told[name] = f"{told[name]} {word}".strip()
    return {key: value for key, value in told.items() if key not in _NO_SETTING}


def labels(runs: Sequence[RunData]) -> list[str]:
    """Return the group's name of each run, such as "rlx2.rigl (learner=sac)".

    Runs of one task that differ in nothing but their length are told apart by it: time constants
    are fractions of the run.
    """
    settings = [settings_of(run) for run in runs]
    told: list[list[str]] = []
    lengths: dict[tuple[str, ...], set[int | None]] = {}
    for run, own in zip(runs, settings, strict=True):
        pairs = zip(runs, settings, strict=True)
        alike = [other for one, other in pairs if one.recipe == run.recipe]
        names = sorted({name for other in alike for name in other})
        differing = [
            f"{name}={own.get(name, 'default') or 'on'}"
            for name in names
            if len({other.get(name) for other in alike}) > 1
        ]
        told.append(differing)
        lengths.setdefault((run.task, run.recipe, *differing), set()).add(run.planned_steps)
    named = []
    for run, words in zip(runs, told, strict=True):
        if len(lengths[(run.task, run.recipe, *words)]) > 1:
            words = [*words, f"steps={run.planned_steps}"]
        named.append(f"{run.recipe} ({', '.join(words)})" if words else run.recipe)
    return named


def instances(runs: Sequence[RunData]) -> list[str]:
    """Return each run's task, with the settings in which its instance differs from namesakes.

    Such as "lava_grid (slip=0.1)": equal names need not be equal problems.
    """
    settings = []
    for run in runs:
        config = run.config.get("config")
        instance = config.get("instance") if isinstance(config, Mapping) else None
        settings.append(dict(instance) if isinstance(instance, Mapping) else {})
    named = []
    for run, own in zip(runs, settings, strict=True):
        alike = [other for one, other in zip(runs, settings, strict=True) if one.task == run.task]
        differing = [
            f"{name}={value}"
            for name, value in own.items()
            if any(other.get(name) != value for other in alike)
        ]
        named.append(f"{run.task} ({', '.join(differing)})" if differing else run.task)
    return named


def by_task(runs: Sequence[RunData]) -> dict[str, Groups]:
    """Return the runs by task and then by the name of their group, in order of appearance."""
    tasks: dict[str, Groups] = {}
    for run, label in zip(runs, labels(runs), strict=True):
        tasks.setdefault(run.task, {}).setdefault(label, []).append(run)
    return tasks


@dataclass(frozen=True)
class Finals:
    """Final returns of the groups of one task, at the step that all finished runs have reached."""

    common: float
    """The step at which they are compared."""
    ends: Mapping[RunData, float]
    """The last evaluation's step of every run that has one."""
    runs: Groups
    """The runs of each group that have reached the common step."""
    scores: Mapping[str, Mapping[Any, float]]
    """Of each group: final returns by run."""


def finals(groups: Groups) -> Finals | None:
    """Return the final returns of groups on one task; None where no run holds an evaluation.

    A run at work or one that died early does not pull all others back to its own last step.
    """
    ends = {
        run: float(steps[-1])
        for runs in groups.values()
        for run in runs
        if (steps := run.column("evaluation", "return_mean")[0]).size
    }
    if not ends:
        return None
    finished = [end for run, end in ends.items() if run.finished]
    common = min(finished or ends.values())
    compared = {
        label: [run for run in runs if ends.get(run, -1.0) >= common]
        for label, runs in groups.items()
    }
    scores = {
        label: {run: score for run in runs if (score := final_return(run, common)) is not None}
        for label, runs in compared.items()
    }
    return Finals(common, ends, compared, scores)
