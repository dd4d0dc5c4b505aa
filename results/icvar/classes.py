"""ICVaR-G on a finite class: the sets of active kernels, whether the truth stays, and regret.

    python results/icvar/classes.py [--processes 2] [--toy]

60 kernels, S = 10, A = 3, H = 5, the class of ``thrifty train icvar.g_class``; widths gamma^2 of
practice (5) and of theory (delta = .01). Sizes are means over the stages but the last, which never
learns. Ten seeds. Writes classes.csv.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from measure import arguments, complete, controls, play

from thrifty.episodic.cvar import iterated_cvar
from thrifty.episodic.icvar_g import ICVaRG
from thrifty.episodic.risk_config import ICVaRGConfig
from thrifty.episodic.risk_problem import make_learner, make_problem
from thrifty.recipes import icvar


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Run one task."""
    config = dataclasses.replace(
        icvar.g_class(steps=task["K"], risk_level=task["risk_level"]),
        algorithm=ICVaRGConfig(constants=task["constants"]),
    )
    problem = make_problem(config)
    learner = make_learner(config, problem, task["seed"])
    assert isinstance(learner, ICVaRG)
    operator = iterated_cvar(task["risk_level"])
    active = learner.tables.active

    def watch() -> dict[str, float]:
        return {"active": float(active[:-1].sum(1).mean()), "truth": float(active[:, 0].all())}

    return {
        **play(problem.mdp, learner, task["K"], task["seed"], operator, watch),
        **controls(problem.mdp, operator),
    }


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    K, seeds = (300, 2) if options.toy else (100_000, 10)
    tasks = [
        {"constants": constants, "risk_level": level, "K": K, "seed": seed}
        for constants in ("practical", "theory")
        for level in (1.0, 0.3, 0.1)
        for seed in range(seeds)
    ]
    complete(options.out / "classes.csv", tasks, work, processes=options.processes)


if __name__ == "__main__":
    main()
