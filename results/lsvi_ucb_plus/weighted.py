"""Does weighting by variance help? Both learners tuned over (lambda, beta), on eight families.

    python results/lsvi_ucb_plus/weighted.py [--processes 2] [--toy]

On each family and for each learner the pair of the grid with the least mean regret after 30,000
episodes on ten tuning seeds is taken, and measured on ten other seeds, which draw other instances.
Writes weighted_tuning.csv and weighted.csv.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from measure import (
    BETAS,
    FAMILIES,
    HERE,
    REGULARISERS,
    SEEDS,
    TRIAL,
    TUNING,
    complete,
    controls,
    family,
    learner,
    play,
)

KINDS = ("unweighted", "weighted", "weighted, not monotone")


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Run one task."""
    mdp = family(task["family"], task["seed"], task["K"])
    made = learner(task["learner"], mdp, task["regulariser"], task["beta"])
    return {**play(mdp, made, task["K"], task["seed"]), **controls(mdp)}


def main() -> None:
    """Tune, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--toy", action="store_true", help="tiny settings, to try the script")
    options = parser.parse_args()
    K, tuning_seeds, seeds, folder = 30_000, 10, SEEDS, HERE
    grid = [(regulariser, beta) for regulariser in REGULARISERS for beta in BETAS]
    if options.toy:
        folder = TRIAL
        K, tuning_seeds, seeds, grid = 500, 1, SEEDS[:2], [(0.1, 0.3), (0.01, 0.3)]
    tasks = [
        {"learner": kind, "family": name, "K": K, "regulariser": pair[0], "beta": pair[1],
         "seed": TUNING + n}
        for name in FAMILIES
        for kind in KINDS
        for pair in grid
        for n in range(tuning_seeds)
    ]  # fmt: skip
    rows = complete(folder / "weighted_tuning.csv", tasks, work, processes=options.processes)
    regrets: dict[tuple[str, str], dict[tuple[float, float], list[float]]] = {}
    for task, row in zip(tasks, rows, strict=True):
        pairs = regrets.setdefault((task["learner"], task["family"]), {})
        pairs.setdefault((task["regulariser"], task["beta"]), []).append(float(row["regret"]))
    best = {
        key: min(pairs, key=lambda pair, pairs=pairs: np.mean(pairs[pair]))
        for key, pairs in regrets.items()
    }
    tasks = [
        {"learner": kind, "family": name, "K": K, "regulariser": best[kind, name][0],
         "beta": best[kind, name][1], "seed": seed}
        for name in FAMILIES
        for kind in KINDS
        for seed in seeds
    ]  # fmt: skip
    complete(folder / "weighted.csv", tasks, work, processes=options.processes)


if __name__ == "__main__":
    main()
