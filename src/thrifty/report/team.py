"""The sections of a page about a team's run: win rate and return, density, an episode in pictures.

A team is told from other agents by the ``team`` of its start record.
"""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from thrifty.report import figures, numbers, single
from thrifty.report.elements import (
    Column,
    cards,
    folded,
    note,
    picture,
    pictures,
    section,
    strip,
    table,
)
from thrifty.report.figures import LINE_STYLES, MUTED, PALETTE, legend, panel
from thrifty.report.run_data import RunData
from thrifty.report.team_film import COLOURS, SIDES, animation, film_strip

_LATE = 20  # evaluations that the score is the mean of
_TRAINING = "per step of a minibatch's episode"  # what training FLOPs are counted for


def is_team(run: RunData) -> bool:
    """Whether a run's records are those of a team."""
    return "team" in run.first("start")


def sections(run: RunData) -> list[str]:
    """All sections of one run, as HTML."""
    return [
        _headline(run),
        _film(run),
        _learning(run),
        _topology(run),
        _published(run),
        single.ledger(run, training=_TRAINING),
        single.reproduce(run),
    ]


def score(run: RunData, field: str) -> float | None:
    """Mean of the last twenty evaluations, the published score; None without any."""
    _, values = run.column("evaluation", field)
    return float(values[-_LATE:].mean()) if values.size else None


def _headline(run: RunData) -> str:
    start = run.first("start")
    team = start["team"]
    wins, returns = score(run, "win_rate"), score(run, "return_mean")
    largest = team.get("largest_return")
    _, evaluations = run.column("evaluation", "return_mean")
    last = f"mean of the last {numbers.count(min(_LATE, evaluations.size))} evaluations"
    rows = []
    if team.get("wins"):
        rows.append(("win rate", numbers.share(wins), last))
    best = "" if largest is None else f", at most {numbers.significant(largest)}"
    rows += [
        ("return", numbers.significant(returns, 4), last + best),
        ("sparsity", numbers.share(single.sparsity(run)), "of all networks together"),
        *(
            (
                f"{label} kept",
                numbers.share(single.ledger_ratio(run, key)),
                f"of the dense twin, {what}",
            )
            for key, label, what in (
                ("parameters", "parameters", "weights, target networks included"),
                ("training_flops", "training FLOPs", _TRAINING),
            )
        ),
        (
            "training time",
            numbers.duration(run.wall_seconds),
            f"{numbers.count(run.steps)} environment steps",
        ),
        ("speed", numbers.count(single.speed(run)), "environment steps per second, all included"),
    ]
    words = [f"Warning: {record['text']}." for record in run.of("warning")]
    if not run.finished:
        words.append(
            f"This run is not finished: its records end at step {numbers.count(run.steps)}."
        )
    return "".join(map(note, words)) + cards(rows)


def _film(run: RunData) -> str:
    """The last episode that was filmed; nothing for games without space."""
    films = run.of("film")
    if not films:
        return ""
    film = films[-1]
    frames = film["frames"]
    sides = sorted({int(mark[2]) for frame in frames for mark in frame["marks"]})
    shown = ", ".join(f"{SIDES[side]} {COLOURS[side]}" for side in sides)
    ended = " It ended with a win." if film["won"] else ""
    return section(
        "An episode",
        strip(animation(frames)),
        folded("The same as a film strip", strip(film_strip(frames))),
        note(
            f"A greedy episode after training: {numbers.count(film['length'])} steps, return "
            f"{numbers.significant(film['return'])}.{ended} Below the picture: the step. "
            f"{shown[0].upper() + shown[1:]}; the filled share of a disc is what is left of it. "
            "The animation stops under the pointer."
        ),
    )


def _learning(run: RunData) -> str:
    curves = [("return_mean", "return of greedy episodes", "Return")]
    if run.first("start")["team"].get("wins"):
        curves.insert(0, ("win_rate", "games won (%)", "Games won"))
    drawn = [
        picture(_curve(run, field, over, label), f"{field}_{over}", f"{title} over {axis}")
        for field, label, title in curves
        for over, axis in (("step", "environment steps"), ("wall_seconds", "wall time"))
    ]
    drawn.append(picture(_targets(run), "targets", "Mean target over environment steps"))
    return section(
        "Learning",
        pictures(drawn),
        "" if run.of("evaluation") else note("No evaluation was recorded yet."),
        note(
            "Training episodes explore. Targets above the largest possible return mean that "
            "values have diverged." + single.scaling(run)
        ),
    )


