"""What the scripts here share: one training run.

A script makes a list of tasks and has :func:`thrifty.runs.tasks.complete` run those whose row is
not in its CSV file yet: stopping and repeating the command goes on, also within a run, which keeps
its checkpoints in runs/rsd4 until its row is written.

Settings were chosen on seeds from 100 on, before any of these runs; these have seeds below 100.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from thrifty.runs import Run, execute, read_records
from thrifty.runs.naming import resolve
from thrifty.runs.tasks import Task, circumstances, complete, read

__all__ = ["circumstances", "complete", "read"]
HERE = Path(__file__).parent


def train(task: Task, folder: Path, **settings: Any) -> list[Mapping[str, Any]]:
    """Run (or resume) a recipe and return its records.

    Args:
        task: recipe, scenario, seed.
        folder: of the checkpoints.
        settings: more arguments of the recipe.
    """
    arguments = dict(settings)
    recipe = task["recipe"]
    name = f"rsd4.{recipe}"
    if recipe != task["scenario"].lower():
        arguments["scenario"] = task["scenario"]
    config = resolve(name, "thrifty.recipes")(**arguments)
    directory = folder / f"{recipe}-{task['scenario']}-seed{task['seed']}"
    run = Run(
        recipe=name, arguments=arguments, config=config, seed=task["seed"], directory=directory
    )
    if execute(run, progress="force").status != "done":
        raise SystemExit(130)
    return list(read_records(directory))


def row_of(records: Iterable[Mapping[str, Any]]) -> Task:
    """Return what a table holds of a run."""
    by_kind = {record["kind"]: record for record in records}
    start, test, end = by_kind["start"], by_kind["test"], by_kind["end"]
    names = (
        "throughput", "off_budget", "optimum", "optimum_at_energy", "of_optimum",
        "of_optimum_at_energy", "paired", "paired_error", "table_throughput", "fairness",
    )  # fmt: skip
    points = by_kind["curve"]["points"]
    curve = [[sum(one["energy"]), one["throughput"], one["of_optimum_at_energy"]] for one in points]
    return {
        "agent": start["algorithm"],
        "steps": start["steps"],
        "episodes": test["episodes"],
        "energy": json.dumps([round(one, 4) for one in test["energy"]]),
        "multiplier": json.dumps([round(one, 5) for one in test["multiplier"]]),
        **{name: round(test[name], 5) for name in names},
        "cpu_seconds": round(end["wall_cpu_seconds"], 1),
        "seconds": round(end["wall_seconds"], 1),
        "miss_ratio": json.dumps([round(one, 4) for one in test["miss_ratio"]]),
        "curve": json.dumps([[round(number, 4) for number in point] for point in curve]),
    }


def forget(task: Task, folder: Path) -> None:
    """Remove the checkpoints of a run whose row is written; the records stay."""
    directory = folder / f"{task['recipe']}-{task['scenario']}-seed{task['seed']}"
    for path in directory.glob("checkpoint-*.npz"):
        path.unlink()
    shutil.rmtree(directory / "journal", ignore_errors=True)
