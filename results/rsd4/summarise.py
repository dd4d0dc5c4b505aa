"""Turn the rows of the other scripts into pictures, summary.md and claims.toml.

    python results/rsd4/summarise.py [--out FOLDER]

Means over seeds, with the smallest and the largest. What has no rows yet is written down as not
run. The simple rule beside an agent is the best of those in schedulers.csv that met the budget.
The myopic one, also computed exactly at the budget, gives every packet
``argmax_e beta p(e) - price e``, without a look ahead or a value.
"""

from __future__ import annotations

import argparse
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from measure import HERE, circumstances, read

from thrifty.report.claims import read_claims
from thrifty.report.figures import INK, MUTED, PALETTE, legend, panel
from thrifty.runs.tasks import Row
from thrifty.scheduling import optimum
from thrifty.scheduling.priorities import PRIORITIES
from thrifty.scheduling.scenarios import scenario

BAND = 0.01
MARKS = {"S1": 98.5, "S3": 97.0, "S4": 97.0, "S5": 95.0}
SCORE, GAIN = 0.6, 0.25
CLOSE = 0.5  # points of % by which an agent must beat a simple rule to be called better
SIMPLE = ("uniform", *PRIORITIES, "water-filling", "myopic", "drift plus penalty")
"""Rules that neither plan ahead nor estimate anything but a price."""
SCENARIOS = ("S1", "S2", "S3", "S4", "S5")
NAMES = {"sd3": "SD3: without recurrence", "rtd3": "RTD3: without softmax",
         "td3": "TD3: neither", "ddpg": "DDPG", "whole": "credit per user",
         "published": "credit per user, published pairing", "ppo": "RecurrentPPO"}  # fmt: skip
PARTS = {"rtd3": "without softmax", "sd3": "without recurrence", "td3": "without both",
         "ddpg": "DDPG", "whole": "credit per user and not per packet",
         "published": "per user in the published pairing"}  # fmt: skip


@cache
def myopic(name: str) -> float:
    """Return what the myopic rule brings at a scenario's budget, in % of the optimum."""
    of = scenario(name)
    best = optimum.solve(of, of.budget).optimum
    return 100 * optimum.myopic(of, of.budget).optimum / best


def best_rule(rules: list[Row], name: str) -> tuple[str, float]:
    """Return the best simple rule that met a scenario's budget, and its % of the optimum.

    Where none was measured, the myopic one, exactly.
    """
    own = {
        row["scheduler"]: 100 * float(row["paired"])
        for row in rules
        if row["scenario"] == name and row["scheduler"] in SIMPLE
        if float(row["off_budget"]) <= BAND
    }
    return max(own.items(), key=lambda one: one[1]) if own else ("myopic", myopic(name))


def of(rows: list[Row], recipe: str, name: str) -> list[Row]:
    """Return the rows of a recipe on a scenario."""
    return [row for row in rows if row["recipe"] == recipe and row["scenario"] == name]


def percent(rows: list[Row]) -> list[float]:
    """Return each row's part of the optimum at the energy that it spent, paired, in %."""
    return [100 * float(row["paired"]) for row in rows]


def scores(rows: list[Row], anchors: Row) -> list[float]:
    """Return (R - blind) / (filter - blind) of each row, at the energy that it spent."""
    found = []
    for row in rows:
        over = json.loads(row["energy"])[0] - float(anchors["budget"])
        blind = float(anchors["blind"]) + float(anchors["blind_multiplier"]) * over
        best = float(anchors["filter"]) + float(anchors["filter_multiplier"]) * over
        found.append((float(row["throughput"]) - blind) / (best - blind))
    return found


