"""`thrifty report`: one self-contained HTML file about one run, or about several."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thrifty.report import comparison, episodic, language, numbers, scheduling, single, team
from thrifty.report.elements import document
from thrifty.report.run_data import RunData, load_run
from thrifty.report.run_table import run_table


class _Kind(NamedTuple):
    """How runs of a kind are recognised and told."""

    is_one: Callable[[RunData], bool]
    sections: Callable[[RunData], list[str]]
    comparison: Callable[[Sequence[RunData]], list[str]]


# By what their steps are called; runs of none of them count environment steps.
_KINDS = {
    "episodes": _Kind(episodic.is_episodic, episodic.sections, episodic.comparison),
    "optimizer steps": _Kind(language.is_language, language.sections, language.comparison),
    "slots": _Kind(scheduling.is_scheduling, scheduling.sections, scheduling.comparison),
}


def write_report(
    directories: Sequence[Path | str],
    out: Path | str | None = None,
    table: Path | str | None = None,
) -> Path:
    """Write the report of one or several runs as an HTML file that needs nothing beside it.

    Equal runs give an equal file: bootstrap resamples come from a fixed seed.

    Args:
        directories: run directories, or folders that hold some (a sweep's); repeats count once.
            The first one's recipe is what the others are compared with.
        out: the file to write, or a folder that gets a `report.html`. None: into the run's own
            folder; of several runs into the folder in which all of them lie.
        table: a CSV file to write as well, one row a run; None: none.

    Returns:
        The path of the file.

    Raises:
        ValueError: no runs, a folder that is no run, several runs in different folders without
            `out`, or a place that cannot be written.

    Example:
        >>> write_report(["runs/x"])  # doctest: +SKIP
        PosixPath('runs/x/report.html')
    """
    found = [run for directory in directories for run in run_folders(Path(directory))]
    folders = list({folder.resolve(): folder for folder in found}.values())
    if not folders:
        raise ValueError("there is no run to report on; give at least one run directory")
    runs = [load_run(folder) for folder in folders]
    target = _target(folders, out)
    write_file(target, render(runs), "--out")
    if table is not None:
        write_file(Path(table), run_table(runs), "--csv")
    return target


def run_folders(folder: Path) -> list[Path]:
    """Return the run folders that a folder stands for: itself, or the runs in it, by name.

    A folder that is neither is returned as it is, for `load_run` to say so. A page or a table that
    lies among them, as `runs/*` names it after an earlier report, stands for none.
    """
    if folder.suffix in (".html", ".csv") and folder.is_file():
        return []
    if (folder / "config.json").is_file():
        return [folder]
    inside = sorted(path.parent for path in folder.glob("*/config.json"))
    return inside or [folder]


def write_file(target: Path, content: str, flag: str) -> None:
    """Write a text file, the whole of it or nothing.

    Args:
        target: the file; its folder is made.
        content: the text.
        flag: of the command line, by which another file can be chosen.

    Raises:
        ValueError: it cannot be written.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(content, encoding="utf-8")
        os.replace(temporary, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ValueError(
            f"{target} cannot be written ({error.strerror}); choose another {flag}"
        ) from None


def render(runs: Sequence[RunData]) -> str:
    """The page of one or several runs as HTML.

    Args:
        runs: at least one.
    """
    assert runs
    if len(runs) == 1:
        run = runs[0]
        algorithm = run.first("start").get("algorithm")
        parts = [str(algorithm)] if algorithm else []
        parts += [f"seed {run.seed}"] if run.seed is not None else []
        (kind,) = _by_kind(runs)
        unit = "environment steps" if kind is None else kind
        of_steps = team.sections if team.is_team(run) else single.sections
        sections = of_steps if kind is None else _KINDS[kind].sections
        parts += [f"{numbers.count(run.steps)} {unit}", run.name]
        content = sections(run)
        return document(f"{run.recipe} on {run.task}", " · ".join(parts), content)
    tasks = list(dict.fromkeys(run.task for run in runs))
    recipes = list(dict.fromkeys(run.recipe for run in runs))
    title = f"{', '.join(recipes)} on {', '.join(tasks)}"
    if len(title) > 90:
        title = f"{len(recipes)} recipes on {len(tasks)} environments"
    subtitle = f"{len(runs)} runs"
    content = []
    for kind, own in _by_kind(runs).items():
        if kind is None:
            content += comparison.sections(own, np.random.default_rng(0))
        else:
            content += _KINDS[kind].comparison(own)
    return document(title, subtitle, content)


def _by_kind(runs: Sequence[RunData]) -> dict[str | None, list[RunData]]:
    """Return the runs by their kind, those of none under None, which comes first."""
    found: dict[str | None, list[RunData]] = {None: []}
    for run in runs:
        name = next((name for name, kind in _KINDS.items() if kind.is_one(run)), None)
        found.setdefault(name, []).append(run)
    return {name: own for name, own in found.items() if own}


def _target(folders: Sequence[Path], out: Path | str | None) -> Path:
    if out is not None:
        out = Path(out)
        return out / "report.html" if out.is_dir() else out
    if len(folders) == 1:
        return folders[0] / "report.html"
    parents = {folder.resolve().parent for folder in folders}
    if len(parents) > 1:
        raise ValueError("the runs lie in different folders; say where with --out report.html")
    return folders[0].parent / "report.html"
