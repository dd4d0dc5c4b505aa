"""Train the study's runs one after the other: `controls.py [--steps N] [--seeds 0 1 2]`.

Idempotent: a run that is finished is left alone, one that was stopped goes on where it was. Runs of
one seed see the same tokens, except `dense_batch`, whose batch is a quarter. Learning rates (all)
and drop fraction and interval (sparse) come from `tuning.toml` where that is there, else from the
recipes.
"""

from __future__ import annotations

import argparse
import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from thrifty.recipes import mst
from thrifty.runs import Run, execute

HERE = Path(__file__).parent
SEVERAL = ("dense", "dense_steps", "dense_batch", "tiny", "rigl", "mst")
ONCE = ("static", "set")


def tuned(recipe: str, config: Any) -> Any:
    """Return a configuration with the values that tuning has chosen for its recipe."""
    path = HERE / "tuning.toml"
    chosen = tomllib.loads(path.read_text()).get(recipe, {}) if path.exists() else {}
    for part in ("optimizer", "sparsity"):
        if part in chosen:
            value = dataclasses.replace(getattr(config, part), **chosen[part])
            config = dataclasses.replace(config, **{part: value})
    return config


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2500, help="of the runs at full length")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "runs")
    options = parser.parse_args()
    for seed in options.seeds:
        for recipe in SEVERAL + (ONCE if seed == options.seeds[0] else ()):
            steps = options.steps // 4 if recipe == "dense_steps" else options.steps
            arguments = {"steps": steps}
            run = Run(
                recipe=f"mst.{recipe}",
                arguments=arguments,
                config=tuned(recipe, getattr(mst, recipe)(**arguments)),
                seed=seed,
                directory=options.out / f"{recipe}-{seed}",
                threads=options.threads,
            )
            outcome = execute(run, progress="force")
            print(f"{run.directory.name}: {outcome.status} at step {outcome.step}", flush=True)
            if outcome.status == "interrupted":
                return


if __name__ == "__main__":
    main()
