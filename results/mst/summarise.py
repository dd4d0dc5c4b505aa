"""Turn the rows of the other scripts into summary.md and claims.toml.

    python results/mst/summarise.py

Losses are nats per token on all held-out tokens. Differences are paired by seed; intervals are 95 %
of Student's t over the seeds. Share recovered is (L_eq - L) / (L_eq - L_full) of means over the
seeds that all have, with L_eq the better of the two dense runs at equal FLOPs and L_full the dense
run. Rows of other settings than those that the scripts ask for now are left out. A claim is written
down as not run until all of its seeds are there, and where a side diverged, is past its validation
minimum, or does not cost the quarter of dense that it is to.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import controls
import numpy as np
import parts as schedules
import tuning as trials
from controls import EQUAL, SEEDS
from measure import HERE, Study, chosen, current, study
from parts import DEFAULT, NOT_OFFERED, PARTS
from scipy import stats
from tuning import MOVING, RATES, RECIPES

from thrifty.report.claims import read_claims
from thrifty.runs.tasks import Row, circumstances, read

Losses = dict[str, dict[int, float]]
"""By variant and seed."""
EQUAL_RIGL = "rigl, equal FLOPs"
QUARTERS = ("dense_steps", "dense_batch")
PAST = 0.01
"""Nats by which a run may end above its lowest evaluation: more is past its validation minimum."""
QUARTER, NEAR = 0.25, 0.02
"""FLOPs over those of dense, and the part of it by which they may differ."""
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
    """Return mean and 95 % interval of one - two over the seeds of both.

    None below two seeds, and where a run diverged.
    """
    seeds = sorted(one.keys() & two.keys())
    values = np.array([one[seed] - two[seed] for seed in seeds if one[seed] + two[seed] < np.inf])
    if not 2 <= len(values) == len(seeds):
        return None
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    return float(values.mean()), float(values.mean()) - half, float(values.mean()) + half


def past(found: dict[str, list[Row]]) -> list[str]:
    """Return the variants that are past their validation minimum, in the mean over seeds."""
    return [name for name, rows in found.items() if mean(rows, "rise") > PAST]


def unequal(found: dict[str, list[Row]]) -> list[str]:
    """Return the variants that are held to a quarter of dense's FLOPs and do not cost that."""
    dense = found.get("dense", [])
    held = [name for name in ("mst", *QUARTERS, "tiny", EQUAL_RIGL) if dense and name in found]
    share = {name: mean(found[name], "flops") / mean(dense, "flops") for name in held}
    return [name for name in held if abs(share[name] / QUARTER - 1.0) > NEAR]


def quarter(of: Losses, seeds: Iterable[int] | None = None) -> dict[int, float] | None:
    """Return the losses of the better dense run at equal FLOPs; None where one is missing.

    Args:
        of: losses.
        seeds: better over these; default those that both have.
    """
    if not set(QUARTERS) <= of.keys():
        return None
    one, two = (of[name] for name in QUARTERS)
    both = sorted(one.keys() & two.keys() if seeds is None else seeds)
    return min(one, two, key=lambda losses: sum(losses[seed] for seed in both))


def recovered(of: Losses, name: str) -> float | None:
    """Return the share recovered of a variant, over the seeds that all have; None without."""
    full = of.get("dense", {})
    seeds = of[name].keys() & full.keys()
    for other in QUARTERS:
        seeds &= of.get(other, {}).keys()
    equal = quarter(of, seeds)
    if equal is None or not seeds:
        return None
    low, here, high = (sum(x[seed] for seed in seeds) for x in (full, of[name], equal))
    return (high - here) / (high - low) if np.inf > high > low else None


