"""The lava grid learned at several risk levels: values beside the exact optimum, and returns.

    python results/icvar/policies.py [--processes 2] [--toy]

ICVaR-L with beta = 3 (see regret.py), ten seeds. For the policy found: its iterated value and the
optimum's, its expected return, the static CVaR of its return at level .1, and how likely it meets
lava. Writes policies.csv.
"""

from __future__ import annotations

from typing import Any

from measure import arguments, complete, play

from thrifty.episodic import evaluate, occupancy
from thrifty.episodic.cvar import iterated_cvar, return_distribution, static_cvar
from thrifty.episodic.icvar_l import ICVaRL
from thrifty.episodic.lava_grid import LavaGrid

BETA = 3.0
LEVELS = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05)


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Run one task."""
    grid, level = LavaGrid(), task["risk_level"]
    mdp, operator = grid.mdp(), iterated_cvar(level)
    learner = ICVaRL(mdp, risk_level=level, beta=BETA)
    row = play(mdp, learner, task["K"], task["seed"], operator)
    policy = learner.policy()
    visits = occupancy(mdp, policy).sum(2)
    values, masses = return_distribution(mdp, policy)
    return {
        "regret": row["regret"],
        "value": float(evaluate(mdp, policy, operator)[0, 0]),
        "optimum": grid.optimal_value(level),
        "expected_return": float(evaluate(mdp, policy)[0, 0]),
        "static_cvar": static_cvar(mdp, policy, 0.1),
        "lava": sum(float(visits[-1, s]) for s in range(grid.states) if grid.is_lava(s)),
        "rim": sum(float(visits[:, s].sum()) for s in range(grid.states) if grid.is_rim(s)),
        "returns": " ".join(f"{v:g}:{p:.6g}" for v, p in zip(values, masses, strict=True)),
        "picture": grid.picture(visits.sum(0)).replace("\n", "/"),
    }


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    K, seeds = (300, 2) if options.toy else (1_000_000, 10)
    tasks = [
        {"risk_level": level, "K": K, "seed": seed} for level in LEVELS for seed in range(seeds)
    ]
    complete(options.out / "policies.csv", tasks, work, processes=options.processes)


if __name__ == "__main__":
    main()