def claim(
    text: str, metric: str, expected: str, values: list[float], rows: list[Row], machine: str
) -> dict[str, Any]:
    """Return a claim about the mean of values, one for each row, or about a single number."""
    row: dict[str, Any] = {"claim": text, "where": "ours, no counterpart in the paper"}
    row |= {"metric": metric, "expected": expected, "tolerance": 0, "status": "not run"}
    if values:
        mean = round(float(np.mean(values)), 3)
        bound = float(expected[3:])
        holds = mean <= bound if expected.startswith("<=") else mean >= bound
        row |= {"measured": mean}
        if len(values) > 1:
            row |= {"interval": [round(min(values), 3), round(max(values), 3)]}
        row |= {"seeds": sorted({int(one["seed"]) for one in rows}), "hardware": machine}
        row["hours"] = round(sum(float(one["cpu_seconds"]) for one in rows) / 3600, 3)
        row["status"] = "holds" if holds else "failed"
    return row


def claims(rows: list[Row], anchors: Row | None, machine: str) -> list[dict[str, Any]]:
    """Return all claims."""
    found = []
    metric = "% of the exact optimum at the energy spent, paired; mean, smallest, largest"
    for name, mark in MARKS.items():
        own = of(rows, name.lower(), name)
        text = f"RSD4 on {name} (the myopic rule has {myopic(name):.1f} %)"
        found.append(claim(text, metric, f">= {mark}", percent(own), own, machine))
    both = [of(rows, recipe, "S2") for recipe in ("s2", "sd3")]
    values = [scores(own, anchors) if anchors else [] for own in both]
    metric = "(R - blind) / (filter - blind) at the energy spent; mean, smallest, largest"
    text = "RSD4 on S2, channel hidden"
    found.append(claim(text, metric, f">= {SCORE}", values[0], both[0], machine))
    gains: list[float] = []
    with_twin: list[Row] = []
    if anchors:
        twin = {row["seed"]: value for row, value in zip(both[1], values[1], strict=True)}
        with_twin = [row for row in both[0] if row["seed"] in twin]
        of_row = {row["seed"]: value for row, value in zip(both[0], values[0], strict=True)}
        gains = [of_row[row["seed"]] - twin[row["seed"]] for row in with_twin]
    text, metric = (
        "RSD4 over its feed-forward twin on S2",
        "difference of scores of equal seeds; mean, smallest, largest",
    )
    found.append(claim(text, metric, f">= {GAIN}", gains, with_twin, machine))
    worst = [100 * max(float(row["off_budget"]) for row in rows)] if rows else []
    text = "every test of RSD4, its twin and the ablations meets its budget, to either side"
    metric = "largest miss of all, % of the budget"
    found.append(claim(text, metric, f"<= {100 * BAND:g}", worst, rows, machine))
    own = of(rows, "s1", "S1")
    slowest = [max(float(row["cpu_seconds"]) for row in own) / 60] if own else []
    text = "a full RSD4 training on S1 takes at most 20 minutes"
    metric = "processor minutes of the slowest, calibration and test included"
    found.append(claim(text, metric, "<= 20", slowest, own, machine))
    return found


