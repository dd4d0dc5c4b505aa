"""Regret over episodes on fixed instances, at several risk levels, with a greedy control.

    python results/icvar/regret.py [--processes 2] [--toy]

ICVaR-L on two random mixtures and the lava grid, ICVaR-RM on the inventory; "greedy" is the same
learner without a bonus. Ten seeds of trajectories. Regret of the uniform, the worst and the
risk-neutral policy is exact. Writes regret.csv.

beta = .3 throughout but on the lava grid, where episodes are four times as long and a slide is
rare: with .3, and with 1, one or two in ten of the seeds from 100 on see a slide so early that they
never try the short path again (linear regret); with 3 none does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from measure import arguments, complete, controls, play

from thrifty.episodic.cvar import iterated_cvar
from thrifty.episodic.icvar_l import ICVaRL
from thrifty.episodic.icvar_rm import ICVaRRM
from thrifty.episodic.lava_grid import LavaGrid
from thrifty.episodic.linear_mixture import LinearMixtureMDP, random_mixture
from thrifty.episodic.mdp import EpisodicMDP
from thrifty.episodic.risk_instances import inventory
from thrifty.episodic.rollout import Learner

LEVELS = (1.0, 0.5, 0.25, 0.1)
BETAS = {"mixture 0": 0.3, "mixture 1": 0.3, "lava": 3.0, "inventory": 0.3}


def instance(name: str) -> EpisodicMDP:
    """Return an instance by name."""
    if name == "lava":
        return LavaGrid().mdp()
    if name == "inventory":
        return inventory()
    return random_mixture(np.random.default_rng(int(name.split()[1])))


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Run one task."""
    mdp, level = instance(task["instance"]), task["risk_level"]
    beta = BETAS[task["instance"]] if task["learner"] == "optimistic" else 0.0
    learner: Learner
    if isinstance(mdp, LinearMixtureMDP):
        learner = ICVaRL(mdp, risk_level=level, beta=beta)
    else:
        learner = ICVaRRM(mdp, risk_level=level, beta=beta)
    operator = iterated_cvar(level)
    return {
        **play(mdp, learner, task["K"], task["seed"], operator),
        **controls(mdp, operator),
    }


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    K, seeds = (500, 2) if options.toy else (1_000_000, 10)
    tasks = [
        {"instance": name, "risk_level": level, "learner": kind, "K": K, "seed": seed}
        for name in BETAS
        for level in LEVELS
        for kind in ("optimistic", "greedy")
        for seed in range(seeds)
    ]
    complete(options.out / "regret.csv", tasks, work, processes=options.processes)


if __name__ == "__main__":
    main()
