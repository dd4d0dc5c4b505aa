"""Topology by tricks: what each contributes, which nobody has separated.

    python results/mast/factorial.py [--toy]

{dense, tiny, static, set, rigl} x {none, rlx2, mast} at 95 %, and each of MAST's tricks alone on
rigl, on SMAX 3m and the particle world's simple_spread, one million steps, three seeds. Writes
factorial.csv.
"""

from __future__ import annotations

from measure import arguments, complete

TOPOLOGIES = ("dense", "tiny", "static", "set", "rigl")
TRICKS = ("none", "rlx2", "mast")
ALONE = ("td_lambda", "soft_mellowmax", "dual_buffers")


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    cells = [(topology, tricks) for tricks in TRICKS for topology in TOPOLOGIES]
    cells += [("rigl", tricks) for tricks in ALONE]
    environments, steps, seeds = ("smax-3m", "mpe-simple_spread"), 1_000_000, 3
    if options.toy:
        environments, steps, seeds, cells = ("skirmish",), 4_000, 1, [("rigl", "mast")]
    tasks = [
        {
            "recipe": topology,
            "environment": environment,
            "steps": steps,
            "sparsity": None if topology == "dense" else 0.95,
            "tricks": tricks,
            "seed": seed,
        }
        for seed in range(seeds)
        for environment in environments
        for topology, tricks in cells
    ]
    episodes = 8 if options.toy else 32
    complete(options.out / "factorial.csv", tasks, options.runs, episodes=episodes)


if __name__ == "__main__":
    main()
