"""MAST at 90 and 95 % beside both denominators: plain dense QMIX, and dense with MAST's tricks.

    python results/mast/scores.py [--toy] [--only smax-3m] [--seeds 3]

SMAX 3m, 2s3z and the particle world's simple_spread for one million steps, 3s5z for two; 32 greedy
episodes every 10,000 steps, as published. Writes scores.csv, and random.csv: what random teams
bring in simple_spread, whose scores are counted from there.
"""

from __future__ import annotations

import argparse

import numpy as np
from measure import arguments, carry_out, task

from thrifty.marl.environments import make_team
from thrifty.marl.rollout import play
from thrifty.recipes import mast
from thrifty.runs.tasks import Task, complete

MAPS = {
    "smax-3m": 1_000_000,
    "smax-2s3z": 1_000_000,
    "mpe-simple_spread": 1_000_000,
    "smax-3s5z": 2_000_000,
}


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    maps, episodes, every, seeds = MAPS, 32, 10_000, options.seeds
    if options.toy:
        maps, episodes, every, seeds = {"skirmish": 4_000}, 8, 1_000, 1
    tasks = [
        row
        for seed in range(seeds)
        for name, steps in maps.items()
        for row in (
            task("dense", name, steps, seed),
            task("dense", name, steps, seed, tricks="mast"),
            task("mast", name, steps, seed, sparsity=0.9, tricks="mast"),
            task("mast", name, steps, seed, sparsity=0.95, tricks="mast"),
        )
    ]
    at_random(options)  # first: without it no return is a score
    carry_out("scores.csv", tasks, options, episodes=episodes, evaluate_every=every)


def at_random(options: argparse.Namespace) -> None:
    """Measure what random teams bring in simple_spread."""
    environment = "skirmish" if options.toy else "mpe-simple_spread"
    if options.only and environment not in options.only:
        return
    tasks = [{"environment": environment, "episodes": 32 if options.toy else 1024, "seed": 0}]
    complete(options.out / "random.csv", tasks, random_return, processes=1)


def random_return(task: Task) -> Task:
    """Play with random available actions."""
    team = make_team(task["environment"], 16, task["seed"])
    learner = mast.dense(task["environment"]).algorithm.build(team.spec, seed=task["seed"])
    rng = np.random.default_rng(task["seed"])
    totals: list[float] = []
    while len(totals) < task["episodes"]:
        team.restart(np.ones(team.copies, bool))
        totals += [one.total for one in play(team, learner, epsilon=1.0, rng=rng)]
    return {"return": round(float(np.mean(totals)), 4)}


if __name__ == "__main__":
    main()
