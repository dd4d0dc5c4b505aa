"""Make `summary.md` of the study's finished runs: held-out loss, FLOPs, share recovered.

Share recovered is (L_eq - L) / (L_eq - L_full), with L_eq the better of the two dense runs at equal
FLOPs and L_full the dense run, of means over seeds. Intervals are the range over seeds.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

from thrifty.runs import read_config, read_records

HERE = Path(__file__).parent


def finished(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the last evaluation and the costs of every finished run, by recipe."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in sorted(folder.glob("*/DONE")):
        records = list(read_records(run.parent))
        evaluations = [r for r in records if r["kind"] == "evaluation"]
        start, last = records[0], evaluations[-1]
        recipe = str(read_config(run.parent)["recipe"]).removeprefix("mst.")
        found[recipe].append(
            {
                "loss": last["loss"],
                # The last evaluation takes all held-out tokens: the others are compared alone.
                "rise": evaluations[-2]["loss"] - min(r["loss"] for r in evaluations[:-1]),
                "bits_per_byte": last["bits_per_byte"],
                "parameters": start["parameters"],
                "flops": last["flops_square"],
            }
        )
    return found


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=HERE / "runs")
    options = parser.parse_args()
    runs = finished(options.runs)
    if "dense" not in runs:
        raise SystemExit("the dense run is not finished: run controls.py first")

    def mean(recipe: str, field: str = "loss") -> float:
        return sum(run[field] for run in runs[recipe]) / len(runs[recipe])

    equal = [mean(recipe) for recipe in ("dense_steps", "dense_batch") if recipe in runs]
    full, dense_flops = mean("dense"), mean("dense", "flops")
    lines = [
        "| recipe | seeds | parameters | FLOPs of dense | loss, nats a token | range | "
        "bits per byte | share recovered | past its minimum by |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for recipe, done in sorted(runs.items(), key=lambda item: mean(item[0])):
        losses = [run["loss"] for run in done]
        loss = mean(recipe)
        share = f"{(min(equal) - loss) / (min(equal) - full):.2f}" if equal else "-"
        lines.append(
            f"| {recipe} | {len(done)} | {done[0]['parameters']:,} "
            f"| {mean(recipe, 'flops') / dense_flops:.3f} | {loss:.4f} "
            f"| {min(losses):.4f} to {max(losses):.4f} | {mean(recipe, 'bits_per_byte'):.4f} "
            f"| {share} | {mean(recipe, 'rise'):.4f} |"
        )
    (HERE / "summary.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