def frontier(rows: list[Row], ppo: list[Row], name: str, anchors: Row | None) -> Figure:
    """Draw what the agents of a scenario bring over energy, beside the exact optimum."""
    figure, axes = panel(3.4)
    scene = scenario(name)
    budget = float(scene.budget.sum())
    exact = optimum.trade_off(scene, budget)
    longest = min(2.5 * budget, 1.03 * float(exact[-1, 0]))
    exact = exact[exact[:, 0] <= longest]
    axes.plot(*exact.T, color=INK, linestyle="--", linewidth=1.2, label="exact optimum")
    for index, (recipe, label) in enumerate(((name.lower(), "RSD4"), ("sd3", "feed-forward"))):
        for number, row in enumerate(of(rows, recipe, name)):
            points = np.array(sorted(json.loads(row["curve"])))[:, :2]
            points = points[points[:, 0] <= longest]
            axes.plot(*points.T, "o", color=PALETTE[index], markersize=4, alpha=0.8,
                      label=label if number == 0 else None)  # fmt: skip
    for number, row in enumerate(ppo):
        axes.plot([sum(json.loads(row["energy"]))], [float(row["throughput"])], "x", markersize=6,
                  color=PALETTE[3], label=NAMES["ppo"] if number == 0 else None)  # fmt: skip
    if anchors is not None:
        axes.plot([float(anchors["budget"])] * 2,
                  [float(anchors["blind"]), float(anchors["filter"])], "_", color=INK,
                  markersize=14, label="blind table, Bayes filter")  # fmt: skip
    else:
        rule = optimum.myopic(scene, scene.budget)
        axes.plot([rule.energy.sum()], [rule.optimum], "_", color=INK, markersize=14,
                  label="myopic rule")  # fmt: skip
    axes.axvline(budget, color=MUTED, linewidth=1.0, linestyle=":")
    axes.set_xlabel("energy per slot" + (", all nodes" if scene.hops > 1 else ""))
    axes.set_ylabel("weighted throughput per slot")
    axes.set_xlim(0, longest)
    axes.set_ylim(bottom=0)
    legend(figure, axes)
    return figure


def marks(rows: list[Row], rules: list[Row]) -> Figure:
    """Draw what every training reached, beside the marks and the best simple rule."""
    figure, axes = panel(3.0)
    places = [name for name in MARKS if of(rows, name.lower(), name) or of(rows, "sd3", name)]
    for place, name in enumerate(places):
        axes.hlines(MARKS[name], place - 0.35, place + 0.35, color=INK, linewidth=1.2,
                    label="mark" if place == 0 else None)  # fmt: skip
        _, rule = best_rule(rules, name)
        axes.hlines(rule, place - 0.35, place + 0.35, color=MUTED, linewidth=1.2,
                    linestyle=":", label="best simple rule" if place == 0 else None)  # fmt: skip
        for index, (recipe, label) in enumerate(((name.lower(), "RSD4"), ("sd3", "feed-forward"))):
            values = percent(of(rows, recipe, name))
            at = place + 0.18 * (2 * index - 1) + np.linspace(-0.06, 0.06, len(values))
            axes.plot(at, values, "o", color=PALETTE[index], markersize=4,
                      label=label if place == 0 else None)  # fmt: skip
    axes.set_xticks(range(len(places)), places)
    axes.set_ylabel("% of the exact optimum")
    legend(figure, axes)
    return figure


def table(rows: list[Row], anchors: Row | None) -> list[str]:
    """Return the table of all trainings."""
    text = [
        "| scenario | recipe | what | seeds | throughput | energy | % of optimum at the budget | "
        "% at its energy, paired | score | off the budget, % | episodes tested | CPU s a run |",
        "|" + "---|" * 12,
    ]
    for name, recipe in sorted({(row["scenario"], row["recipe"]) for row in rows}):
        own = of(rows, recipe, name)

        def mean(column: str, own: list[Row] = own) -> float:
            return float(np.mean([float(row[column]) for row in own]))

        energy = np.mean([json.loads(row["energy"]) for row in own], axis=0)
        spread = percent(own)
        points = scores(own, anchors) if anchors and name == "S2" else []
        score = f"{np.mean(points):.2f} ({min(points):.2f} to {max(points):.2f})" if points else ""
        text.append(
            f"| {name} | {recipe} | {NAMES.get(recipe, 'RSD4')} | {len(own)} | "
            f"{mean('throughput'):.3f} | {', '.join(f'{one:.3f}' for one in energy)} | "
            f"{100 * mean('of_optimum'):.2f} | "
            f"{np.mean(spread):.2f} ({min(spread):.2f} to {max(spread):.2f}) | {score} | "
            f"{100 * max(float(row['off_budget']) for row in own):.2f} | "
            f"{mean('episodes'):,.0f} | {mean('cpu_seconds'):.0f} |"
        )
    return [*text, ""]


