"""The sections of a page about scheduling agents: the trade-off curve beside the exact frontier.

Everything stands in the runs' records: the exact optimum over energy, what evaluations and the test
brought, the price of energy, whose packets were missed, and how long deliveries took.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from thrifty.report import numbers, single
from thrifty.report.elements import Column, cards, note, pairs, picture, pictures, section, table
from thrifty.report.figures import INK, LINE_STYLES, MUTED, PALETTE, legend, panel
from thrifty.report.groups import labels
from thrifty.report.run_data import RunData

_MOST_FLOWS = 8  # whose delays are drawn one by one
_SIGHTS = {"hidden": "not seen", "delayed": "seen late", "noisy": "seen with errors"}


def is_scheduling(run: RunData) -> bool:
    """Whether a run's records are those of a scheduling agent."""
    return "frontier" in run.first("start")


def sections(run: RunData) -> list[str]:
    """All sections of one run, as HTML."""
    return [
        _headline(run),
        _trade_off([run]),
        *_test(run),
        _training(run),
        _networks(run),
        single.reproduce(run),
    ]


def comparison(runs: Sequence[RunData]) -> list[str]:
    """All sections of several runs, as HTML: trade-off curves and a table."""
    rows = []
    for run, name in zip(runs, labels(runs), strict=True):
        start, test = run.first("start"), run.first("test")
        rows.append(
            (
                name,
                run.task,
                str(start.get("algorithm")),
                numbers.MISSING if run.seed is None else run.seed,
                numbers.significant(test.get("throughput"), 5),
                _joined(test.get("energy"), 4),
                numbers.share(test.get("of_optimum")),
                numbers.share(test.get("paired")),
                numbers.share(test.get("off_budget")),
                numbers.significant(test.get("fairness")),
            )
        )
    columns = (
        Column("recipe", False), Column("scenario", False), Column("agent", False), Column("seed"),
        Column("throughput"), Column("energy"), Column("of the optimum"),
        Column("at its energy"), Column("off the budget"), Column("fairness"),
    )  # fmt: skip
    tasks = list(dict.fromkeys(run.task for run in runs))
    return [
        section(
            "Tests",
            table(columns, rows),
            note(
                "Of the optimum: throughput over the exact optimum at the budget. At its energy: "
                "the optimal table at the energy that was spent plays the same packets, channels "
                "and uniforms, and the difference counts. Off the budget: by how much the energy "
                "misses it, to either side. Fairness is Jain's index of delivered parts."
            ),
        ),
        *(_trade_off([run for run in runs if run.task == task]) for task in tasks),
    ]


def _joined(values: Any, digits: int = 3) -> str:
    if not values:
        return numbers.MISSING
    return ", ".join(numbers.significant(one, digits) for one in values)


def _headline(run: RunData) -> str:
    start, test = run.first("start"), run.first("test")
    price = test.get("multiplier")
    rows = [
        (
            "of the exact optimum",
            numbers.share(test.get("paired")),
            "at the energy spent, on the same randomness",
        ),
        (
            "throughput",
            numbers.significant(test.get("throughput"), 5),
            f"optimum at the budget: {numbers.significant(start.get('optimum'), 5)}",
        ),
        ("energy", _joined(test.get("energy"), 4), f"budget: {_joined(start.get('budget'), 4)}"),
        (
            "price of energy",
            _joined(price),
            f"the optimum's: {_joined(start.get('optimal_multiplier'))}",
        ),
        (
            "fairness",
            numbers.significant(test.get("fairness")),
            "Jain's index of delivered parts, by weight",
        ),
        ("training time", numbers.duration(run.wall_seconds), f"{start.get('users')} users"),
    ]
    unfinished = ""
    if not run.finished:
        unfinished = note(f"This run is not finished: its records end at slot {run.steps}.")
    return unfinished + cards(rows)


