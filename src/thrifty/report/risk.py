"""The sections of a page about runs for the iterated CVaR: policies, returns, values by risk level.

All of it stands in the runs' records: the last policy's exact iterated value beside the optimum,
the distribution of its return, and on a grid where it walks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from thrifty.report import numbers
from thrifty.report.elements import (
    Column,
    code,
    note,
    pairs,
    picture,
    pictures,
    section,
    table,
    text,
)
from thrifty.report.figures import INK, LINE_STYLES, PALETTE, legend, panel
from thrifty.report.groups import instances
from thrifty.report.run_data import RunData

_LEGEND = "o: where it walks; # lava; ~ the wet rim, from which one may slide; S start; G goal."


def has_risk(run: RunData) -> bool:
    """Whether a run's objective is an iterated CVaR."""
    return "risk_level" in run.first("start")


def policy(run: RunData) -> list[str]:
    """The section about the policy that one run ended with; none before its end."""
    end = _end(run)
    if not end:
        return []
    star = run.first("start").get("V_star")
    rows = [
        ("objective", _objective(run)),
        ("V_1 of the last policy, exact", numbers.significant(end.get("value"), 5)),
        ("optimum, exact", numbers.significant(star, 5)),
    ]
    if end.get("estimated_value") is not None:
        rows.append(
            ("V_1 of the best policy for the estimated reward",
             numbers.significant(end["estimated_value"], 5))
        )  # fmt: skip
    rows.append(("expected return", numbers.significant(end.get("expected_return"), 5)))
    drawn = end.get("picture")
    return [
        section(
            "The policy found",
            pairs(rows),
            code(drawn) + note(_LEGEND) if drawn else "",
            pictures([picture(_returns([run]), "returns", "Distribution of the return")]),
            "" if end.get("returns") else note("Its return takes too many values to be drawn."),
        )
    ]


def labels(run: RunData) -> list[str]:
    """The section about comparisons; none where a run asks for none."""
    figures = [
        picture(_progress(run, field, axis, dashed), field, caption)
        for field, axis, dashed, caption in (
            ("labels", "labels taken in", None, "Labels"),
            ("log_loss", "mean log-loss, nats", np.log(2.0), "Labels predicted before they came"),
        )
    ]
    if not any(figures):
        return []
    return [
        section(
            "Comparisons",
            pictures(figures),
            note(
                "The log-loss is of predicting each label before learning from it; guessing "
                "(dashed) has log 2. There is no optimistic V_1: comparisons tell it up to a "
                "constant only."
            ),
        )
    ]


def comparison(runs: Sequence[RunData]) -> list[str]:
    """The section that holds runs of several risk levels side by side.

    Args:
        runs: any; those without a risk level or an end are left out.
    """
    problems = dict(zip(runs, instances(runs), strict=True))
    ended = sorted(
        (run for run in runs if has_risk(run) and _end(run)),
        key=lambda run: (problems[run], -_level(run)),
    )
    if not ended:
        return []
    rows = [
        (
            run.recipe,
            problems[run],
            numbers.significant(_level(run)),
            numbers.MISSING if run.seed is None else run.seed,
            numbers.significant(_end(run).get("value"), 5),
            numbers.significant(run.first("start").get("V_star"), 5),
            numbers.significant(_end(run).get("expected_return"), 5),
        )
        for run in ended
    ]
    columns = (
        Column("recipe", False), Column("instance", False), Column("risk level"), Column("seed"),
        Column("V_1"), Column("optimum"), Column("expected return"),
    )  # fmt: skip
    tasks = list(dict.fromkeys(problems[run] for run in ended))
    figures = []
    for number, task in enumerate(tasks):
        own = [run for run in ended if problems[run] == task]
        figures += [
            picture(_values(own), f"risk-values-{number}", f"{task}: V_1 beside the optimum"),
            picture(_returns(own), f"risk-returns-{number}", f"{task}: distribution of the return"),
        ]
    maps = "".join(
        f"<figure><figcaption>{text(f'{task}, ' if len(tasks) > 1 else '')}"
        f"risk level {numbers.significant(_level(run))}</figcaption>"
        f"{code(_end(run)['picture'])}</figure>"
        for task in tasks
        for run in _one_a_level(
            [run for run in ended if problems[run] == task and _end(run).get("picture")]
        )
    )
    return [
        section(
            "Risk",
            table(columns, rows),
            pictures(figures),
            f'<div class="figures">{maps}</div>' + note(_LEGEND) if maps else "",
            note(
                "V_1 is the exact iterated CVaR of the last policy. The optimum does not fall as "
                "the risk level grows. Maps show the first run of each risk level."
            ),
        )
    ]


