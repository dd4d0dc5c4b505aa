"""What each part of mixed sparsity costs, one seed each, all at .25 of the FLOPs: parts.csv.

    python results/mst/parts.py

Everything but the named part is as tuned; the density of the ultra phase is solved for anew. The
seed and the text are those of the tuning, since the best schedule is what controls.py gives mixed
sparsity (it is written to parts.toml): one that leaves a dense model and that the kernels can run.
"""

from __future__ import annotations

from typing import Any

from measure import Study, Task, after, chosen, complete, study, task, write_settings
from tuning import SEED

DEFAULT = "the default"
PARTS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
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
NOT_OFFERED = ("no warm-up, no restoration", "moments kept")
"""The first leaves a sparse model, and the kernels hold no moments of cut links."""


def wanted(of: Study) -> list[Task]:
    """Return the tasks, one for each part in its order."""
    tuned = chosen("tuning", "mst", of.out)
    return [task("mst", SEED, of.steps, None, {**tuned, **c}, "tuning") for c in PARTS.values()]


def main(of: Study) -> None:
    """Train what is missing, and write which schedule was best."""
    after(of, "tuning")
    rows = complete("parts", wanted(of), of)
    losses = {name: float(row["loss"]) for name, row in zip(PARTS, rows, strict=True)}
    best = min((name for name in PARTS if name not in NOT_OFFERED), key=losses.__getitem__)
    write_settings(of.out / "parts.toml", {"mst": PARTS[best]})


if __name__ == "__main__":
    main(study(__doc__))
