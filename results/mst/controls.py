"""Train mixed sparsity and its controls, tuned, seed by seed: controls.csv.

    python results/mst/controls.py

A stop leaves a balanced table. Mixed sparsity has the schedule that parts.py found best. The last
rows have one seed: static, SET, and blocks of 16 and 32 beside single links at their width of 384,
all three with the default schedule, whose density blocks of 32 can reach.
"""

from __future__ import annotations

from typing import Any

from measure import Study, Task, after, chosen, complete, study, task
from tuning import RECIPES

SEEDS = (0, 1, 2)
EQUAL = 0.8633
"""Sparsity at which RigL costs .25 of dense at this shape, as mixed sparsity does."""
SEVERAL: tuple[tuple[str, dict[str, Any]], ...] = (
    ("dense", {}),
    ("mst", {}),
    ("dense_steps", {}),
    ("rigl", {}),
    ("tiny", {}),
    ("dense_batch", {}),
    ("rigl", {"sparsity": EQUAL}),
)
ONCE: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("static", {}, {}),
    ("set", {}, {}),
    ("mst", {"block": 16}, {}),
    ("mst", {"block": 32}, {}),
    ("mst", {"block": 16}, {"sparsity.block": 1}),
)


def wanted(of: Study) -> list[Task]:
    """Return the tasks in their order."""
    tuned = {recipe: chosen("tuning", recipe, of.out) for recipe in RECIPES}
    best = {**tuned, "mst": {**tuned["mst"], **chosen("parts", "mst", of.out)}}
    several = [
        task(recipe, seed, of.steps, arguments, best[recipe])
        for seed in SEEDS
        for recipe, arguments in SEVERAL
    ]
    once = [
        task(recipe, SEEDS[0], of.steps, arguments, {**tuned[recipe], **changes})
        for recipe, arguments, changes in ONCE
    ]
    return several + once


def main(of: Study) -> None:
    """Train what is missing."""
    after(of, "tuning", "parts")
    complete("controls", wanted(of), of)


if __name__ == "__main__":
    main(study(__doc__))
