"""Regret over episodes on fixed instances, with the uniform and the greedy learner as controls.

    python results/lsvi_ucb_plus/curves.py [--processes 2] [--toy]

100,000 episodes, ten seeds (of trajectories; the instance of a family is drawn once). The learners
have the (lambda, beta) that weighted.py chose for the family on its tuning seeds; greedy is
LSVI-UCB without a bonus. Writes curves.csv. Run weighted.py first.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from measure import HERE, SEEDS, TRIAL, complete, controls, family, learner, play, read

SHOWN = ("simplex d=8", "river swim", "deep sea", "lottery d=8")
INSTANCE = 500  # the seed that draws the instance; no run of weighted.py has it


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Run one task."""
    mdp = family(task["family"], INSTANCE, task["K"])
    kind = "unweighted" if task["learner"] == "greedy" else task["learner"]
    made = learner(kind, mdp, task["regulariser"], task["beta"])
    points = [k for k in 2 ** np.arange(17) if k <= task["K"]]
    return {**play(mdp, made, task["K"], task["seed"], [*points, task["K"]]), **controls(mdp)}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--toy", action="store_true", help="tiny settings, to try the script")
    options = parser.parse_args()
    K, seeds, folder = (500, SEEDS[:2], TRIAL) if options.toy else (100_000, SEEDS, HERE)
    chosen = {
        (row["learner"], row["family"]): (float(row["regulariser"]), float(row["beta"]))
        for row in read(folder / "weighted.csv")
    }
    if not chosen:
        raise SystemExit("weighted.csv is missing: run weighted.py first")
    tasks = []
    for name in SHOWN:
        pairs = {kind: chosen[kind, name] for kind in ("unweighted", "weighted")}
        pairs["greedy"] = (pairs["unweighted"][0], 0.0)
        tasks += [
            {"learner": kind, "family": name, "K": K, "regulariser": pair[0], "beta": pair[1],
             "seed": seed}
            for kind, pair in pairs.items()
            for seed in seeds
        ]  # fmt: skip
    complete(folder / "curves.csv", tasks, work, processes=options.processes)


if __name__ == "__main__":
    main()
