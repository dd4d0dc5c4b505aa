"""What the scripts here share: controls and one run.

A script makes a list of tasks and has :func:`thrifty.runs.tasks.complete` run those whose row is
not in its CSV file yet: stopping and repeating the command goes on.

Constants were chosen on seeds from 100 on, before any of these runs; these have seeds below 100.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from thrifty.episodic import EpisodicMDP, evaluate, optimal, uniform, worst
from thrifty.episodic.planning import Operator
from thrifty.episodic.risk_rollout import RiskRollout
from thrifty.episodic.rollout import Learner
from thrifty.runs.tasks import Task, circumstances, complete, read

__all__ = ["circumstances", "complete", "read"]
HERE = Path(__file__).parent


def arguments(about: str | None) -> argparse.Namespace:
    """Read --processes and --toy."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--toy", action="store_true", help="tiny settings, to try the script")
    parser.add_argument("--out", type=Path, help="folder of the CSV files; by default this one")
    given = parser.parse_args()
    # Rows of a trial never stand among those of the evidence.
    given.out = given.out or (Path("runs/icvar/toy") if given.toy else HERE)
    return given


def controls(mdp: EpisodicMDP, operator: Operator) -> dict[str, float]:
    """Return the exact regret per episode of the uniform, worst and risk-neutral policies."""
    best, law = optimal(mdp, operator).V[0], mdp.initial_distribution
    return {
        "uniform": float(law @ (best - evaluate(mdp, uniform(mdp), operator)[0])),
        "worst": float(law @ (best - worst(mdp, operator).V[0])),
        "neutral": float(law @ (best - evaluate(mdp, optimal(mdp).policy, operator)[0])),
    }


def powers(K: int) -> list[int]:
    """Return 1, 2, 4, ... and K."""
    return [*(2**i for i in range(K.bit_length()) if 2**i < K), K]


def play(
    mdp: EpisodicMDP,
    learner: Learner,
    K: int,
    seed: int,
    operator: Operator,
    watch: Callable[[], Mapping[str, float]] | None = None,
) -> Task:
    """Run a learner; return its regret at 1, 2, 4, ..., K, its optimism, and what is watched."""
    rollout, row, regret, least = RiskRollout(mdp, learner, seed, operator), {}, 0.0, np.inf
    star = float(mdp.initial_distribution @ rollout.optimum)
    for point in powers(K):
        while rollout.episodes < point:
            block = rollout.advance(point - rollout.episodes)
            assert block.regrets is not None
            regret += float(block.regrets.sum())
            least = min(least, float(block.values.min()) - star)
        row[f"regret_{point}"] = regret
        if watch is not None:
            row |= {f"{name}_{point}": value for name, value in watch().items()}
    return {**row, "regret": regret, "switches": learner.switches, "least_optimism": least}


def slope(points: Sequence[int], regrets: Sequence[float]) -> float:
    """Return the slope of log regret over log episodes in the last decade; 0 where none grew."""
    k, R = np.array(points, dtype=float), np.maximum(np.array(regrets, dtype=float), 1e-9)
    last = k >= k[-1] / 10.0
    return float(np.polyfit(np.log(k[last]), np.log(R[last]), 1)[0])
