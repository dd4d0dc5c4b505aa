"""`thrifty report`: one self-contained HTML file about one run, or about several."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thrifty.report import comparison, episodic, numbers, single, team
from thrifty.report.elements import document
from thrifty.report.run_data import RunData, load_run


def write_report(directories: Sequence[Path | str], out: Path | str | None = None) -> Path:
    """Write the report of one or several runs as an HTML file that needs nothing beside it.

    Equal runs give an equal file: bootstrap resamples come from a fixed seed.

    Args:
        directories: run directories; repeats count once. The first one's recipe is what the
            others are compared with.
        out: the file to write, or a folder that gets a `report.html`. None: into the run's own
            folder; of several runs into the folder in which all of them lie.

    Returns:
        The path of the file.

    Raises:
        ValueError: no runs, a folder that is no run, several runs in different folders without
            `out`, or a place that cannot be written.

    Example:
        >>> write_report(["runs/x"])  # doctest: +SKIP
        PosixPath('runs/x/report.html')
    """
    folders = list(
        {Path(directory).resolve(): Path(directory) for directory in directories}.values()
    )
    if not folders:
        raise ValueError("there is no run to report on; give at least one run directory")
    runs = [load_run(folder) for folder in folders]
    target = _target(folders, out)
    html = render(runs)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(html, encoding="utf-8")
        os.replace(temporary, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ValueError(
            f"{target} cannot be written ({error.strerror}); choose another --out"
        ) from None
    return target


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
        of_episodes = episodic.is_episodic(run)
        unit = "episodes" if of_episodes else "environment steps"
        parts += [f"{numbers.count(run.steps)} {unit}", run.name]
        if of_episodes:
            content = episodic.sections(run)
        elif team.is_team(run):
            content = team.sections(run)
        else:
            content = single.sections(run)
        return document(f"{run.recipe} on {run.task}", " · ".join(parts), content)
    tasks = list(dict.fromkeys(run.task for run in runs))
    recipes = list(dict.fromkeys(run.recipe for run in runs))
    title = f"{', '.join(recipes)} on {', '.join(tasks)}"
    if len(title) > 90:
        title = f"{len(recipes)} recipes on {len(tasks)} environments"
    subtitle = f"{len(runs)} runs"
    if all(episodic.is_episodic(run) for run in runs):
        return document(title, subtitle, episodic.comparison(runs))
    return document(title, subtitle, comparison.sections(runs, np.random.default_rng(0)))


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
