"""ICVaR-HF with a known kernel: regret by the number m of annotators, and by how they err.

    python results/icvar/comparisons.py [--processes 2] [--toy]

S = 10, A = 4, H = 5, d = 4, the instances of ``thrifty train icvar.hf_features`` for three instance
seeds; 3,000 episodes, ten seeds each. m = 1, 5, 20 with annotators as the model assumes; m = 5
with annotators that flip or lapse (.2), go in circles (.5), or are averse to bad steps (level .4).
Writes comparisons.csv.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from measure import arguments, complete, controls, play

from thrifty.episodic.cvar import iterated_cvar
from thrifty.episodic.risk_config import FeaturesConfig, ICVaRHFConfig
from thrifty.episodic.risk_problem import make_learner, make_problem
from thrifty.recipes import icvar

KINDS: dict[str, dict[str, float]] = {
    "as assumed": {},
    "flips": {"flip": 0.2},
    "lapses": {"lapse": 0.2},
    "intransitive": {"cycle": 0.5},
    "risk-averse": {"annotator_risk_level": 0.4},
}


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Run one task."""
    told: dict[str, Any] = KINDS[task["annotator"]]
    config = dataclasses.replace(
        icvar.hf_features(steps=task["K"], risk_level=task["risk_level"]),
        instance=FeaturesConfig(instance_seed=task["instance"]),
        algorithm=ICVaRHFConfig(annotators=task["m"], **told),
    )
    problem = make_problem(config)
    learner = make_learner(config, problem, task["seed"])
    operator = iterated_cvar(task["risk_level"])
    row = play(problem.mdp, learner, task["K"], task["seed"], operator)
    del row["least_optimism"]  # values are known up to a constant only
    return {**row, **controls(problem.mdp, operator)}


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    K, seeds, instances = (100, 2, 1) if options.toy else (3_000, 10, 3)
    settings = [("as assumed", m) for m in (1, 5, 20)]
    settings += [(kind, 5) for kind in KINDS if KINDS[kind]]
    tasks = [
        {"annotator": kind, "m": m, "risk_level": level, "instance": number, "K": K, "seed": seed}
        for kind, m in settings
        for level in (1.0, 0.3)
        for number in range(instances)
        for seed in range(seeds)
    ]
    complete(options.out / "comparisons.csv", tasks, work, processes=options.processes)


if __name__ == "__main__":
    main()
