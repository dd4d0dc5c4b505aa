"""What the scripts here share: instances, controls, one run, and rows that survive a stop.

A script makes a list of tasks, runs those whose row is not in its CSV file yet, in processes of
their own, and appends each row as it comes: stopping and repeating the command goes on.

Constants were chosen on seeds from 100 on, before any of these runs; these have seeds below 100.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from thrifty.episodic import EpisodicMDP, evaluate, optimal, uniform, worst
from thrifty.episodic.planning import Operator
from thrifty.episodic.risk_rollout import RiskRollout
from thrifty.episodic.rollout import Learner

Task = dict[str, Any]
HERE = Path(__file__).parent


def arguments(about: str | None) -> argparse.Namespace:
    """Read --processes and --toy."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--toy", action="store_true", help="tiny settings, to try the script")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the CSV files")
    return parser.parse_args()


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


def complete(
    path: Path,
    tasks: Iterable[Task],
    work: Callable[[Task], Mapping[str, Any]],
    *,
    processes: int,
) -> None:
    """Run the tasks that the file lacks.

    Args:
        path: CSV file; the columns of a task name its row.
        tasks: scalars by name, the same names in each.
        work: returns the results of a task, scalars by name, the same names for each.
        processes: how many at a time.
    """
    wanted = list(tasks)
    names = list(wanted[0])
    done = {tuple(row[name] for name in names) for row in read(path)}
    missing = [t for t in wanted if tuple(str(t[name]) for name in names) not in done]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(processes) as pool:
        results = zip(missing, pool.map(work, missing), strict=True)
        for number, (task, result) in enumerate(results, 1):
            _append(path, {**task, **result})
            if number % 20 == 0 or number == len(missing):
                print(f"{path.name}: {number} of {len(missing)}", flush=True)


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, as texts; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _append(path: Path, row: Task) -> None:
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def slope(points: Sequence[int], regrets: Sequence[float]) -> float:
    """Return the slope of log regret over log episodes in the last decade; 0 where none grew."""
    k, R = np.array(points, dtype=float), np.maximum(np.array(regrets, dtype=float), 1e-9)
    last = k >= k[-1] / 10.0
    return float(np.polyfit(np.log(k[last]), np.log(R[last]), 1)[0])