def beside(rules: list[Row], rows: list[Row]) -> list[str]:
    """Return the table of all schedulers, the two agents among them, the best first."""
    text = [
        "## All schedulers", "",
        "Schedulers with their standard error over 400 environments, agents as means over seeds. "
        "What a rule is told is the budget at which it spends E_0, found on other seeds; "
        "rules with a hard budget keep to it in every slot. On S5 some cannot spend E_0 at the "
        "last node, which too few packets reach in time. Certainty equivalent counts what all 400 "
        "environments show it, 120,000 slots before the first that counts.",
        "", "| scenario | scheduler | % of optimum at its energy, paired | % at the budget | "
        "throughput | energy | off the budget, % | Jain | told, V |", "|" + "---|" * 9,
    ]  # fmt: skip
    for name in SCENARIOS:
        lines = []
        for row in rules:
            if row["scenario"] != name:
                continue
            energy = ", ".join(f"{one:.3f}" for one in json.loads(row["energy"]))
            told = ", ".join(f"{one:g}" for one in json.loads(row["told"]))
            told += f"; V {float(row['v']):g}" if row["v"] else ""
            part = 100 * float(row["paired"])
            error = 100 * float(row["paired_error"])
            lines.append((part, (
                f"| {name} | {row['scheduler']} | {part:.2f} ± {error:.2f}"
                f" | {100 * float(row['of_optimum']):.2f} | {float(row['throughput']):.3f} | "
                f"{energy} | {100 * float(row['off_budget']):.2f} | {float(row['fairness']):.2f} | "
                f"{told} |"
            )))  # fmt: skip
        for recipe, label in ((name.lower(), "**RSD4**"), ("sd3", "**SD3, its twin**")):
            own = of(rows, recipe, name)
            if not own or not lines:
                continue
            means = {
                key: float(np.mean([float(row[key]) for row in own]))
                for key in ("paired", "of_optimum", "throughput", "fairness")
            }
            spent = np.mean([json.loads(row["energy"]) for row in own], axis=0)
            energy = ", ".join(f"{one:.3f}" for one in spent)
            off = 100 * max(float(row["off_budget"]) for row in own)
            part = 100 * means["paired"]
            lines.append((part, (
                f"| {name} | {label} | {part:.2f} | {100 * means['of_optimum']:.2f} | "
                f"{means['throughput']:.3f} | {energy} | {off:.2f} | {means['fairness']:.2f} | |"
            )))  # fmt: skip
        text += [line for _, line in sorted(lines, reverse=True)]
    return [*text, ""]


def plainly(rows: list[Row], anchors: Row | None, rules: list[Row]) -> list[str]:
    """Return in words where a simple rule is as good, and what the scores are between."""
    text = []
    for name in MARKS:
        found = percent(of(rows, name.lower(), name))
        if not found:
            text.append(f"- {name}: not run.")
            continue
        mean, (rule, reached) = float(np.mean(found)), best_rule(rules, name)
        close = mean < reached + CLOSE
        verdict = f"the simple rule is as good to {CLOSE:g} points" if close else "RSD4 is better"
        mark = "meets" if mean >= MARKS[name] else "misses"
        text.append(
            f"- {name}: RSD4 {mean:.2f} %, the best simple rule ({rule}) {reached:.2f} %: "
            f"{verdict}; it {mark} the mark of {MARKS[name]:g} %.{planned(rules, name)}"
        )
    hidden = percent(of(rows, "s2", "S2"))
    if hidden and any(row["scenario"] == "S2" for row in rules):
        rule, reached = best_rule(rules, "S2")
        text.append(
            f"- S2: RSD4 {np.mean(hidden):.2f} % of the optimum of who sees the channel, the best "
            f"simple rule ({rule}, by long-run averages) {reached:.2f} %."
        )
    if anchors:
        text.append(
            f"- S2: the best blind table brings {anchors['blind']}, the Bayes filter "
            f"{anchors['filter']} (standard error {anchors['filter_error']}), and nobody more than "
            f"{anchors['delayed']}; the score is 0 at the first and 1 at the second."
        )
    return [*text, ""]


