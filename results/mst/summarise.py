"""Turn the rows of the other scripts into summary.md and claims.toml.

    python results/mst/summarise.py

Losses are nats per token on all held-out tokens. Differences are paired by seed; intervals are 95 %
of Student's t over the seeds. Share recovered is (L_eq - L) / (L_eq - L_full) of means over seeds,
with L_eq the better of the two dense runs at equal FLOPs and L_full the dense run. A claim whose
rows are not there yet is written down as not run.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from controls import EQUAL
from measure import HERE, study
from parts import PARTS
from scipy import stats
from tuning import MOVING, RATES, RECIPES

from thrifty.report.claims import read_claims
from thrifty.runs.tasks import Row, circumstances, read

Losses = dict[str, dict[int, float]]
"""By variant and seed."""
EQUAL_RIGL = "rigl, equal FLOPs"
SHAKESPEARE = HERE / "shakespeare.json"


def variant(row: Row) -> str:
    """Return the name of a row of controls.csv: the recipe, and what its arguments are."""
    given, changes = json.loads(row["arguments"]), json.loads(row["changes"])
    if "sparsity.block" in changes:
        return f"{row['recipe']} width 384"
    if given.get("sparsity") == EQUAL:
        return EQUAL_RIGL
    return " ".join([row["recipe"], *(f"{name} {value}" for name, value in given.items())])


def grouped(rows: list[Row]) -> dict[str, list[Row]]:
    """Return the rows of every variant, in the order of the file."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[variant(row)].append(row)
    return dict(found)


def losses(found: dict[str, list[Row]]) -> Losses:
    """Return the losses."""
    return {
        name: {int(row["seed"]): float(row["loss"]) for row in rows} for name, rows in found.items()
    }


def mean(rows: list[Row], field: str) -> float:
    """Return the mean of a column."""
    return float(np.mean([float(row[field]) for row in rows]))


def difference(one: dict[int, float], two: dict[int, float]) -> tuple[float, float, float] | None:
    """Return mean and 95 % interval of one - two over the seeds of both; None below two seeds."""
    seeds = sorted(one.keys() & two.keys())
    if len(seeds) < 2:
        return None
    values = np.array([one[seed] - two[seed] for seed in seeds])
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    return float(values.mean()), float(values.mean()) - half, float(values.mean()) + half


