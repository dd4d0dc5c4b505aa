"""What the scripts here share: one run by its recipe, in a folder of its own, and rows of scores.

A task is a recipe with its arguments and a seed. Its run lies in a folder that is resumed where it
was stopped, and its row is appended when it is finished, so repeating a command goes on. Tasks are
ordered seed by seed, so that a stop leaves a balanced table.

Scores: ``last5`` is the mean of the last five evaluations, ``last20`` of the last twenty, in games
won (SMAX) or return (the particle world). Nothing was tuned on these seeds.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Before JAX is loaded: one thread, as for torch.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import numpy as np

from thrifty.recipes import mast
from thrifty.runs import Run, execute, read_records

Task = dict[str, Any]
HERE = Path(__file__).parent


def arguments(about: str | None) -> argparse.Namespace:
    """Read --toy, --out and --runs."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--toy", action="store_true", help="tiny settings, to try the script")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the CSV files")
    parser.add_argument("--runs", type=Path, default=Path("runs/mast"), help="folder of the runs")
    return parser.parse_args()


def complete(path: Path, tasks: Iterable[Task], runs: Path, *, episodes: int) -> None:
    """Run the tasks that the file lacks, one after the other.

    Args:
        path: CSV file; recipe, environment, steps, sparsity, tricks and seed name a row.
        tasks: with these keys; sparsity and tricks may be None where a recipe has no such thing.
        runs: folder of the runs.
        episodes: of an evaluation.
    """
    done = {tuple(row[name] for name in KEYS) for row in read(path)}
    for task in tasks:
        if tuple(str(task[name]) for name in KEYS) in done:
            continue
        row = {name: task[name] for name in KEYS} | score(task, runs, episodes)
        new = not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(row, flush=True)


KEYS = ("recipe", "environment", "steps", "sparsity", "tricks", "seed")


def score(task: Task, runs: Path, episodes: int) -> dict[str, Any]:
    """Execute a task's run to its end and return its scores."""
    given = {"environment": task["environment"], "steps": task["steps"]}
    given |= {name: task[name] for name in ("sparsity", "tricks") if task[name] is not None}
    config = getattr(mast, task["recipe"])(**given)
    config = dataclasses.replace(config, evaluation_episodes=episodes)
    words = [str(task[name]) for name in KEYS if task[name] is not None]
    folder = runs / "-".join(words)
    run = Run(
        recipe=f"mast.{task['recipe']}",
        arguments=given,
        config=config,
        seed=task["seed"],
        directory=folder,
        overrides=("--evaluation-episodes", str(episodes)),
    )
    outcome = execute(run, progress=False)
    if outcome.status != "done":
        raise KeyboardInterrupt
    records = [r for r in read_records(folder) if r["kind"] == "evaluation"]
    wins = records[0]["win_rate"] is not None
    values = [r["win_rate" if wins else "return_mean"] for r in records]
    return {
        "metric": "win rate" if wins else "return",
        "last5": round(float(np.mean(values[-5:])), 4),
        "last20": round(float(np.mean(values[-20:])), 4),
        "first": round(float(values[0]), 4),
        "warnings": sum(r["kind"] == "warning" for r in read_records(folder)),
        "hours": round(outcome.wall_seconds / 3600, 3),
    }


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, as texts; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