def ablated(rows: list[Row]) -> list[str]:
    """Return in words what each part of RSD4 is worth where the ablations ran."""
    text = []
    for name in ("S1", "S2", "S5"):
        whole = percent(of(rows, name.lower(), name))
        without = {recipe: percent(of(rows, recipe, name)) for recipe in PARTS}
        if not whole or not all(without.values()):
            continue
        parts = [
            f"{what} {np.mean(without[recipe]) - np.mean(whole):+.2f}"
            for recipe, what in PARTS.items()
        ]
        beside_it = f"points of % beside RSD4's {np.mean(whole):.2f}"
        text.append(f"- {name}, {beside_it}: {', '.join(parts)}.")
    return [*text, ""]


def unmet(ppo: list[Row]) -> list[str]:
    """Return in words where RecurrentPPO did not meet the budget."""
    text = []
    for name in SCENARIOS:
        missed = [float(row["off_budget"]) for row in of(ppo, "ppo", name)]
        wide = [one for one in missed if one > BAND]
        if wide:
            text.append(
                f"- {name}: RecurrentPPO misses the budget by more than {100 * BAND:g} % on "
                f"{len(wide)} of {len(missed)} seeds, by {100 * max(wide):.1f} % at most: the "
                "search over its factors came no closer."
            )
    return [*text, ""] if text else []


def planned(rules: list[Row], name: str) -> str:
    """Return what a planner reaches that estimates channels and arrivals, in words."""
    own = [row for row in rules if row["scenario"] == name]
    found = [row for row in own if row["scheduler"] == "certainty equivalent"]
    if not found:
        return ""
    part = 100 * float(found[0]["paired"])
    return (
        f" Estimating the chain and planning by the estimate (certainty equivalent): {part:.2f} %."
    )


def main() -> None:
    """Summarise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    folder = parser.parse_args().out
    rows = read(folder / "training.csv")
    ppo: list[Row] = [{**row, "recipe": "ppo"} for row in read(folder / "recurrent_ppo.csv")]
    rules = read(folder / "schedulers.csv")
    anchors = next(iter(read(folder / "anchors.csv")), None)
    machine, _ = circumstances(folder)
    hours = sum(float(row["cpu_seconds"]) for row in [*rows, *ppo]) / 3600
    spent = f" Processor hours of all trainings: {hours:.2f}." if hours else ""
    text = ["# RSD4: what our runs say", "", f"Hardware: {machine}.{spent}", ""]
    text += [*table([*rows, *ppo], anchors), *plainly(rows, anchors, rules), *ablated(rows)]
    text += unmet(ppo)
    text += beside(rules, rows) if rules else []
    for name in SCENARIOS:
        own = [row for row in rows if row["scenario"] == name]
        if not own:
            continue
        outside = [row for row in ppo if row["scenario"] == name]
        figure = frontier(own, outside, name, anchors if name == "S2" else None)
        figure.savefig(folder / f"frontier_{name}.png", dpi=150)
        text += [f"![{name}](frontier_{name}.png)", ""]
    if any(row["scenario"] in MARKS for row in rows):
        marks(rows, rules).savefig(folder / "marks.png", dpi=150)
        text += ["![marks](marks.png)", ""]
    (folder / "summary.md").write_text("\n".join(text), encoding="utf-8")
    lines = ["# Claims about RSD4. Rows: results/rsd4/run.sh."]
    for one in claims(rows, anchors, machine):
        lines += ["", "[[claims]]", *(f"{key} = {json.dumps(value)}" for key, value in one.items())]
    path = folder / "claims.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    read_claims(path)


if __name__ == "__main__":
    main()
