"""The linear hard chain, scanned over the multiplier s of its gap, with controls.

    python results/icvar/hard_chain.py [--processes 2] [--toy]

n = 3, H = 4, d = 4, alpha = .3, gap s sqrt(alpha / (K alpha^(n-1))), for every s in 1/2, 1, 2, ...
that leaves the last state worth reaching (see risk_instances.hard_chain). The ratio is
R(K) / ((d-1) L sqrt(K / (alpha alpha^(n-1)))) with L = H - n; the uniform policy's is .6 s exactly,
for every K: that a policy's ratio does not grow with K is no evidence of learning, that it falls
below the uniform policy's as s grows is. Greedy is the same learner without a bonus. Writes
hard_chain.csv.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from measure import arguments, complete, controls, play

from thrifty.episodic.cvar import iterated_cvar
from thrifty.episodic.icvar_l import ICVaRL
from thrifty.episodic.risk_instances import linear_hard_chain

N, H, D, LEVEL = 3, 4, 4, 0.3
MULTIPLIERS = (0.5, 1, 2, 4, 8, 16)
BETA = 0.3


def gap(s: float, K: int) -> float:
    """Return the gap of a multiplier."""
    return s * math.sqrt(LEVEL / (K * LEVEL ** (N - 1)))


def valid(s: float, K: int) -> bool:
    """Whether the last state still decides: 3 L eta / alpha <= n - 1, with eta = 2 (d-1) gap."""
    return 6.0 * (H - N) * (D - 1) * gap(s, K) / LEVEL <= N - 1


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Run one task; the hidden signs are drawn by its seed."""
    s, K, seed = task["s"], task["K"], task["seed"]
    signs = np.random.default_rng([seed, 7]).choice((-1, 1), D - 1)
    mdp = linear_hard_chain(
        n=N, horizon=H, risk_level=LEVEL, gap=gap(s, K), dimension=D, signs=signs
    )
    beta = BETA if task["learner"] == "optimistic" else 0.0
    operator = iterated_cvar(LEVEL)
    row = play(mdp, ICVaRL(mdp, risk_level=LEVEL, beta=beta), K, seed, operator)
    scale = (D - 1) * (H - N) * math.sqrt(K / (LEVEL * LEVEL ** (N - 1)))
    exact = controls(mdp, operator)
    return {
        "ratio": row["regret"] / scale,
        "uniform_ratio": exact["uniform"] * K / scale,
        "worst_ratio": exact["worst"] * K / scale,
        "switches": row["switches"],
        "least_optimism": row["least_optimism"],
    }


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    sizes, seeds = ((1_000,), 2) if options.toy else ((10_000, 100_000, 1_000_000), 10)
    tasks = [
        {"learner": kind, "K": K, "s": s, "seed": seed}
        for kind in ("optimistic", "greedy")
        for K in sizes
        for s in MULTIPLIERS
        if valid(s, K)
        for seed in range(seeds)
    ]
    complete(options.out / "hard_chain.csv", tasks, work, processes=options.processes)


if __name__ == "__main__":
    main()