def _end(run: RunData) -> dict[str, Any]:
    return next((dict(record) for record in run.records if record.get("kind") == "end"), {})


def _level(run: RunData) -> float:
    return float(run.first("start")["risk_level"])


def _objective(run: RunData) -> str:
    if run.first("start").get("algorithm") == "max_wp":
        return "worst path"
    return f"iterated CVaR at risk level {numbers.significant(_level(run))}"


def _one_a_level(runs: Sequence[RunData]) -> list[RunData]:
    return list({_level(run): run for run in reversed(runs)}.values())[::-1]


def _values(runs: Sequence[RunData]) -> Figure | None:
    """V_1 of every run over its risk level, and the optimum; None where there is one level."""
    optimum = sorted({(_level(run), float(run.first("start")["V_star"])) for run in runs})
    if len({level for level, _ in optimum}) < 2:
        return None
    figure, axes = panel(2.9)
    axes.plot(*np.array(optimum).T, color=INK, linestyle="--", linewidth=1.2, marker="_",
              label="optimum")  # fmt: skip
    for index, recipe in enumerate(dict.fromkeys(run.recipe for run in runs)):
        own = [run for run in runs if run.recipe == recipe]
        axes.plot([_level(run) for run in own], [_end(run)["value"] for run in own], "o",
                  color=PALETTE[index % len(PALETTE)], markersize=4, label=recipe)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("risk level")
    axes.set_ylabel("exact V_1")
    axes.set_ylim(0, 1.08 * max(value for _, value in optimum) or 1)  # points lie on the highest
    legend(figure, axes)
    return figure


def _returns(runs: Sequence[RunData]) -> Figure | None:
    """The distribution function of the return of one run of each risk level."""
    drawn = _one_a_level([run for run in runs if _end(run).get("returns")])
    if not drawn:
        return None
    figure, axes = panel(2.9)
    most = max(value for run in drawn for value, _ in _end(run)["returns"])
    for index, run in enumerate(drawn):
        values, masses = np.array(_end(run)["returns"], dtype=float).T
        axes.step(
            [min(0.0, values[0]), *values, 1.05 * most],
            [0.0, *np.cumsum(masses), 1.0],
            where="post",
            color=PALETTE[index % len(PALETTE)],
            linestyle=LINE_STYLES[index % len(LINE_STYLES)],  # levels may share a policy
            linewidth=1.6,
            label=f"risk level {numbers.significant(_level(run))}" if len(runs) > 1 else None,
        )
    axes.set_xlabel("return of an episode")
    axes.set_ylabel("probability of at most this")
    axes.set_ylim(0, 1.03)
    if len(runs) > 1:
        legend(figure, axes)
    return figure


def _progress(run: RunData, field: str, axis: str, dashed: float | None) -> Figure | None:
    steps, values = run.column("progress", field)
    if not steps.size:
        return None
    figure, axes = panel(2.9)
    axes.plot(steps, values, color=PALETTE[0], linewidth=1.6)
    if dashed is not None:
        axes.axhline(dashed, color=INK, linewidth=1.2, linestyle="--")
    axes.set_xlabel("episode")
    axes.set_ylabel(axis)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    return figure
