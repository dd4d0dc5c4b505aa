"""Topology by tricks: what each contributes, which nobody has separated.

    python results/mast/factorial.py [--toy] [--only smax-3m] [--seeds 3]

{dense, tiny, static, set, rigl} x {none, rlx2, mast} at 95 %, and each of MAST's tricks alone on
rigl, on SMAX 3m and the particle world's simple_spread, one million steps; 32 greedy episodes every
10,000 steps. Writes factorial.csv. Runs that scores.py has made are not made again.
"""

from __future__ import annotations

from measure import arguments, carry_out, task

TOPOLOGIES = ("dense", "tiny", "static", "set", "rigl")
TRICKS = ("none", "rlx2", "mast")
ALONE = ("td_lambda", "soft_mellowmax", "dual_buffers")


def recipe_of(topology: str, tricks: str) -> str:
    """Return the recipe of a cell: MAST has its own, whose runs scores.py makes as well."""
    return "mast" if (topology, tricks) == ("rigl", "mast") else topology


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    cells = [(topology, tricks) for tricks in TRICKS for topology in TOPOLOGIES]
    cells += [("rigl", tricks) for tricks in ALONE]
    environments, steps, seeds = ("smax-3m", "mpe-simple_spread"), 1_000_000, options.seeds
    episodes, every = 32, 10_000
    if options.toy:
        environments, steps, seeds, cells = ("skirmish",), 4_000, 1, [("rigl", "mast")]
        episodes, every = 8, 1_000
    tasks = [
        task(
            recipe_of(topology, tricks),
            environment,
            steps,
            seed,
            sparsity="" if topology == "dense" else 0.95,
            tricks=tricks,
        )
        for seed in range(seeds)
        for environment in environments
        for topology, tricks in cells
    ]
    carry_out("factorial.csv", tasks, options, episodes=episodes, evaluate_every=every)


if __name__ == "__main__":
    main()