def _trade_off(runs: Sequence[RunData]) -> str:
    name = f"frontier-{runs[0].task.replace(':', '-')}"
    start = runs[0].first("start")
    sight = start.get("sight", "hidden")
    exact = (
        "The line is exact: no scheduler that spends as much energy on average brings more"
        if sight == "full"
        else "The line is exact for whoever sees the channel; here it is "
        f"{_SIGHTS.get(sight, 'not seen')}, so that no agent can reach it"
    )
    remark = f"{exact}, however it shares it among the nodes." if _nodes(start) > 1 else f"{exact}."
    return section(
        f"Trade-off, {runs[0].task}",
        pictures([picture(_frontier(runs), name, "Throughput over energy, exact and learned")]),
        note(f"{remark} Points of one curve are one policy at several prices of energy."),
    )


def _nodes(start: Mapping[str, Any]) -> int:
    return len(start["budget"])


def _frontier(runs: Sequence[RunData]) -> Figure:
    figure, axes = panel(3.2)
    exact = np.array(runs[0].first("start")["frontier"], dtype=float)
    axes.plot(*exact.T, color=INK, linewidth=1.2, linestyle="--", label="exact optimum")
    longest = float(exact[:, 0].max())
    for index, (run, name) in enumerate(zip(runs, labels(runs), strict=True)):
        colour = PALETTE[index % len(PALETTE)]
        label = run.first("start").get("algorithm", run.recipe) if len(runs) > 1 else "policy"
        label += name.removeprefix(run.recipe)  # the settings that differ
        if len(runs) > 1 and run.seed is not None:
            label = f"{label}, seed {run.seed}"
        points = sorted(
            (sum(one["energy"]), one["throughput"])
            for one in run.first("curve").get("points", ())
            if sum(one["energy"]) <= 1.05 * longest
        )
        if points:
            axes.plot(*np.array(points).T, "o", color=colour, markersize=4, label=label)
        test = run.first("test")
        if test:
            axes.plot([sum(test["energy"])], [test["throughput"]], "D", color=colour,
                      markersize=6, label="test" if len(runs) == 1 else None)  # fmt: skip
    budget = sum(runs[0].first("start")["budget"])
    axes.axvline(budget, color=MUTED, linewidth=1.0, linestyle=":")
    axes.set_xlabel("energy per slot")
    axes.set_ylabel("weighted throughput per slot")
    axes.set_xlim(0, 1.05 * longest)
    axes.set_ylim(bottom=0)
    legend(figure, axes)
    return figure


def _test(run: RunData) -> list[str]:
    test = run.first("test")
    if not test:
        return []
    rows = [
        ("episodes", numbers.count(test["episodes"])),
        ("throughput over the optimum at the budget", numbers.share(test["of_optimum"])),
        ("over the optimum at its energy", numbers.share(test["of_optimum_at_energy"])),
        ("the same, paired", f"{numbers.share(test['paired'])}, standard error "
                             f"{numbers.share(test['paired_error'])}"),
        ("energy misses the budget by", numbers.share(test["off_budget"])),
    ]  # fmt: skip
    return [
        section(
            "The test",
            pairs(rows),
            pictures(
                [
                    picture(_misses(test), "misses", "Packets that missed their deadline"),
                    picture(_delays(test), "delays", "Slots that deliveries took"),
                    picture(_energy(run, test), "energy-time", "Energy over time"),
                ]
            ),
        )
    ]


def _misses(test: Mapping[str, Any]) -> Figure:
    figure, axes = panel(2.6)
    misses = np.array(test["miss_ratio"], dtype=float)
    axes.bar(np.arange(1, len(misses) + 1), misses, color=PALETTE[0], width=0.7)
    axes.set_xlabel("user")
    axes.set_ylabel("part missed")
    axes.set_ylim(0, 1.03)
    if len(misses) <= 2 * _MOST_FLOWS:
        axes.set_xticks(np.arange(1, len(misses) + 1))
    return figure


