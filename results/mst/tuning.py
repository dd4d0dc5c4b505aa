"""Tune every recipe of the study with six trials on a seed of its own; writes `tuning.toml`.

Dense runs try six learning rates; sparse ones three learning rates with drop fraction and interval
at two settings. The best held-out loss of the last evaluation is taken. Idempotent, as
`controls.py`, which reads the result.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from thrifty.lm.config import DenseConfig
from thrifty.recipes import mst
from thrifty.runs import Run, execute, read_records

HERE = Path(__file__).parent
SEED = 1000  # evaluation uses 0, 1 and 2
RECIPES = ("dense", "dense_steps", "dense_batch", "tiny", "static", "set", "rigl", "mst")
RATES = (5e-4, 1e-3, 2e-3, 3e-3, 4e-3, 6e-3)
EXCHANGES = ({"drop_fraction": 0.1, "update_every": 50}, {"drop_fraction": 0.3, "update_every": 50})


def trials(config: Any) -> list[dict[str, dict[str, float]]]:
    """Return six settings of a recipe: the fields of `optimizer` and `sparsity` to change."""
    moves = getattr(config.sparsity, "drop_fraction", 0.0) > 0.0
    if isinstance(config.sparsity, DenseConfig) or not moves:
        return [{"optimizer": {"learning_rate": rate}} for rate in RATES]
    return [
        {"optimizer": {"learning_rate": rate}, "sparsity": dict(exchange)}
        for rate in RATES[1::2]
        for exchange in EXCHANGES
    ]


def main() -> None:
    """Try what is missing, and write what was best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "tuning")
    options = parser.parse_args()
    lines = []
    for recipe in RECIPES:
        steps = options.steps // 4 if recipe == "dense_steps" else options.steps
        base = getattr(mst, recipe)(steps=steps)
        tried = []
        for number, trial in enumerate(trials(base)):
            config = base
            for part, changes in trial.items():
                value = dataclasses.replace(getattr(config, part), **changes)
                config = dataclasses.replace(config, **{part: value})
            run = Run(
                recipe=f"mst.{recipe}",
                arguments={"steps": steps},
                config=config,
                seed=SEED,
                directory=options.out / f"{recipe}-{number}",
                threads=options.threads,
            )
            if execute(run, progress="force").status != "done":
                return
            last = [r for r in read_records(run.directory) if r["kind"] == "evaluation"][-1]
            tried.append((last["loss"], trial))
            print(f"{recipe} {trial}: {last['loss']:.4f}", flush=True)
        _, best = min(tried, key=lambda pair: pair[0])
        for part, changes in best.items():
            lines.append(f"[{recipe}.{part}]")
            lines += [f"{name} = {value}" for name, value in changes.items()]
    (HERE / "tuning.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
