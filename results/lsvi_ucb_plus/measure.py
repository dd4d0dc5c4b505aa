"""What the scripts here share: the families, the learners, one run.

A script makes a list of tasks and has :func:`thrifty.runs.tasks.complete` run those whose row is
not in its CSV file yet: stopping and repeating the command goes on.

Tuning and evaluation draw different instances and different trajectories: seeds from TUNING on are
for tuning only. Seeds 0 to 9 are not used: they were seen when these scripts tuned with three seeds
and, on the hard instance, at K = 1e4 alone, which chose pairs that fail elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thrifty.episodic import (
    EpisodicMDP,
    LinearMDP,
    evaluate,
    instances,
    optimal,
    run_episodes,
    tabular,
    uniform,
    worst,
)
from thrifty.episodic.lsvi_ucb import LSVIUCB
from thrifty.episodic.lsvi_ucb_plus import LSVIUCBPlus
from thrifty.episodic.simulator import new_simulator, starts
from thrifty.episodic.weighting import practical_weighting
from thrifty.runs.tasks import Task, circumstances, complete, read

__all__ = ["circumstances", "complete", "read"]

HERE = Path(__file__).parent
TRIAL = Path("runs/lsvi_ucb_plus/toy")
"""Folder of the rows of --toy, which never stand among those of the evidence."""
SEEDS = range(10, 20)
TUNING = 1000  # seeds from here on are for tuning
REGULARISERS = (1.0, 0.1, 0.01, 0.001, 0.0001)
BETAS = (0.05, 0.1, 0.3, 1.0, 3.0)


def family(name: str, seed: int, K: int) -> LinearMDP:
    """Return the instance of a family that a seed draws."""
    rng = np.random.default_rng([seed, 7])
    make: dict[str, Callable[[], LinearMDP]] = {
        "simplex d=8": lambda: instances.simplex(8, 50, 10, 10, rng),
        "simplex d=12": lambda: instances.simplex(12, 50, 10, 10, rng),
        "river swim": lambda: tabular(instances.river_swim()),
        "lock": lambda: instances.combination_lock(8, 3, rng),
        "deep sea": lambda: tabular(instances.deep_sea(8, rng)),
        "hard": lambda: instances.hard_instance(5, 10, K, rng, gap=8.0),
        "lottery d=8": lambda: instances.lottery(8, 10, rng),
        "lottery d=20": lambda: instances.lottery(20, 10, rng, mixtures=20),
    }
    return make[name]()


FAMILIES = (
    "simplex d=8", "simplex d=12", "river swim", "lock", "deep sea", "hard", "lottery d=8",
    "lottery d=20",
)  # fmt: skip


def learner(kind: str, mdp: LinearMDP, regulariser: float, beta: float) -> Any:
    """Return a learner.

    unweighted is LSVI-UCB, weighted LSVI-UCB+ in its corrected form with practical constants,
    weighted, not monotone the same without the minimum over plans.
    """
    if kind == "unweighted":
        return LSVIUCB(mdp, regulariser=regulariser, beta=beta)
    monotone = kind == "weighted"
    assert monotone or kind == "weighted, not monotone"
    weighting = practical_weighting(mdp.H, beta)
    return LSVIUCBPlus(mdp, regulariser=regulariser, weighting=weighting, monotone=monotone)


def controls(mdp: EpisodicMDP) -> dict[str, float]:
    """Return the exact regret per episode of the uniform and of the worst policy."""
    best, law = optimal(mdp).V[0], mdp.initial_distribution
    return {
        "uniform": float(law @ (best - evaluate(mdp, uniform(mdp))[0])),
        "worst": float(law @ (best - worst(mdp).V[0])),
    }


def play(mdp: LinearMDP, made: Any, K: int, seed: int, points: Sequence[int] = ()) -> Task:
    """Run a learner; return its regret, at the end and at some episodes, and its optimism.

    least_optimism is the least of V_1 - V*_1 at the first states of all episodes.
    """
    run = run_episodes(mdp, made, K, seed, progress=False)
    assert run.regret is not None
    first = starts(mdp, new_simulator(mdp, seed), 0, K)
    row: Task = {
        "regret": float(run.regret[-1]),
        "switches": run.switches,
        "least_optimism": float((run.values - optimal(mdp).V[0][first]).min()),
    }
    for k in points:
        row[f"regret_{k}"] = float(run.regret[k - 1])
    return row
