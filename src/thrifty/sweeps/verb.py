"""`thrifty sweep`: train many runs, and say how it went and what can be done next."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

_RECIPES = "thrifty.recipes"
_MOST_WORKERS = 10_000


def sweep(
    recipes: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RECIPE [RECIPE ...]", help_behavior_hint=""),
    ] = (),
    /,
    *,
    seeds: Annotated[str, tyro.conf.arg(metavar="0-9")] = "0",
    settings: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(name="set", metavar="NAME=VALUE,VALUE", help_behavior_hint=""),
    ] = (),
    workers: Annotated[
        int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: the cores here)")
    ] = None,
    out: Annotated[Path, tyro.conf.arg(metavar="PATH")] = Path("runs/sweep"),
    launcher: Literal["local", "ray", "slurm"] = "local",
    launcher_set: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="NAME=VALUE", help_behavior_hint=""),
    ] = (),
    retries: int = 2,
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> int:
    """Train many runs: every recipe, with every combination of settings, with every seed.

    One process and one thread a run. Repeating the command goes on: what is done is skipped, what
    was stopped is resumed from its checkpoint, what another process works on is left to it. A run
    whose process dies is started again. Ctrl-C stops all with checkpoints. Afterwards
    `thrifty report PATH` compares them.

    A recipe may bring flags of its own: "rlx2.rigl --learner sac". Exit status: 0, 1 where a run
    failed, 2 for a mistake (then nothing was written), 130 after Ctrl-C.

    Args:
        recipes: recipes, as `thrifty list` names them, or package.module:function of your own.
        seeds: of every run: 0-9, or 0,3,5, or both: 0-4,7. All runs of the first seed come first.
        settings: a flag of `thrifty train RECIPE` and its values. May stand several times: every
            combination is run.
        workers: runs at the same time.
        out: the folder for the runs' folders.
        launcher: local: processes of this machine. ray: a Ray cluster (extra: ray). slurm: a Slurm
            cluster (extra: slurm). On clusters all machines must share PATH.
        launcher_set: ray: address=HOST:PORT, else a cluster of this machine alone. slurm:
            submitit's parameters, such as slurm_partition=cpu or timeout_min=240. May stand
            several times.
        retries: how often a run that died is started again.
        dry_run: say what would be done, and do nothing.
        quiet: no table.
    """
    from rich.console import Console

    from thrifty.runs.launchers import launcher_named, read_parameters
    from thrifty.runs.sweep import run_sweep, standing_of
    from thrifty.runs.sweep_table import SweepTable
    from thrifty.sweeps.plan import plan, read_seeds, read_settings

    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if not 1 <= workers <= _MOST_WORKERS:
        raise ValueError(f"workers {workers} cannot be: give 1 to {_MOST_WORKERS:,}")
    if retries < 0:
        raise ValueError(f"retries {retries} are negative: give 0 or more")
    parameters = read_parameters(launcher, launcher_set)
    with contextlib.ExitStack() as stack:
        status: Any = None
        console = Console(stderr=True)
        if console.is_terminal and not quiet:
            status = stack.enter_context(console.status("checking"))
        jobs = plan(
            recipes,
            seeds=read_seeds(seeds),
            settings=read_settings(settings),
            out=out,
            namespace=_RECIPES,
            checking=lambda number, total: (
                status and status.update(f"checking configuration {number} of {total}")
            ),
        )
    if dry_run:
        for job in jobs:
            print(f"{standing_of(job):<10} {job.name}")
        return 0
    with contextlib.nullcontext() if quiet else SweepTable() as table:
        outcome = run_sweep(
            jobs,
            launcher_named(launcher, parameters, folder=out),
            workers=workers,
            retries=retries,
            show=table or (lambda places: None),
        )
    for name, message in outcome.failures:
        print(f"failed: {out / name}: {message}")
    print(f"{outcome.counts['done']} of {len(jobs)} runs done, in {out}")
    if outcome.interrupted:
        return 130
    if outcome.counts["done"]:
        print(f"report with: thrifty report {shlex.quote(str(out))}")
    return 1 if outcome.failures else 0