def table(found: dict[str, list[Row]], of: Losses) -> list[str]:
    """Return the table of mixed sparsity and its controls."""
    if not found:
        return ["Not run yet.", ""]
    lines = [
        "| recipe | seeds | parameters | FLOPs of dense | loss | range | beside dense "
        "| bits per byte | share recovered | past its minimum by | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in sorted(found.items(), key=lambda item: mean(item[1], "loss")):
        own = "width 384" in name or "block" in name
        flops, beside, share = mean(rows, "flops_ratio"), None, None
        if "dense" in found and not own:
            flops = mean(rows, "flops") / mean(found["dense"], "flops")
            beside, share = difference(of[name], of["dense"]), recovered(of, name)
        every = [float(row["loss"]) for row in rows]
        lines.append(
            f"| {name} | {len(rows)} | {int(rows[0]['parameters']):,} | {flops:.3f} "
            f"| {mean(rows, 'loss'):.4f} | {min(every):.4f} to {max(every):.4f} "
            f"| {'-' if beside is None else shown(beside)} | {mean(rows, 'bits_per_byte'):.4f} "
            f"| {'-' if share is None else f'{share:.2f}'} "
            f"| {mean(rows, 'rise'):.4f} | {mean(rows, 'seconds') / 60:.1f} |"
        )
    return [*lines, ""]


def shown(gap: tuple[float, float, float]) -> str:
    """Return a difference with its interval in words."""
    return f"{gap[0]:+.4f} ({gap[1]:+.4f} to {gap[2]:+.4f})"


def reached(found: dict[str, list[Row]], of: Losses) -> list[str]:
    """Return what mixed sparsity has reached, in sentences."""
    lines = []
    equal, share = quarter(of), recovered(of, "mst") if "mst" in of else None
    for other, words in (
        (of.get("dense"), "the dense run of the same steps"),
        (equal, "the better dense run at a quarter of the FLOPs"),
        (of.get("tiny"), "the dense model of a quarter of the size"),
        (of.get("rigl"), "RigL at 80 %"),
        (of.get(EQUAL_RIGL), "RigL at equal FLOPs"),
    ):
        gap = None if other is None or "mst" not in of else difference(of["mst"], other)
        if gap is not None:
            lines.append(f"- beside {words}: {shown(gap)} nats per token")
    if lines:
        lines = ["Mixed sparsity at .25 of the FLOPs, below 0 is better:", "", *lines, ""]
    if share is not None:
        lines += [f"Of the gap between those two dense runs it recovers {share:.2f}.", ""]
    if late := past(found):
        lines += [
            f"Past the validation minimum by more than {PAST} nats, so that what is held beside it "
            f"is not decided: {', '.join(late)}. Fewer steps, or more weight decay, for them.",
            "",
        ]
    if other := unequal(found):
        lines += [f"Not within 2 % of a quarter of dense's FLOPs: {', '.join(other)}.", ""]
    return lines


def parts(rows: list[Row], of: Study) -> list[str]:
    """Return the table of what each part costs."""
    done = {row["changes"]: row for row in rows}
    every = zip(PARTS, schedules.wanted(of), strict=True)
    named = {name: done.get(one["changes"]) for name, one in every}
    beside = named[DEFAULT]
    lines = ["| changed | loss | beside the default | ultra density |", "|---|---|---|---|"]
    for name, row in named.items():
        if row is None:
            lines.append(f"| {name} | not run | | |")
            continue
        gap = "" if beside is None else f"{float(row['loss']) - float(beside['loss']):+.4f}"
        lines.append(f"| {name} | {float(row['loss']):.4f} | {gap} | {row['ultra_density']} |")
    return [*lines, ""]


def named(changes: dict[str, Any]) -> str:
    """Return the name of a part by its changes."""
    return next(name for name, one in PARTS.items() if one == changes)


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


def claims(found: dict[str, list[Row]], of: Losses) -> list[dict[str, Any]]:
    """Return the rows of claims.toml."""
    metric = "loss beside it, nats per token, paired by seed"
    lower = f"lower end of the 95 % interval of the {metric}"
    asked = (
        ("MST at .25 of the FLOPs is not worse than dense", lower, ("dense",), 1),
        (
            "MST at .25 of the FLOPs is better than dense with a quarter of them",
            metric,
            QUARTERS,
            0,
        ),
        ("MST is not worse than a dense model of a quarter of the size", lower, ("tiny",), 1),
        ("MST is not worse than RigL at 80 %, which costs .30", lower, ("rigl",), 1),
        ("MST is not worse than RigL at equal FLOPs", lower, (EQUAL_RIGL,), 1),
    )
    rows = []
    for claim, what, others, index in asked:
        other = quarter(of) if others == QUARTERS else of.get(others[0])
        gap = None if other is None or "mst" not in of else difference(of["mst"], other)
        row: dict[str, Any] = {
            "claim": claim,
            "where": "abstract: a quarter of the FLOPs, equal quality; ours: 3.7M parameters",
            "metric": what,
            "expected": "<= 0",
            "tolerance": 0,
        }
        seeds = [] if other is None else sorted(of.get("mst", {}).keys() & other.keys())
        undecided = {*past(found), *unequal(found)} & {"mst", *others}
        if gap is None or seeds != list(SEEDS) or undecided:
            rows.append(row | {"status": "not run"})
            continue
        used = [one for name in ("mst", *others) for one in found[name]]
        row |= {"measured": round(gap[index], 5), "seeds": seeds, "hours": hours(used)}
        row["interval"] = [round(gap[1], 5), round(gap[2], 5)]
        rows.append(row | {"status": "holds" if row["measured"] <= 0 else "failed"})
    return [*rows, shakespeare()]


def hours(rows: list[Row]) -> float:
    """Return the processor hours of some rows together."""
    return round(sum(float(row["cpu_seconds"]) for row in rows) / 3600, 2)


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


def write_claims(path: Path, rows: list[dict[str, Any]], hardware: str) -> None:
    """Write claims.toml, and read it again: a status that contradicts its number is refused."""
    lines = [
        "# Claims about MST (Hu et al., TMLR 2025), at the size of a laptop. Rows: run.sh.",
        "",
    ]
    for row in rows:
        lines.append("[[claims]]")
        if "measured" in row and "hardware" not in row:
            row["hardware"] = hardware
        lines += [f"{key} = {json.dumps(value)}" for key, value in row.items()]
        lines.append("")
    path.write_text("\n".join(lines), encoding="utf-8")
    read_claims(path)


def main(of: Study) -> None:
    """Write both files."""
    tables = {name: read(of.out / f"{name}.csv") for name in ("tuning", "parts", "controls")}
    asked = {"parts": schedules.wanted(of), "controls": controls.wanted(of)}
    asked["tuning"] = [one for recipe in RECIPES for one in trials.wanted(of, recipe)]
    rows = {name: current(tables[name], wanted) for name, wanted in asked.items()}
    others = sum(len(tables[name]) - len(rows[name]) for name in tables)
    found = grouped(rows["controls"])
    hardware, _ = circumstances(of.out)
    spent = hours([row for table in rows.values() for row in table])
    text = [
        "# Mixed sparsity on the embedded corpus: what our runs say",
        "",
        f"3.7 million parameters, 5.1 million tokens; {hardware}"
        + (f"; {spent:.1f} processor hours." if spent else "."),
        "",
    ]
    if others:
        text += [f"Rows of other settings, which are left out here: {others}.", ""]
    text += [
        "## Mixed sparsity and its controls",
        "",
        *table(found, losses(found)),
        *reached(found, losses(found)),
        "## What each part costs (one seed, that of the tuning, and its held-out works)",
        "",
        *parts(rows["parts"], of),
    ]
    if (of.out / "parts.toml").exists():
        text += [
            f"Best, and what mixed sparsity has above: {named(chosen('parts', 'mst', of.out))}. It "
            f"is the best of {len(PARTS) - len(NOT_OFFERED)} schedules; its controls had the "
            "trials below alone.",
            "",
        ]
    text += [
        "## Tuning (two fifths of the steps, a seed and held-out works of its own)",
        "",
        *tuning(rows["tuning"]),
    ]
    (of.out / "summary.md").write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")
    write_claims(of.out / "claims.toml", claims(found, losses(found)), hardware)


if __name__ == "__main__":
    main(study(__doc__))
