"""The gate, before anything sparse: dense QMIX learns SMAX 3m and 2s3z.

    python results/mast/gate.py [--toy]

Three seeds; the mean of the last five evaluations of 200 greedy episodes is to reach 0.6 on 3m
after 800,000 steps and 0.4 on 2s3z after 1,000,000, on two of the three. Writes gate.csv.
"""

from __future__ import annotations

from measure import arguments, complete


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    maps = (("smax-3m", 800_000), ("smax-2s3z", 1_000_000))
    if options.toy:
        maps = (("skirmish", 4_000),)
    tasks = [
        {
            "recipe": "dense",
            "environment": name,
            "steps": steps,
            "sparsity": None,
            "tricks": "none",
            "seed": seed,
        }
        for seed in range(1 if options.toy else 3)
        for name, steps in maps
    ]
    episodes = 8 if options.toy else 200
    complete(options.out / "gate.csv", tasks, options.runs, episodes=episodes)


if __name__ == "__main__":
    main()
