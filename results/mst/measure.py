"""What the scripts here share: one run of a recipe, in a folder of its own, and its row.

A task is a recipe with its arguments, a variant of its configuration and a seed. Its run lies in a
folder that is resumed where it was stopped, and its row is appended when it is finished, so
repeating a command goes on; its checkpoints are deleted then. A run whose loss is no number any
more has a row as well, of infinite loss, so that one bad setting stops nothing. Two runs at a time,
one thread each, see the same tokens in the same order where seed and batch are equal. Nothing was
tuned or chosen on seeds below 1000, or on the works that the comparison is held on: trials hold out
works of the training side instead.
"""

from __future__ import annotations

import argparse
import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from thrifty.lm import bpe, corpus, tokens
from thrifty.lm.gpt import GPTConfig
from thrifty.recipes import mst
from thrifty.runs import Run, execute, read_records, tasks

Task = dict[str, Any]
HERE = Path(__file__).parent
STEPS = 2500
"""Steps of a run at full length: 5.1 million tokens."""
LEAST_INTERVAL = 25
"""Steps between two exchanges of links, however short the run is."""
TUNED_ON = frozenset({"merchant_of_venice", "othello", "richard_ii", "two_gentlemen_of_verona"})
"""Works of the training side that trials hold out: comedies, a tragedy and a history, 9.3 %."""
TUNING_TEXT = "tuning_text"
"""Folder among the runs of their token files."""
_TASK = ("recipe", "arguments", "changes", "steps", "seed", "text")
_TOY = GPTConfig(layers=1, heads=2, width=32, context=256, biases=False)


@dataclass(frozen=True)
class Study:
    """Where rows and runs lie, how long runs are, and how many are made at a time."""

    out: Path
    runs: Path
    steps: int
    processes: int
    toy: bool


def study(about: str | None) -> Study:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--toy", action="store_true", help="tiny models, to try the script")
    parser.add_argument("--out", type=Path, help="folder of the CSV files; by default this one")
    parser.add_argument("--runs", type=Path, default=Path("runs/mst"), help="folder of the runs")
    parser.add_argument("--processes", type=int, default=2, help="runs at a time")
    given = parser.parse_args()
    # Rows of a trial never stand among those of the evidence.
    out = given.out or (given.runs / "toy" if given.toy else HERE)
    return Study(out, given.runs, 20 if given.toy else STEPS, given.processes, given.toy)


def task(
    recipe: str,
    seed: int,
    steps: int,
    arguments: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
    text: Literal["held out", "tuning"] = "held out",
) -> Task:
    """Return a task.

    Args:
        recipe: its name in `thrifty.recipes.mst`.
        seed: of the run.
        steps: of a run at full length; `dense_steps` takes a quarter.
        arguments: more arguments of the recipe.
        changes: of the configuration, "optimizer.learning_rate" or "sparsity.grow" for example;
            "sparsity.interval" is the share of the run between two exchanges of links, which are
            at least `LEAST_INTERVAL` steps.
        text: what its losses are of: the held-out side, or works that trials may see.
    """
    return {
        "recipe": recipe,
        "arguments": json.dumps(arguments or {}, sort_keys=True),
        "changes": json.dumps(changes or {}, sort_keys=True),
        "steps": steps // 4 if recipe == "dense_steps" else steps,
        "seed": seed,
        "text": text,
    }


def tuning_text(folder: Path) -> None:
    """Write the training side of the embedded corpus as token files, some works held out.

    Args:
        folder: of the files; what is there already is left.
    """
    training, _ = corpus.sides(corpus.embedded())
    held_out = [text for text in training if TUNED_ON & set(text.works)]
    sides = {"train": [text for text in training if text not in held_out], "val": held_out}
    folder.mkdir(parents=True, exist_ok=True)
    for side, texts in sides.items():
        if not (folder / f"{side}.bin").exists():
            tokens.write(folder / f"{side}.bin", [text.text for text in texts], bpe.embedded())
    bpe.embedded().write(folder / "merges.txt")


def complete(name: str, wanted: Iterable[Task], of: Study) -> list[tasks.Row]:
    """Make the rows that a CSV file lacks and return all."""
    path, wanted = of.out / f"{name}.csv", list(wanted)
    if any(one["text"] == "tuning" for one in wanted):
        tuning_text(of.runs / TUNING_TEXT)
    return tasks.complete(
        path, wanted, partial(work, runs=of.runs, toy=of.toy), processes=of.processes
    )