def _delays(test: Mapping[str, Any]) -> Figure:
    figure, axes = panel(2.6)
    delays = np.array(test["delays"], dtype=float)
    served = [(flow, row) for flow, row in enumerate(delays) if row.sum() > 0]
    if len(served) > _MOST_FLOWS:
        row = np.mean([row for _, row in served], axis=0)
        axes.step(np.arange(1, len(row) + 1), np.cumsum(row), where="post", color=PALETTE[0],
                  linewidth=1.6, label="mean over users")  # fmt: skip
    else:
        for flow, row in served:
            axes.step(
                np.arange(1, len(row) + 1), np.cumsum(row), where="post",
                color=PALETTE[flow % len(PALETTE)], linewidth=1.4,
                linestyle=LINE_STYLES[flow // len(PALETTE) % len(LINE_STYLES)],
                label=f"user {flow + 1}",
            )  # fmt: skip
    axes.set_xlabel("slots")
    axes.set_ylabel("part of deliveries")
    axes.set_ylim(0, 1.03)
    legend(figure, axes)
    return figure


def _energy(run: RunData, test: Mapping[str, Any]) -> Figure:
    figure, axes = panel(2.6)
    energy = np.array(test["energy_over_time"], dtype=float)
    axes.plot(np.arange(1, len(energy) + 1), energy, color=PALETTE[0], linewidth=1.2,
              label="mean over episodes")  # fmt: skip
    axes.axhline(sum(run.first("start")["budget"]), color=INK, linewidth=1.2, linestyle="--",
                 label="budget")  # fmt: skip
    axes.set_xlabel("counted slot of an episode")
    axes.set_ylabel("energy")
    axes.set_ylim(bottom=0)
    legend(figure, axes)
    return figure


def _training(run: RunData) -> str:
    """Part of the optimum, price and energy; the last from progress where nothing is evaluated."""
    evaluated = bool(run.of("evaluation"))
    caption = "Energy at the present price" if evaluated else "Energy while training"
    return section(
        "Training",
        pictures(
            [
                picture(_part(run), "part", "Part of the optimum at the energy spent"),
                picture(_trace(run, "progress", "multiplier", "price of energy"),
                        "multiplier", "Price of energy"),
                picture(_trace(run, "evaluation" if evaluated else "progress", "energy",
                               "energy per slot", budget=True), "energy-training", caption),
            ]
        ),
        note("Evaluations while training are of 64 episodes with training seeds.")
        if evaluated
        else "",
    )  # fmt: skip


def _networks(run: RunData) -> str:
    """Operations of each network beside its dense twin's, and what ran the updates."""
    start = run.first("start")
    ledger = start.get("ledger") or {}
    rows = [
        (
            name,
            numbers.count(cost["dense"]),
            numbers.count(cost["sparse"]),
            numbers.share(cost["ratio"]),
        )
        for name, cost in ledger.get("forward_flops", {}).items()
    ]
    columns = (
        Column("network", False), Column("operations, dense"), Column("operations"),
        Column("of dense"),
    )  # fmt: skip
    return section(
        "Networks",
        table(columns, rows),
        note("Of one user in one slot, one packet's cell; multiplications and additions."),
        pairs([("updates run on", f"{start['backend']}: {start['backend_reason']}")])
        if start.get("backend")
        else "",
    )


def _part(run: RunData) -> Figure | None:
    steps, values = run.column("evaluation", "of_optimum_at_energy")
    if not steps.size:
        return None
    figure, axes = panel(2.6)
    axes.plot(steps, values, "o-", color=PALETTE[0], markersize=3, linewidth=1.4)
    axes.axhline(1.0, color=INK, linewidth=1.2, linestyle="--")
    axes.set_xlabel("slot")
    axes.set_ylabel("part of the exact optimum")
    axes.set_xlim(left=0)
    axes.set_ylim(min(0.8, float(values[len(values) // 4 :].min())), 1.02)
    return figure


def _trace(
    run: RunData, kind: str, field: str, axis: str, *, budget: bool = False
) -> Figure | None:
    """One line for each node."""
    records = [record for record in run.of(kind) if record.get(field)]
    if not records:
        return None
    figure, axes = panel(2.6)
    steps = [record["step"] for record in records]
    values = np.array([record[field] for record in records], dtype=float)
    start = run.first("start")
    dashed = start["budget"] if budget else start["optimal_multiplier"]
    for node in range(values.shape[1]):
        colour = PALETTE[node % len(PALETTE)]
        several = values.shape[1] > 1
        axes.plot(steps, values[:, node], color=colour, linewidth=1.4,
                  label=f"node {node + 1}" if several else None)  # fmt: skip
        axes.axhline(dashed[node], color=colour if several else INK, linewidth=1.0, linestyle="--")
    axes.set_xlabel("slot")
    axes.set_ylabel(axis)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    legend(figure, axes)
    return figure