def _curve(run: RunData, field: str, over: str, label: str) -> Figure | None:
    at, values = run.column("evaluation", field, over)
    if not at.size:
        return None
    factor = 100.0 if field == "win_rate" else 1.0
    figure, axes = panel(2.9)
    training = {"win_rate": "win_rate", "return_mean": "return"}[field]
    train_at, train = run.column("train", training, over)
    axes.plot(train_at, factor * train, color=MUTED, linewidth=0.7, alpha=0.7, label="training")
    axes.plot(at, factor * values, color=PALETTE[0], linewidth=1.7, label="greedy evaluation")
    if field == "win_rate":
        axes.set_ylim(-3, 103)
    axes.set_ylabel(label)
    axes.set_xlabel("environment steps" if over == "step" else "seconds of training")
    axes.set_xlim(0, 1.02 * max(float(at[-1]), 1.0))
    legend(figure, axes)
    return figure


def _targets(run: RunData) -> Figure | None:
    steps, values = run.column("train", "target_mean")
    if not steps.size:
        return None
    figure, axes = panel(2.9)
    axes.plot(steps, values, color=PALETTE[2], linewidth=1.5, label="mean target")
    largest = run.first("start")["team"].get("largest_return")
    if largest is not None:
        axes.axhline(largest, color=MUTED, linestyle="--", label="largest possible return")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("value")
    legend(figure, axes)
    return figure


def _topology(run: RunData) -> str:
    dense = not single.sparsity(run)
    change = picture(figures.topology_change(run), "topology", "Topology change over training")
    density = [
        picture(_density(run, network), f"density{n}", f"Density of each layer of {network}")
        for n, network in enumerate(_parts(run))
    ]
    layers = picture(figures.sparsity_per_layer(run), "sparsity", "Sparsity of each layer")
    return section(
        "Topology",
        pictures([layers, change, *density]),
        note("A dense team: no links are cut.") if dense else "",
        note("No topology change was recorded.") if not dense and not change else "",
    )


def _parts(run: RunData) -> list[str]:
    """Networks and parts whose densities were recorded, such as value.agents."""
    densities = [r["density"] for r in run.of("train") if r.get("density")]
    recorded: Mapping[str, float] = densities[0] if densities else {}
    return list(dict.fromkeys(".".join(name.split(".")[:2]) for name in recorded))


def _density(run: RunData, part: str) -> Figure | None:
    """Density per layer over time; with own networks this shows links moving between agents."""
    records = [r for r in run.of("train") if r.get("density")]
    names = [name for name in records[0]["density"] if name.startswith(part + ".")]
    figure, axes = panel(2.2 + 0.14 * len(names))
    steps = [record["step"] for record in records]
    for index, name in enumerate(names):
        shares = [100 * record["density"][name] for record in records]
        axes.plot(
            steps,
            shares,
            color=PALETTE[index % len(PALETTE)],
            linestyle=LINE_STYLES[index // len(PALETTE) % len(LINE_STYLES)],
            linewidth=1.4,
            label=name.removeprefix(part + ".").removesuffix(".weight"),
        )
    axes.set_xlabel("environment steps")
    axes.set_ylabel("links (% of the layer)")
    axes.set_ylim(bottom=0)
    legend(figure, axes)
    return figure


def _published(run: RunData) -> str:
    """The paper's own way of counting."""
    published = (run.first("start").get("ledger") or {}).get("published")
    if not published:
        return ""
    rows = [
        (
            label,
            numbers.count(published[key]["dense"]),
            numbers.count(published[key]["sparse"]),
            numbers.share(published[key]["ratio"]),
        )
        for key, label in (
            ("parameters", "size (links, dense biases, targets)"),
            ("training_flops", f"training FLOPs {_TRAINING}"),
            ("inference_flops", "inference FLOPs per action"),
        )
    ]
    columns = (Column("", False), Column("dense"), Column("this team"), Column("kept"))
    return section(
        "Ledger by the paper's formulas",
        table(columns, rows),
        note("The formulas of MAST's appendix B.4, as read in thrifty.marl.ledger."),
    )
