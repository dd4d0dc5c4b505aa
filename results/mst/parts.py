"""What each part of mixed sparsity costs, one seed each, all at .25 of the FLOPs: parts.csv.

    python results/mst/parts.py

Everything but the named part is as tuned; the density of the ultra phase is solved for anew. The
row to hold them beside is seed 0 of mst in controls.csv.
"""

from __future__ import annotations

from typing import Any

from measure import Study, complete, study, task, tuned

PARTS: dict[str, dict[str, Any]] = {
    "dense attention": {"sparsity.attention": "dense"},
    "local attention": {"sparsity.attention": "local"},
    "growth by gradient alone": {"sparsity.grow": "gradient"},
    "growth at random": {"sparsity.grow": "random"},
    "restoration of 10 %": {"sparsity.restoration": 0.1},
    "restoration of 30 %": {"sparsity.restoration": 0.3},
    "learning rate warmed again": {"sparsity.restoration_learning_rate": "rewarmed"},
    "dense for the last 5 %": {"sparsity.restoration": 0.15, "sparsity.tail": 0.05},
    "no warm-up, no restoration": {
        "sparsity.warm_up": 0.0,
        "sparsity.restoration": 0.0,
        "sparsity.attention": "dense",
    },
    "warm-up from half": {"sparsity.initial_density": 0.5},
    "moments kept": {"optimizer.moments": "keep"},
}


def main(of: Study) -> None:
    """Train what is missing."""
    best = tuned("mst", of.out)
    complete("parts", [task("mst", 0, of.steps, None, {**best, **c}) for c in PARTS.values()], of)


if __name__ == "__main__":
    main(study(__doc__))
