"""The gate, before anything sparse: dense QMIX learns SMAX 3m and 2s3z.

    python results/mast/gate.py [--toy] [--only smax-3m] [--seeds 3]

Three seeds; the mean of the last five evaluations of 200 greedy episodes is to reach 0.6 on 3m
after 800,000 steps and 0.4 on 2s3z after 1,000,000, on two of the three. Writes gate.csv.
"""

from __future__ import annotations

from measure import arguments, carry_out, task


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    maps = (("smax-3m", 800_000), ("smax-2s3z", 1_000_000))
    episodes, every, seeds = 200, 20_000, options.seeds
    if options.toy:
        maps, episodes, every, seeds = (("skirmish", 4_000),), 8, 1_000, 1
    tasks = [task("dense", name, steps, seed) for seed in range(seeds) for name, steps in maps]
    carry_out("gate.csv", tasks, options, episodes=episodes, evaluate_every=every)


if __name__ == "__main__":
    main()
