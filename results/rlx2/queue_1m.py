"""The queue behind table_1m.md: one trick alone, other tasks, SAC, and the dense twins of both.

    python results/rlx2/queue_1m.py runs/1m --dry-run      # what there is, and how it stands
    python results/rlx2/queue_1m.py runs/1m --workers 2    # about half an hour a sparse run

1,000,000 steps on the engine at the published sparsities; dense twins 300,000 steps on the
reference, with the warm-up and the evaluations of the long runs. What run_1m.sh makes (RLx2, RigL,
static and dense TD3 on HalfCheetah and Hopper) is not repeated here; the folder may be the same.

A sweep as `thrifty sweep` is one: a process and a thread a run, never two processes on one run;
whoever is killed loses at most a minute, and repeating the command goes on. Seeds stand outermost,
then environments, so that a stop at any time leaves a balanced table. A run whose copy in runs-1m
is finished is not run again.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from agents_1m import AGENTS, COMPARED, FINAL
from evidence_1m import RUNS, SEEDS

from thrifty import flags
from thrifty.runs import Run
from thrifty.runs.claim import holds_run
from thrifty.runs.local_pool import LocalPool
from thrifty.runs.naming import resolve
from thrifty.runs.store import read_done
from thrifty.runs.sweep import run_sweep, standing_of
from thrifty.runs.sweep_table import SweepTable
from thrifty.runs.worker import Job

RECIPES = "thrifty.recipes"
# Of each environment, in the order in which they begin.
_ALONE = ("set_plus", "static_plus", "rigl_n_step", "rigl_replay")
_SAC = ("sac", "sac_rigl", "sac_dense")
_FURTHER = ("td3", "rigl", "static_plus", "dense")
QUEUED = {
    "HalfCheetah-v5": _ALONE + _SAC,
    "Hopper-v5": _ALONE + _SAC,
    "Walker2d-v5": _FURTHER,
    "Ant-v5": _FURTHER,
}

Entry = tuple[str, str, int]  # agent, environment, seed


def queue() -> list[Entry]:
    """Return every run in its order."""
    return [
        (agent, environment, seed)
        for seed in range(SEEDS)
        for environment, agents in QUEUED.items()
        for agent in agents
    ]


def run_of(entry: Entry, out: Path, *, steps: int = FINAL, dense_steps: int = COMPARED) -> Run:
    """Return an entry's run, as `thrifty train` would begin it.

    Args:
        entry: of the queue.
        out: the folder for the runs' folders, RECIPE-ENVIRONMENT-SEED as those of run_1m.sh.
        steps: of a sparse run.
        dense_steps: of a dense one, whose warm-up is that of a sparse one.
    """
    agent, environment, seed = entry
    recipe, *told = shlex.split(AGENTS[agent].words)
    length = ["--steps", str(steps), "--backend", "engine"]
    if recipe == "rlx2.dense":
        long = flags.read_train(
            resolve("rlx2.td3", RECIPES), ["--env", environment, *length], prog="queue_1m"
        ).config.resolved()
        length = ["--steps", str(dense_steps), "--backend", "reference"]
        length += ["--learning-starts", str(long.learning_starts)]
        length += ["--evaluate-every", str(long.evaluate_every)]
    command = flags.read_train(
        resolve(recipe, RECIPES), ["--env", environment, *told, *length], prog="queue_1m"
    )
    return Run(
        recipe=recipe,
        arguments=command.arguments,
        config=command.config,
        seed=seed,
        directory=out / f"{agent}-{environment}-{seed}",
        overrides=command.overrides,
    )


def jobs_of(runs: Sequence[Run], copies: Path = RUNS) -> list[Job]:
    """Return the jobs of the runs that no copy holds finished.

    Raises:
        ValueError: a folder or a copy holds another run.
    """
    jobs = []
    for run in runs:
        document = run.document()
        copy = copies / run.directory.name
        if holds_run(copy, document, run.completed) and read_done(copy) is not None:
            continue
        holds_run(run.directory, document, run.completed)
        jobs.append(
            Job(directory=str(run.directory.resolve()), document=document, namespace=RECIPES)
        )
    return jobs


def main() -> int:
    """Read the flags and work through the queue."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--dry-run", action="store_true")
    told = parser.parse_args()
    if told.workers < 1:
        parser.error("--workers must be at least 1")
    try:
        jobs = jobs_of([run_of(entry, told.out) for entry in queue()])
    except ValueError as problem:
        parser.error(str(problem))
    if told.dry_run:
        print(f"{len(queue()) - len(jobs)} finished, copies in {RUNS.name}")
        for job in jobs:
            print(f"{standing_of(job):<10} {job.name}")
        return 0
    with SweepTable() as table:
        outcome = run_sweep(jobs, LocalPool(), workers=told.workers, show=table)
    for name, message in outcome.failures:
        print(f"failed: {told.out / name}: {message}")
    print(f"{outcome.counts['done']} of {len(jobs)} runs done, in {told.out}")
    return 130 if outcome.interrupted else int(bool(outcome.failures))


if __name__ == "__main__":
    raise SystemExit(main())
