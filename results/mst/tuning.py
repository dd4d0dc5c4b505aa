"""Tune every recipe of the study with six trials on a seed of its own: tuning.csv, tuning.toml.

    python results/mst/tuning.py

Dense runs try six learning rates; sparse ones three learning rates with drop fraction and interval
(a share of the run) at two settings. Trials have two fifths of the steps. The best loss wins, on
works that the comparison trains on; where that is at the edge of the learning rates, the summary
says so.
"""

from __future__ import annotations

from typing import Any

from measure import Study, Task, complete, study, task, write_settings

SEED = 1000
RECIPES = ("dense", "mst", "dense_steps", "rigl", "tiny", "dense_batch", "static", "set")
RATES = (5e-4, 1e-3, 2e-3, 3e-3, 4e-3, 6e-3)
EXCHANGES = (
    {"sparsity.drop_fraction": 0.1, "sparsity.interval": 0.04},
    {"sparsity.drop_fraction": 0.3, "sparsity.interval": 0.02},
)
MOVING = ("mst", "rigl", "set")


def trials(recipe: str) -> list[dict[str, Any]]:
    """Return six settings of a recipe."""
    name = "optimizer.learning_rate"
    if recipe not in MOVING:
        return [{name: rate} for rate in RATES]
    return [{name: rate, **exchange} for rate in RATES[1::2] for exchange in EXCHANGES]


def wanted(of: Study, recipe: str) -> list[Task]:
    """Return the tasks of a recipe's trials."""
    return [
        task(recipe, SEED, of.steps * 2 // 5, changes=trial, text="tuning")
        for trial in trials(recipe)
    ]


def main(of: Study) -> None:
    """Try what is missing, and write what was best."""
    best = {}
    for recipe in RECIPES:
        losses = [float(row["loss"]) for row in complete("tuning", wanted(of, recipe), of)]
        best[recipe] = trials(recipe)[losses.index(min(losses))]
    write_settings(of.out / "tuning.toml", best)


if __name__ == "__main__":
    main(study(__doc__))
