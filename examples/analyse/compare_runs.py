"""Compare a sparse and a dense agent over seeds: curves with bootstrap bands in one HTML page.

    python examples/analyse/compare_runs.py --steps 2000 --seeds 2 --out comparison

The runs can be stopped and started again; finished ones are not repeated. About a minute on one
core.
"""
# slow

from __future__ import annotations

import argparse
from pathlib import Path

from thrifty.recipes import rlx2
from thrifty.report import write_report
from thrifty.runs import Run, execute


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", default="Pendulum-v1")
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("comparison"))
    flags = parser.parse_args()

    arguments = {"environment": flags.environment, "steps": flags.steps}
    directories = []
    for recipe in (rlx2.td3, rlx2.dense):
        for seed in range(flags.seeds):
            run = Run(
                recipe=f"rlx2.{recipe.__name__}",
                arguments=arguments,
                config=recipe(**arguments),
                seed=seed,
                directory=flags.out / f"{recipe.__name__}-{seed}",
            )
            execute(run, progress=True)
            directories.append(run.directory)
    print(write_report(directories, flags.out / "report.html"))


if __name__ == "__main__":
    main()
