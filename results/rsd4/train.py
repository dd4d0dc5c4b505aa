"""RSD4, its feed-forward twin and the other ablations on the canonical scenarios.

    python results/rsd4/train.py [--only S1 S2] [--recipes s1 sd3] [--seeds 5] [--folder runs/rsd4]
                                  [--processes 1]

RSD4 and SD3 (its feed-forward twin): 5 training seeds on all scenarios. RTD3, TD3, DDPG, credit per
user and the published pairing: 3 seeds on S1, S2 and S5. One thread; one run at a time. Every
policy is frozen, its price calibrated on 2,000 episodes with training seeds, and tested once on 400
episodes; on S4 and S5, where the energy of an episode varies by 11 and 17 % even under the optimal
table, on 4,000 and 8,000 for both. Writes training.csv.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from measure import HERE, complete, forget, row_of, train

from thrifty.runs.tasks import Task

SCENARIOS = ("S1", "S2", "S3", "S4", "S5")
ABLATIONS = ("rtd3", "td3", "ddpg", "whole", "published")
ABLATED = ("S1", "S2", "S5")


def tasks(only: list[str], seeds: int) -> list[Task]:
    """Return what is to be run, the two agents of all scenarios first, seed by seed."""
    both = [
        {"recipe": recipe, "scenario": scenario, "seed": seed}
        for seed in range(seeds)
        for scenario in only
        for recipe in (scenario.lower(), "sd3")
    ]
    others = [
        {"recipe": recipe, "scenario": scenario, "seed": seed}
        for seed in range(min(seeds, 3))
        for scenario in only
        if scenario in ABLATED
        for recipe in ABLATIONS
    ]
    return [*both, *others]


def work(folder: Path, task: Task) -> Task:
    """Run one, and remove its checkpoints."""
    row = row_of(train(task, folder))
    forget(task, folder)
    return row


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(SCENARIOS), choices=SCENARIOS)
    parser.add_argument("--recipes", nargs="+", help="of these alone, such as s1 sd3")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("runs/rsd4"))
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    wanted = tasks(options.only, options.seeds)
    if options.recipes:
        wanted = [task for task in wanted if task["recipe"] in options.recipes]
    complete(
        options.out / "training.csv", wanted, partial(work, options.folder),
        processes=options.processes,
    )  # fmt: skip


if __name__ == "__main__":
    main()