def configuration(one: Task, *, toy: bool) -> Any:
    """Return the configuration of a task."""
    arguments = {"steps": one["steps"], **json.loads(one["arguments"])}
    config = getattr(mst, one["recipe"])(**arguments)
    parts: dict[str, dict[str, Any]] = {"optimizer": {}, "sparsity": {}, "model": {}}
    for name, value in json.loads(one["changes"]).items():
        part, _, field = name.partition(".")
        if field == "interval":
            field, value = "update_every", max(LEAST_INTERVAL, round(value * one["steps"]))
        parts[part][field] = value
    for part, changed in parts.items():
        config = replace(config, **{part: replace(getattr(config, part), **changed)})
    if toy:
        config = replace(config, model=_TOY, batch_size=2, evaluation_tokens=1024, sample_tokens=0)
        if config.sparsity.kind == "phases":
            config = replace(config, sparsity=replace(config.sparsity, block=1, flops=0.7))
    return config


def work(one: Task, *, runs: Path, toy: bool) -> Task:
    """Run (or resume) a task and return what a table holds of it."""
    words = [one["recipe"], one["arguments"], one["changes"], one["steps"], one["seed"]]
    name = "-".join("".join(c for c in str(word) if c.isalnum() or c in "._") for word in words)
    config = configuration(one, toy=toy)
    if one["text"] == "tuning":
        config = replace(config, data=str(runs / TUNING_TEXT))
    arguments = {"steps": one["steps"], **json.loads(one["arguments"])}
    run = Run(
        recipe=f"mst.{one['recipe']}",
        arguments=arguments,
        config=config,
        seed=one["seed"],
        directory=runs / name.strip("-"),
        threads=1,
    )
    try:
        if execute(run, progress=False).status != "done":
            raise KeyboardInterrupt
        row = row_of(list(read_records(run.directory)))
    except ValueError as problem:
        if "diverged" not in str(problem):  # as the loss, a score and a record say it
            raise
        row = diverged(list(read_records(run.directory)))
    for path in run.directory.glob("checkpoint-*.npz"):
        path.unlink()
    print(f"{run.directory.name}: loss {row['loss']}, {row['seconds']:.0f} s", flush=True)
    return row


def row_of(records: list[Mapping[str, Any]]) -> Task:
    """Return what a table holds of a finished run's records."""
    evaluations = [record for record in records if record["kind"] == "evaluation"]
    last, before = evaluations[-1], evaluations[:-1]
    return _row(
        records,
        loss=round(last["loss"], 5),
        bits_per_byte=round(last["bits_per_byte"], 5),
        # The last evaluation takes all held-out tokens: the others are compared alone.
        rise=round(before[-1]["loss"] - min(one["loss"] for one in before), 5),
        flops=last["flops_square"],
        flops_causal=last["flops_causal"],
    )


def diverged(records: list[Mapping[str, Any]]) -> Task:
    """Return what a table holds of a run whose loss is no number any more: planned FLOPs."""
    start = records[0]
    square, causal = (
        start["flops_ratio"][name] * start["dense_flops"][name] for name in ("square", "causal")
    )
    no = math.inf
    return _row(records, loss=no, bits_per_byte=no, rise=no, flops=square, flops_causal=causal)


def _row(records: list[Mapping[str, Any]], **found: float) -> Task:
    start = records[0]
    return found | {
        "parameters": start["parameters"],
        "ultra_density": start["ultra_density"] and round(start["ultra_density"], 4),
        "backend": start["backend"],
        "flops_ratio": round(found["flops"] / start["dense_flops"]["square"], 5),
        "cpu_seconds": round(records[-1]["wall_cpu_seconds"], 1),
        "seconds": round(records[-1]["wall_seconds"], 1),
    }


def current(rows: list[tasks.Row], wanted: Iterable[Task]) -> list[tasks.Row]:
    """Return the rows of tasks, in their order; rows of other settings are left out.

    An earlier tuning, or a trial, leaves such rows.
    """
    found = {tuple(row[name] for name in _TASK): row for row in rows}
    keys = [tuple(str(one[name]) for name in _TASK) for one in wanted]
    return [found[key] for key in keys if key in found]


def write_settings(path: Path, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the changes that were best, by recipe, for `chosen`."""
    lines = []
    for recipe, changes in settings.items():
        lines += [f"[{recipe}]", *(f'"{n}" = {json.dumps(v)}' for n, v in changes.items()), ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def after(of: Study, *scripts: str) -> None:
    """Refuse to run before scripts that choose settings: a table would mix what they change.

    Raises:
        SystemExit: names the script to run.
    """
    for name in scripts:
        if not (of.out / f"{name}.toml").exists():
            raise SystemExit(f"{of.out / name}.toml is missing: run {name}.py to its end before")


def chosen(by: str, recipe: str, out: Path) -> dict[str, Any]:
    """Return the changes that a script has chosen for a recipe; none where it has not been done.

    Args:
        by: the script, tuning or parts.
        recipe: its name.
        out: folder of the tables.
    """
    path = out / f"{by}.toml"
    found = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return dict(found.get(recipe, {}))
