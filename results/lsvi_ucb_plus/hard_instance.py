"""The lower bound's instance, scanned over the gap multiplier s, with controls.

    python results/lsvi_ucb_plus/hard_instance.py [--processes 2] [--toy]

R(K) / ((d-1) sqrt(H^3 K)) for (d, H) in (4,10), (6,10), (4,20) and K = 1e3, 1e4, 1e5, for every s
in 1, 2, 4, ..., 64 that is valid there. The gap shrinks with K, so every policy has a flat ratio at
small s: the uniform and the worst policy (exact) stand beside the learners.

Each learner has one (lambda, beta) for all cells: the pair of the grid whose largest ratio is the
least (the constant of the bound), over all (d, H) and K, at s = 4, 16 and the largest valid one,
means of three seeds that are for tuning only.

Writes hard_tuning.csv, hard_instance.csv, hard_controls.csv, hard_chosen.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from measure import (
    BETAS,
    HERE,
    REGULARISERS,
    SEEDS,
    TRIAL,
    TUNING,
    complete,
    controls,
    learner,
    play,
)

from thrifty.episodic import LinearMDP
from thrifty.episodic.instances import hard_instance

KINDS = ("unweighted", "weighted")
SIZES = ((4, 10), (6, 10), (4, 20))
EPISODES = (1_000, 10_000, 100_000)
GAPS = (1, 2, 4, 8, 16, 32, 64)


def valid(d: int, H: int, K: int, s: int) -> bool:
    """Whether the instance exists."""
    return s * s * (d - 1) ** 2 * H <= 32 * K


def instance(task: dict[str, Any]) -> LinearMDP:
    """Return the instance that the task's seed draws."""
    rng = np.random.default_rng([task["seed"], 7])
    return hard_instance(task["d"], task["H"], task["K"], rng, gap=task["s"])


def scale(task: dict[str, Any]) -> float:
    """Return (d-1) sqrt(H^3 K)."""
    return float((int(task["d"]) - 1) * np.sqrt(float(task["H"]) ** 3 * float(task["K"])))


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Run one task."""
    mdp = instance(task)
    made = learner(task["learner"], mdp, task["regulariser"], task["beta"])
    return play(mdp, made, task["K"], task["seed"])


def control(task: dict[str, Any]) -> dict[str, Any]:
    """Return the ratios of the controls; they are the same for every seed."""
    mdp = instance(task)
    return {name: gap * task["K"] / scale(task) for name, gap in controls(mdp).items()}


def cells(episodes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return every valid cell."""
    return [
        {"d": d, "H": H, "K": K, "s": s}
        for d, H in SIZES
        for K in episodes
        for s in GAPS
        if valid(d, H, K, s)
    ]


def tune(
    folder: Path, processes: int, episodes: tuple[int, ...], seeds: int, grid: Any
) -> dict[str, tuple[float, float]]:
    """Return the (lambda, beta) of each learner."""
    chosen_cells = []
    for d, H in SIZES:
        for K in episodes:
            most = max(s for s in GAPS if valid(d, H, K, s))
            for s in sorted({4, 16, most}):
                if valid(d, H, K, s):
                    chosen_cells.append({"d": d, "H": H, "K": K, "s": s})
    tasks = [
        {"learner": kind, **cell, "regulariser": regulariser, "beta": beta, "seed": TUNING + n}
        for kind in KINDS
        for cell in chosen_cells
        for regulariser, beta in grid
        for n in range(seeds)
    ]
    rows = complete(folder / "hard_tuning.csv", tasks, work, processes=processes)
    ratios: dict[Any, dict[Any, list[float]]] = {}
    for task, row in zip(tasks, rows, strict=True):
        cells_of = ratios.setdefault((task["learner"], task["regulariser"], task["beta"]), {})
        cell = (task["d"], task["H"], task["K"], task["s"])
        cells_of.setdefault(cell, []).append(float(row["regret"]) / scale(task))
    chosen = {}
    for kind in KINDS:
        largest = {
            key[1:]: max(np.mean(values) for values in found.values())
            for key, found in ratios.items()
            if key[0] == kind
        }
        chosen[kind] = min(largest, key=lambda pair: largest[pair])
    return chosen


def main() -> None:
    """Tune, then scan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--toy", action="store_true", help="tiny settings, to try the script")
    options = parser.parse_args()
    grid = [(regulariser, beta) for regulariser in REGULARISERS for beta in BETAS]
    episodes, seeds, tuning, folder = EPISODES, SEEDS, 3, HERE
    if options.toy:
        folder = TRIAL
        episodes, seeds, tuning, grid = (1_000,), SEEDS[:2], 1, [(0.1, 0.3), (0.01, 0.3)]
    chosen = tune(folder, options.processes, episodes, tuning, grid)
    print(chosen)
    (folder / "hard_chosen.json").write_text(json.dumps(chosen, indent=1) + "\n")
    tasks = [
        {"learner": kind, **cell, "regulariser": pair[0], "beta": pair[1], "seed": seed}
        for kind, pair in chosen.items()
        for cell in cells(episodes)
        for seed in seeds
    ]
    complete(folder / "hard_instance.csv", tasks, work, processes=options.processes)
    controls_of = [{**cell, "seed": 0} for cell in cells(episodes)]
    complete(folder / "hard_controls.csv", controls_of, control, processes=options.processes)


if __name__ == "__main__":
    main()
