"""What the scripts here share: one run by its recipe, in a folder of its own, and rows of scores.

A task is a recipe with its arguments and a seed. Its run lies in a folder that is resumed where it
was stopped, and its row is appended when it is finished (`thrifty.runs.tasks`), so repeating a
command goes on. Tables share a run where the task and its evaluations are the same. Tasks are
ordered seed by seed, so that a stop leaves a balanced table.

Scores: ``last5`` is the mean of the last five evaluations, ``last20`` of the last twenty, in games
won (SMAX) or return (the particle world). Nothing was tuned on these seeds. A run whose values are
no numbers any more has a row as well, so that it stops nothing: from there on it wins no game, or
has the least return that it had.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

# Before JAX is loaded: one thread, as for torch.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import numpy as np

from thrifty.recipes import mast
from thrifty.runs import Run, execute, read_records
from thrifty.runs.tasks import Task, complete

HERE = Path(__file__).parent
SEEDS = 3


def arguments(about: str | None) -> argparse.Namespace:
    """Read --toy, --only, --seeds, --out, --runs and --processes."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--toy", action="store_true", help="tiny settings, to try the script")
    parser.add_argument("--only", nargs="+", help="of these environments alone, such as smax-3m")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many, from 0 on")
    parser.add_argument("--out", type=Path, help="folder of the CSV files; by default this one")
    parser.add_argument("--runs", type=Path, default=Path("runs/mast"), help="folder of the runs")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time, a thread each")
    given = parser.parse_args()
    # Rows of a trial never stand among those of the evidence.
    given.out = given.out or (given.runs / "toy" if given.toy else HERE)
    return given


def task(recipe: str, environment: str, steps: int, seed: int, **others: Any) -> Task:
    """Return a task; sparsity and tricks are empty where a recipe has no such thing."""
    named = {"sparsity": "", "tricks": "none"} | others
    return {"recipe": recipe, "environment": environment, "steps": steps, **named, "seed": seed}


def carry_out(
    name: str,
    tasks: Iterable[Task],
    options: argparse.Namespace,
    *,
    episodes: int,
    evaluate_every: int,
) -> None:
    """Run the tasks that a table lacks.

    Args:
        name: of the CSV file.
        tasks: from :func:`task`.
        options: from :func:`arguments`.
        episodes: of an evaluation.
        evaluate_every: environment steps between evaluations.
    """
    wanted = [one for one in tasks if not options.only or one["environment"] in options.only]
    work = partial(score, runs=options.runs, episodes=episodes, evaluate_every=evaluate_every)
    complete(options.out / name, wanted, work, processes=options.processes)


def folder_of(task: Task, runs: Path, episodes: int, evaluate_every: int) -> Path:
    """Return where the run of a task lies; a run that is evaluated otherwise lies elsewhere."""
    words = [str(value) for value in task.values() if value != ""]
    return runs / "-".join([*words, f"{episodes}x{evaluate_every}"])


def score(task: Task, *, runs: Path, episodes: int, evaluate_every: int) -> dict[str, Any]:
    """Execute a task's run to its end and return its scores."""
    given = {"environment": task["environment"], "steps": task["steps"]}
    if task["sparsity"] != "":
        given["sparsity"] = task["sparsity"]
    if task["recipe"] not in ("mast", "rlx2"):
        given["tricks"] = task["tricks"]
    config = dataclasses.replace(
        getattr(mast, task["recipe"])(**given),
        evaluation_episodes=episodes,
        evaluate_every=evaluate_every,
    )
    folder = folder_of(task, runs, episodes, evaluate_every)
    run = Run(
        recipe=f"mast.{task['recipe']}",
        arguments=given,
        config=config,
        seed=task["seed"],
        directory=folder,
        overrides=(
            *("--evaluation-episodes", str(episodes)),
            *("--evaluate-every", str(evaluate_every)),
        ),
    )
    try:
        if execute(run, progress=False).status != "done":
            raise KeyboardInterrupt
    except ValueError as problem:
        if "diverged" not in str(problem):  # as a record and a score say it
            raise
    records = read_records(folder)
    for path in folder.glob("checkpoint-*.npz"):
        path.unlink()
    shutil.rmtree(folder / "journal", ignore_errors=True)
    return row_of(records, 1 + task["steps"] // evaluate_every)


def row_of(records: list[Mapping[str, Any]], evaluations: int) -> dict[str, Any]:
    """Return what a table holds of a run's records.

    Args:
        records: of a run that is done, or has diverged.
        evaluations: of a run that is done.
    """
    found = [r for r in records if r["kind"] == "evaluation"]
    wins = found[0]["win_rate"] is not None
    values = [float(r["win_rate" if wins else "return_mean"]) for r in found]
    diverged = records[-1]["kind"] != "end"
    if diverged:
        values += [0.0 if wins else min(values)] * (evaluations - len(values))
    (start,) = (r for r in records if r["kind"] == "start")
    return {
        "metric": "win rate" if wins else "return",
        "last5": round(float(np.mean(values[-5:])), 4),
        "last20": round(float(np.mean(values[-20:])), 4),
        "first": round(values[0], 4),
        "curve": " ".join(f"{value:.4g}" for value in values),
        "backend": start["backend"],
        "warnings": sum(r["kind"] == "warning" for r in records),
        "diverged": int(diverged),
        "cpu_seconds": round(records[-1]["wall_cpu_seconds"], 1),
        "seconds": round(records[-1]["wall_seconds"], 1),
    }