def table(found: dict[str, list[Row]]) -> list[str]:
    """Return the table of mixed sparsity and its controls."""
    if not found:
        return ["Not run yet.", ""]
    lines = [
        "| recipe | seeds | parameters | FLOPs of dense | loss | range | bits per byte "
        "| share recovered | past its minimum by | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    equal = [mean(found[name], "loss") for name in ("dense_steps", "dense_batch") if name in found]
    full = mean(found["dense"], "loss") if "dense" in found else None
    for name, rows in sorted(found.items(), key=lambda item: mean(item[1], "loss")):
        own = "width 384" in name or "block" in name
        flops = mean(rows, "flops_ratio")
        if "dense" in found and not own:
            flops = mean(rows, "flops") / mean(found["dense"], "flops")
        here = mean(rows, "loss")
        share = "-"
        if not own and equal and full is not None and min(equal) > full:
            share = f"{(min(equal) - here) / (min(equal) - full):.2f}"
        every = [float(row["loss"]) for row in rows]
        lines.append(
            f"| {name} | {len(rows)} | {int(rows[0]['parameters']):,} | {flops:.3f} | {here:.4f} "
            f"| {min(every):.4f} to {max(every):.4f} | {mean(rows, 'bits_per_byte'):.4f} | {share} "
            f"| {mean(rows, 'rise'):.4f} | {mean(rows, 'seconds') / 60:.1f} |"
        )
    return [*lines, ""]


def parts(rows: list[Row], beside: float | None) -> list[str]:
    """Return the table of what each part costs."""
    done = {row["changes"]: row for row in rows}
    lines = ["| changed | loss | beside the default | ultra density |", "|---|---|---|---|"]
    for name, changes in PARTS.items():
        row = next((r for c, r in done.items() if json.loads(c).items() >= changes.items()), None)
        if row is None:
            lines.append(f"| {name} | not run | | |")
            continue
        gap = "" if beside is None else f"{float(row['loss']) - beside:+.4f}"
        lines.append(f"| {name} | {float(row['loss']):.4f} | {gap} | {row['ultra_density']} |")
    return [*lines, ""]


def tuning(rows: list[Row]) -> list[str]:
    """Return the table of what was chosen, edges marked."""
    lines = ["| recipe | trials | chosen | loss there |", "|---|---|---|---|"]
    for recipe in RECIPES:
        mine = [row for row in rows if row["recipe"] == recipe]
        if not mine:
            lines.append(f"| {recipe} | 0 | not run | |")
            continue
        best = min(mine, key=lambda row: float(row["loss"]))
        changes = json.loads(best["changes"])
        tried = RATES[1::2] if recipe in MOVING else RATES
        edge = changes["optimizer.learning_rate"] in (tried[0], tried[-1])
        chosen = ", ".join(f"{name} {value:g}" for name, value in changes.items())
        shown = f"{chosen}{' (edge of the rates tried)' if edge else ''}"
        lines.append(f"| {recipe} | {len(mine)} | {shown} | {float(best['loss']):.4f} |")
    return [*lines, ""]


def claims(of: Losses, seeds: list[int]) -> list[dict[str, Any]]:
    """Return the rows of claims.toml."""
    quarter = None
    if {"dense_steps", "dense_batch"} <= of.keys():
        names = sorted(("dense_steps", "dense_batch"), key=lambda n: np.mean(list(of[n].values())))
        quarter = of[names[0]]
    metric = "loss beside it, nats per token, paired by seed"
    lower = "lower end of the 95 % interval of the loss beside it, nats per token, paired by seed"
    asked = (
        ("MST at .25 of the FLOPs is better than dense with a quarter of them", metric, quarter, 0),
        ("MST is not worse than a dense model of a quarter of the size", lower, of.get("tiny"), 1),
        ("MST is not worse than RigL at 80 %, which costs .30", lower, of.get("rigl"), 1),
        ("MST is not worse than RigL at equal FLOPs", lower, of.get(EQUAL_RIGL), 1),
    )
    found = []
    for claim, what, other, index in asked:
        gap = None if other is None or "mst" not in of else difference(of["mst"], other)
        row: dict[str, Any] = {
            "claim": claim,
            "where": "abstract: a quarter of the FLOPs, equal quality; ours: 3.7M parameters",
            "metric": what,
            "expected": "<= 0",
            "tolerance": 0,
        }
        if gap is not None:
            row |= {"measured": round(gap[index], 5), "seeds": seeds}
            row["interval"] = [round(gap[1], 5), round(gap[2], 5)]
        row["status"] = "not run" if gap is None else "holds" if gap[index] <= 0 else "failed"
        found.append(row)
    return [*found, shakespeare()]


def shakespeare() -> dict[str, Any]:
    """Return the claim about the first run that people try."""
    row: dict[str, Any] = {
        "claim": "`thrifty train mst.shakespeare` learns within 10 minutes on 2 cores",
        "where": "ours, no counterpart in the paper",
        "metric": "bits per byte on held-out works, last evaluation within 10 minutes",
        "expected": "<= 2.6",
        "tolerance": 0,
    }
    if not SHAKESPEARE.exists():
        return row | {"status": "not run"}
    run = json.loads(SHAKESPEARE.read_text(encoding="utf-8"))
    held = run["bits_per_byte"] <= 2.6
    row |= {
        "measured": run["bits_per_byte"],
        "seeds": [0],
        "hours": round(run["seconds"] / 3600, 3),
    }
    return row | {"hardware": run["hardware"], "status": "holds" if held else "failed"}


def write_claims(
    path: Path, rows: list[dict[str, Any]], hardware: str, hours: float | None
) -> None:
    """Write claims.toml, and read it again: a status that contradicts its number is refused."""
    lines = [
        "# Claims about MST (Hu et al., TMLR 2025), at the size of a laptop. Rows: run.sh.",
        "",
    ]
    for row in rows:
        lines.append("[[claims]]")
        if "measured" in row and "hardware" not in row:
            row |= {"hardware": hardware, **({} if hours is None else {"hours": round(hours, 2)})}
        lines += [f"{key} = {json.dumps(value)}" for key, value in row.items()]
        lines.append("")
    path.write_text("\n".join(lines), encoding="utf-8")
    read_claims(path)


def main(out: Path) -> None:
    """Write both files."""
    found = grouped(read(out / "controls.csv"))
    of = losses(found)
    hardware, hours = circumstances(out)
    seeds = sorted(of.get("mst", {}))
    text = [
        "# Mixed sparsity on the embedded corpus: what our runs say",
        "",
        f"3.7 million parameters, 5.1 million tokens; {hardware}"
        + ("." if hours is None else f"; {hours:.1f} processor hours."),
        "",
        "## Mixed sparsity and its controls",
        "",
        *table(found),
        "## What each part costs (one seed)",
        "",
        *parts(read(out / "parts.csv"), of.get("mst", {}).get(0)),
        "## Tuning (two fifths of the steps, a seed of its own)",
        "",
        *tuning(read(out / "tuning.csv")),
    ]
    (out / "summary.md").write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")
    write_claims(out / "claims.toml", claims(of, seeds), hardware, hours)


if __name__ == "__main__":
    main(study(__doc__).out)
