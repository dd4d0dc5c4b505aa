"""Turn the rows of the other scripts into pictures, summary.md and claims.toml.

    python results/rsd4/summarise.py [--out FOLDER]

Means over seeds, with the smallest and the largest. A claim whose rows are not there yet is written
down as not run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from measure import HERE, read

from thrifty.report.claims import read_claims
from thrifty.report.figures import INK, MUTED, PALETTE, legend, panel
from thrifty.scheduling import optimum
from thrifty.scheduling.scenarios import scenario

Rows = list[dict[str, str]]

BAND = 0.01
MARKS = {"S1": 98.5, "S3": 97.0, "S4": 97.0, "S5": 95.0}
RULES = {"S1": ("myopic rule", 99.3), "S3": ("myopic rule", 95.6), "S4": ("myopic rule", 94.4),
         "S5": ("per-hop myopic pricing", 89.1)}  # fmt: skip


def hardware(rows: Rows) -> str:
    """Return what the rows were computed on, in words."""
    return f"{'; '.join(sorted({row['machine'] for row in rows}))}, one thread a run"


def of(rows: Rows, recipe: str, name: str) -> Rows:
    """Return the rows of a recipe on a scenario."""
    return [row for row in rows if row["recipe"] == recipe and row["scenario"] == name]


def scores(rows: Rows, anchors: dict[str, str]) -> list[float]:
    """Return (R - blind) / (filter - blind) of each row, at the energy that it spent."""
    found = []
    for row in rows:
        over = json.loads(row["energy"])[0] - float(anchors["budget"])
        blind = float(anchors["blind"]) + float(anchors["blind_multiplier"]) * over
        best = float(anchors["filter"]) + float(anchors["filter_multiplier"]) * over
        found.append((float(row["throughput"]) - blind) / (best - blind))
    return found


def claim(text: str, metric: str, expected: str, values: list[float], rows: Rows) -> dict[str, Any]:
    """Return a claim about the mean of values, one for each row."""
    row: dict[str, Any] = {"claim": text, "where": "ours, no counterpart in the paper"}
    row |= {"metric": metric, "expected": expected, "tolerance": 0, "status": "not run"}
    if values:
        mean = round(float(np.mean(values)), 3)
        bound = float(expected[3:])
        holds = mean <= bound if expected.startswith("<=") else mean >= bound
        row |= {"measured": mean, "interval": [round(min(values), 3), round(max(values), 3)]}
        row |= {"seeds": sorted({int(one["seed"]) for one in rows}), "hardware": hardware(rows)}
        row["hours"] = round(sum(float(one["cpu_seconds"]) for one in rows) / 3600, 3)
        row["status"] = "holds" if holds else "failed"
    return row


def frontier(rows: Rows, name: str, anchors: dict[str, str] | None) -> Figure:
    """Draw what the agents of a scenario bring over energy, beside the exact optimum."""
    figure, axes = panel(3.2)
    scene = scenario(name)
    exact = [optimum.solve(scene, scene.budget * part) for part in np.geomspace(0.1, 2.4, 14)]
    axes.plot([one.energy.sum() for one in exact], [one.optimum for one in exact], color=INK,
              linestyle="--", linewidth=1.2, label="exact optimum")  # fmt: skip
    longest = 1.03 * exact[-1].energy.sum()
    for index, (recipe, label) in enumerate(((name.lower(), "RSD4"), ("sd3", "feed-forward"))):
        for number, row in enumerate(of(rows, recipe, name)):
            points = np.array(sorted(json.loads(row["curve"])))[:, :2]
            points = points[points[:, 0] <= longest]
            axes.plot(*points.T, "o", color=PALETTE[index], markersize=4, alpha=0.8,
                      label=label if number == 0 else None)  # fmt: skip
    if anchors is not None:
        axes.plot([float(anchors["budget"])] * 2,
                  [float(anchors["blind"]), float(anchors["filter"])], "_", color=INK,
                  markersize=14, label="blind table, Bayes filter")  # fmt: skip
    axes.axvline(scene.budget.sum(), color=MUTED, linewidth=1.0, linestyle=":")
    axes.set_xlabel("energy per slot")
    axes.set_ylabel("weighted throughput per slot")
    axes.set_xlim(0, longest)
    axes.set_ylim(bottom=0)
    legend(figure, axes)
    return figure


def main() -> None:
    """Summarise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    folder = parser.parse_args().out
    rows = read(folder / "training.csv")
    anchors = next(iter(read(folder / "anchors.csv")), None)
    text = ["# RSD4: what our runs say", "", f"Hardware: {hardware(rows)}.", ""]
    text += [
        "| scenario | recipe | agent | seeds | throughput | energy | % of optimum at the budget | "
        "% at its energy, paired | off the budget, % | CPU s a run |",
        "|" + "---|" * 10,
    ]
    for name, recipe in sorted({(row["scenario"], row["recipe"]) for row in rows}):
        own = of(rows, recipe, name)

        def mean(column: str, own: Rows = own) -> float:
            return float(np.mean([float(row[column]) for row in own]))

        energy = np.mean([json.loads(row["energy"]) for row in own], axis=0)
        spread = [100 * float(row["paired"]) for row in own]
        text.append(
            f"| {name} | {recipe} | {own[0]['agent']} | {len(own)} | {mean('throughput'):.3f} | "
            f"{', '.join(f'{one:.3f}' for one in energy)} | {100 * mean('of_optimum'):.2f} | "
            f"{100 * mean('paired'):.2f} ({min(spread):.2f} to {max(spread):.2f}) | "
            f"{100 * max(float(row['off_budget']) for row in own):.2f} | "
            f"{mean('cpu_seconds'):.0f} |"
        )
    text.append("")
    claims = []
    for name, mark in MARKS.items():
        own = of(rows, name.lower(), name)
        rule, value = RULES[name]
        claims.append(
            claim(
                f"RSD4 on {name} ({rule}: {value} %)",
                "% of the exact optimum at the energy spent, paired; mean, smallest, largest",
                f">= {mark}",
                [100 * float(row["paired"]) for row in own],
                own,
            )
        )
    both = [of(rows, recipe, "S2") for recipe in ("s2", "sd3")]
    values = [scores(own, anchors) if anchors else [] for own in both]
    metric = "(R - blind) / (filter - blind) at the energy spent; mean, smallest, largest"
    claims.append(claim("RSD4 on S2, channel hidden", metric, ">= 0.6", values[0], both[0]))
    paired = (
        {int(row["seed"]): value for row, value in zip(both[1], values[1], strict=True)}
        if anchors
        else {}
    )
    gains = [(value - paired[int(row["seed"])], row)
             for row, value in zip(both[0], values[0], strict=bool(anchors))
             if int(row["seed"]) in paired]  # fmt: skip
    claims.append(
        claim("RSD4 over its feed-forward twin on S2", "difference of scores of equal seeds",
              ">= 0.25", [gain for gain, _ in gains], [row for _, row in gains])
    )  # fmt: skip
    every = [row for row in rows if row["recipe"] in ("s1", "s2", "s3", "s4", "s5", "sd3")]
    claims.append(
        claim("every test of RSD4 and its twin meets its budget, to either side",
              "largest miss, % of the budget; mean, smallest, largest", f"<= {100 * BAND:g}",
              [100 * float(row["off_budget"]) for row in every], every)
    )  # fmt: skip
    if anchors:
        text += [f"S2: blind {anchors['blind']}, Bayes filter {anchors['filter']} "
                 f"(standard error {anchors['filter_error']}), delayed bound "
                 f"{anchors['delayed']}; scores of RSD4 "
                 f"{', '.join(f'{one:.3f}' for one in values[0]) or 'none'}, of the feed-forward "
                 f"twin {', '.join(f'{one:.3f}' for one in values[1]) or 'none'}.", ""]  # fmt: skip
    for name in sorted({row["scenario"] for row in rows}):
        figure = frontier(rows, name, anchors if name == "S2" else None)
        figure.savefig(folder / f"frontier_{name}.png", dpi=150)
        text += [f"![{name}](frontier_{name}.png)", ""]
    (folder / "summary.md").write_text("\n".join(text), encoding="utf-8")
    lines = ["# Claims about RSD4. Rows: results/rsd4/run.sh."]
    for one in claims:
        lines += ["", "[[claims]]", *(f"{key} = {json.dumps(value)}" for key, value in one.items())]
    path = folder / "claims.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    read_claims(path)


if __name__ == "__main__":
    main()
