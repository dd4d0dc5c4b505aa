"""Turn the rows of the other scripts into pictures, summary.md and claims.toml.

    python results/mast/summarise.py [--out FOLDER]
    python results/mast/summarise.py --undecided

Scores: games won in per cent, or in simple_spread 100 (R - R_random) / (R_dense - R_random), of the
last twenty evaluations; means over seeds. MAST is held against both denominators, plain dense QMIX
and dense QMIX with MAST's tricks; what counts is the better one. A task that neither learns counts
as lost: nothing could lie below. A claim whose rows are not all there is written down as not run.
``--undecided`` writes nothing and names the tasks whose interval holds the mark, which are due two
more seeds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from factorial import ALONE, TOPOLOGIES, TRICKS, recipe_of
from matplotlib.figure import Figure
from measure import HERE, SEEDS
from scores import MAPS

from thrifty.bench import marl, schema
from thrifty.report.claims import read_claims
from thrifty.report.figures import LINE_STYLES, PALETTE, legend, panel
from thrifty.runs.tasks import Row, circumstances, read
from thrifty.stats import Interval, difference_interval
from thrifty.stats import mean as average

Rows = list[Row]
Cell = tuple[str, str]
"""Topology and tricks."""
GATE = {"smax-3m": 0.6, "smax-2s3z": 0.4}
WITHIN = 5.0
"""Points that MAST may lie below the better denominator."""
TASKS = 3
"""Of the four, on which it is to lie within."""
_NAMES = {"smax-3m": "SMAX 3m", "smax-2s3z": "SMAX 2s3z", "smax-3s5z": "SMAX 3s5z"}
# Recipe, sparsity and tricks of what scores.py runs, as they are named here.
SIDES = {
    "dense": ("dense", "", "none"),
    "dense, MAST's tricks": ("dense", "", "mast"),
    "MAST at 90 %": ("mast", "0.9", "mast"),
    "MAST at 95 %": ("mast", "0.95", "mast"),
}


def named(environment: str) -> str:
    """Return a task's name for people."""
    return _NAMES.get(environment, environment.removeprefix("mpe-"))


def of(rows: Rows, environment: str, recipe: str, sparsity: str, tricks: str) -> Rows:
    """Return the rows of one cell, seed by seed."""
    wanted = {"environment": environment, "recipe": recipe, "sparsity": sparsity, "tricks": tricks}
    found = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return sorted(found, key=lambda row: int(row["seed"]))


def points(rows: Rows, dense: Rows, random: float | None) -> list[float]:
    """Return the score of each row.

    Args:
        rows: of one cell.
        dense: of plain dense QMIX on the same task.
        random: return of random teams, where scores are returns.

    Returns:
        Nothing where returns have no scale: no dense runs, no random team, or one as good as they.
    """
    values = [float(row["last20"]) for row in rows]
    if not rows or rows[0]["metric"] == "win rate":
        return [100.0 * value for value in values]
    if random is None or not dense:
        return []
    best = float(np.mean([float(row["last20"]) for row in dense]))
    if best <= random:
        return []
    return [100.0 * (value - random) / (best - random) for value in values]


def difference(ours: list[float], theirs: list[float]) -> Interval:
    """Return the difference of two means and its 95 % bootstrap interval over seeds."""
    return difference_interval(ours, theirs, average, generator=np.random.default_rng(0))


class Task:
    """The scores of one task, and MAST's distance to both denominators.

    Args:
        environment: its name.
        rows: of scores.csv.
        random: return of random teams, where there is one.
    """

    def __init__(self, environment: str, rows: Rows, random: float | None) -> None:
        self.environment = environment
        self.rows = {name: of(rows, environment, *side) for name, side in SIDES.items()}
        dense = self.rows["dense"]
        self.scores = {name: points(own, dense, random) for name, own in self.rows.items()}
        # Without what random teams bring, returns are no scores yet.
        self._scaled = random is not None or all(r["metric"] == "win rate" for r in dense)

    def complete(self, side: str) -> bool:
        """Whether a side of MAST and both denominators have all their seeds."""
        wanted = (side, "dense", "dense, MAST's tricks")
        return self._scaled and all(len(self.rows[name]) >= SEEDS for name in wanted)

    def better(self) -> str | None:
        """Return which denominator is the better one, of those that there are."""
        found = [name for name in list(SIDES)[:2] if self.scores[name]]
        return max(found, key=lambda name: float(np.mean(self.scores[name]))) if found else None

    def learned(self) -> bool:
        """Whether a denominator has more points than MAST may lose."""
        to = self.better()
        return to is not None and float(np.mean(self.scores[to])) > WITHIN

    def distance(self, side: str, to: str) -> Interval | None:
        """Return how far a side lies above a denominator, with its interval."""
        ours, theirs = self.scores[side], self.scores[to]
        return difference(ours, theirs) if ours and theirs else None

    def within(self, side: str) -> bool:
        """Whether a side lies at most so many points below the better denominator."""
        to = self.better()
        found = None if to is None else self.distance(side, to)
        return found is not None and self.learned() and found.value >= -WITHIN

    def undecided(self, side: str) -> bool:
        """Whether the interval holds the mark, so that two more seeds are due."""
        to = self.better()
        found = None if to is None else self.distance(side, to)
        due = self.complete(side) and any(len(own) < SEEDS + 2 for own in self.scores.values())
        return found is not None and due and found.low < -WITHIN < found.high


def spread(values: list[float]) -> str:
    """Return mean, smallest and largest in words."""
    if not values:
        return "not run"
    if len(values) == 1:
        return f"{values[0]:.1f} (1 seed)"
    return f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f}, {len(values)} seeds)"


def signed(found: Interval | None) -> str:
    """Return a difference with its interval in words; one seed has none."""
    if found is None:
        return "not run"
    bounds = f" [{found.low:+.1f}, {found.high:+.1f}]" if found.defined else ", one seed"
    return f"{found.value:+.1f}{bounds}"


def gate_lines(rows: Rows) -> list[str]:
    """Return the table of the gate."""
    lines = [
        "## The gate: dense QMIX",
        "",
        "Mean of the last five evaluations of 200 episodes.",
        "",
    ]
    lines += ["| map | steps | mark | seeds |", "|---|---|---|---|"]
    for name, mark in GATE.items():
        own = of(rows, name, *SIDES["dense"])
        values = ", ".join(f"{float(row['last5']):.3f}" for row in own) or "not run"
        steps = f"{int(own[0]['steps']):,}" if own else ""
        lines.append(f"| {named(name)} | {steps} | {mark} | {values} |")
    return [*lines, ""]


def score_lines(tasks: list[Task]) -> list[str]:
    """Return the tables of MAST beside both denominators."""
    lines = [
        "## MAST beside dense QMIX",
        "",
        "Points; mean, smallest and largest of the seeds.",
        "",
    ]
    lines += [f"| task | {' | '.join(SIDES)} |", "|---|---|---|---|---|"]
    for task in tasks:
        cells = " | ".join(spread(task.scores[name]) for name in SIDES)
        lines.append(f"| {named(task.environment)} | {cells} |")
    lines += [
        "",
        "Differences with 95 % percentile bootstrap intervals over seeds, which with three seeds "
        "cover about three quarters of the time; the better denominator counts. A task whose "
        f"interval holds {-WITHIN:g} after three seeds gets two more and counts as it then stands.",
        "",
    ]
    lines += ["| task | MAST | to plain dense | to dense with the tricks | within 5 points |"]
    lines += ["|---|---|---|---|---|"]
    for task in tasks:
        for side in list(SIDES)[2:]:
            cells = [signed(task.distance(side, to)) for to in list(SIDES)[:2]]
            said = "not run"
            if task.complete(side):
                said = "yes" if task.within(side) else "**no**"
                said += "" if task.learned() else ": neither dense learner learns it"
                said += ", undecided: two more seeds" if task.undecided(side) else ""
            lines.append(
                f"| {named(task.environment)} | {side.removeprefix('MAST at ')} | "
                f"{' | '.join(cells)} | {said} |"
            )
    return [*lines, ""]


def factorial_lines(rows: Rows, random: float | None) -> list[str]:
    """Return the table of topology by tricks for each task, and what each brings on average."""
    lines = ["## Topology by tricks, 95 %", ""]
    for environment in ("smax-3m", "mpe-simple_spread"):
        dense = of(rows, environment, *SIDES["dense"])
        own_rows = {
            (topology, tricks): of(
                rows,
                environment,
                recipe_of(topology, tricks),
                "" if topology == "dense" else "0.95",
                tricks,
            )
            for topology in TOPOLOGIES
            for tricks in (*TRICKS, *ALONE)
        }
        cells = {key: points(own, dense, random) for key, own in own_rows.items()}
        lines += [f"### {named(environment)}", ""]
        lines += [f"| tricks | {' | '.join(TOPOLOGIES)} |", "|---" * (len(TOPOLOGIES) + 1) + "|"]
        for tricks in (*TRICKS, *ALONE):
            own = [
                spread(cells[topology, tricks]) if tricks in TRICKS or topology == "rigl" else ""
                for topology in TOPOLOGIES
            ]
            lines.append(f"| {tricks} | {' | '.join(own)} |")
        table = {key: own for key, own in own_rows.items() if key[1] in TRICKS}
        lines += ["", contributions(balanced(table), dense, random), ""]
    return lines


def balanced(table: Mapping[Cell, Rows]) -> dict[Cell, Rows]:
    """Return the rows of the seeds that every cell has: a stop leaves the last one in a few."""
    seeds = set.intersection(*({row["seed"] for row in own} for own in table.values()))
    return {key: [row for row in own if row["seed"] in seeds] for key, own in table.items()}


def contributions(table: Mapping[Cell, Rows], dense: Rows, random: float | None) -> str:
    """Say what topology and tricks bring, each averaged over the other.

    Args:
        table: every topology with every kind of tricks, the same seeds in each.
        dense: as for :func:`points`.
        random: likewise.
    """
    seeds = len(table["dense", "none"])
    scores = {key: points(own, dense, random) for key, own in table.items()}
    if not all(scores.values()):
        return "What topology and tricks contribute: not run."
    mean = {key: float(np.mean(values)) for key, values in scores.items()}
    sparse = [topology for topology in TOPOLOGIES if topology != "dense"]
    by_tricks = {t: np.mean([mean[topology, t] for topology in sparse]) for t in TRICKS}
    by_topology = {p: np.mean([mean[p, tricks] for tricks in TRICKS]) for p in TOPOLOGIES}
    tricks = ", ".join(f"{t} {by_tricks[t] - by_tricks['none']:+.1f}" for t in TRICKS[1:])
    moved = ", ".join(f"{p} {by_topology[p] - by_topology['static']:+.1f}" for p in TOPOLOGIES)
    return (
        f"Tricks against none, mean over tiny, static, set and rigl: {tricks} points. Topology "
        f"against static, mean over the three kinds of tricks: {moved} points. Of {seeds} "
        f"{'seed' if seeds == 1 else 'seeds'}, which all cells have."
    )


def spent(groups: list[Rows]) -> float:
    """Return the processor hours of all runs; rows of one group that share a run count once."""
    names = ("recipe", "environment", "steps", "sparsity", "tricks", "seed")
    runs = [{tuple(row[n] for n in names): float(row["cpu_seconds"]) for row in g} for g in groups]
    return sum(sum(seconds.values()) for seconds in runs) / 3600


def diverged_lines(rows: Rows) -> list[str]:
    """Return which runs ended early since their values were no numbers any more."""
    names = ("recipe", "environment", "sparsity", "tricks", "seed")
    found = {" ".join(row[n] for n in names if row[n]) for row in rows if row["diverged"] != "0"}
    if not found:
        return []
    return [f"Diverged, and counted as losing from there on: {'; '.join(sorted(found))}.", ""]


def curves(task: Task) -> Figure:
    """Draw evaluations over the run, mean of the seeds."""
    figure, axes = panel(3.0)
    wins = next(row["metric"] for own in task.rows.values() for row in own) == "win rate"
    for index, (name, own) in enumerate(task.rows.items()):
        if not own:
            continue
        values = np.array([[float(v) for v in row["curve"].split()] for row in own])
        steps = np.linspace(0, int(own[0]["steps"]), values.shape[1])
        axes.plot(
            steps,
            (100 if wins else 1) * values.mean(0),
            color=PALETTE[index],
            linestyle=LINE_STYLES[index % len(LINE_STYLES)],
            linewidth=1.3,
            label=f"{name} ({len(own)})",
        )
    axes.set_xlabel("environment steps")
    axes.set_ylabel("games won (%)" if wins else "return of greedy episodes")
    legend(figure, axes)
    return figure


def claims(gate: Rows, tasks: list[Task], machine: str) -> list[dict[str, Any]]:
    """Return the rows of claims.toml."""

    def row(text: str, where: str, metric: str, expected: str) -> dict[str, Any]:
        named = {"claim": text, "where": where, "metric": metric, "expected": expected}
        return {**named, "tolerance": 0, "status": "not run"}

    def filled(one: dict[str, Any], value: float, rows: Rows, holds: bool) -> dict[str, Any]:
        one |= {"measured": value, "seeds": sorted({int(r["seed"]) for r in rows})}
        one |= {"hardware": machine, "status": "holds" if holds else "failed"}
        one["hours"] = round(sum(float(r["cpu_seconds"]) for r in rows) / 3600, 2)
        return one

    found = []
    for name, mark in GATE.items():
        own = of(gate, name, *SIDES["dense"])
        steps = {"smax-3m": "800,000", "smax-2s3z": "1,000,000"}[name]
        one = row(
            f"Dense QMIX learns {named(name)}, {steps} steps (the gate before anything sparse)",
            "ours, no counterpart in the paper",
            "games won, mean of the last five evaluations of 200 episodes, the second best of 3 "
            "seeds",
            f">= {mark}",
        )
        own = own[:SEEDS]
        if len(own) == SEEDS:
            value = sorted(float(r["last5"]) for r in own)[-2]
            one = filled(one, value, own, value >= mark)
        found.append(one)
    for side in list(SIDES)[2:]:
        one = row(
            f"{side} sparsity keeps the dense score on three of SMAX 3m, 2s3z, 3s5z and "
            "simple_spread",
            "section 4.1: sparsities of 85 to 95 % chosen so that MAST stays within 3 % of dense, "
            "StarCraft",
            "tasks within 5 points of the better of plain dense QMIX and dense with MAST's tricks",
            f">= {TASKS}",
        )
        if all(task.complete(side) for task in tasks):
            value = sum(task.within(side) for task in tasks)
            rows = [
                r for task in tasks for name in (side, *list(SIDES)[:2]) for r in task.rows[name]
            ]
            one = filled(one, float(value), rows, value >= TASKS)
        found.append(one)
    return found


def speed(path: Path) -> list[dict[str, Any]]:
    """Return the claims about `thrifty bench marl`, from the file that it wrote."""
    found = []
    for text, metric, expected, case, statistic, ours, other in (
        (
            "An update at 95 % sparsity takes a quarter of the dense one's time, one thread each",
            "time of the dense torch update over that on the engine, low quantile",
            ">= 4",
            marl.UPDATE,
            "low",
            marl.ENGINE,
            marl.DENSE,
        ),
        (
            "QMIX at 95 % makes as many environment steps per second as JaxMARL's own, SMAX 3m, "
            "updates of as many steps included",
            "steps per second over JaxMARL's, median of three rounds",
            ">= 1",
            marl.LOOP,
            "median",
            marl.ENGINE_ALIKE,
            marl.THEIRS,
        ),
    ):
        one = {"claim": text, "where": "ours, no counterpart in the paper", "metric": metric}
        one |= {"expected": expected, "tolerance": 0, "status": "not run"}
        for row in schema.read(path) if path.exists() else []:
            named = (row.case, row.implementation, row.sparsity, row.statistic)
            if named == (case, ours, marl.SPARSITY, statistic) and row.ratio is not None:
                assert row.ratio_to is not None
                assert row.ratio_to.startswith(other)
                value = 1.0 / row.ratio if row.unit == "ms" else row.ratio
                hardware = json.loads(path.read_text(encoding="utf-8"))["hardware"]
                one |= {"measured": round(value, 2), "runs": [f"../../benchmarks/{path.name}"]}
                one["hardware"] = f"{hardware['cpu']}, {hardware['cores']} cores"
                one["status"] = "holds" if value >= float(expected[3:]) else "failed"
        found.append(one)
    return found


def main() -> None:
    """Summarise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument(
        "--bench", type=Path, default=HERE.parents[1] / "benchmarks" / "marl.json", help="its file"
    )
    parser.add_argument("--undecided", action="store_true", help="name tasks due more seeds")
    options = parser.parse_args()
    folder = options.out
    gate, scores = read(folder / "gate.csv"), read(folder / "scores.csv")
    teams = {row["environment"]: float(row["return"]) for row in read(folder / "random.csv")}
    tasks = [Task(name, scores, teams.get(name)) for name in MAPS]
    if options.undecided:
        print(*(t.environment for t in tasks if any(map(t.undecided, list(SIDES)[2:]))))
        return
    factorial = read(folder / "factorial.csv")
    machine, _ = circumstances(folder)
    hours = spent([gate, scores + factorial])
    used = f"; {hours:.1f} processor hours" if hours else ""
    lines = ["# MAST on SMAX: what our runs say", ""]
    lines += ["SMAX is not StarCraft: win rates of the two cannot be compared.", ""]
    lines += [f"Hardware: {machine}{used}.", ""]
    lines += gate_lines(gate) + score_lines(tasks)
    for task in tasks:
        if any(task.rows.values()):
            name = f"curves_{task.environment.replace('-', '_')}.png"
            curves(task).savefig(folder / name, dpi=150)
            lines += [f"![{named(task.environment)}]({name})", ""]
    lines += factorial_lines(factorial, teams.get("mpe-simple_spread"))
    lines += diverged_lines(gate + scores + factorial)
    (folder / "summary.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    text = [
        "# Claims about MAST (Hu et al., NeurIPS 2024) on SMAX, which is not StarCraft. "
        "Rows: results/mast/run.sh."
    ]
    for one in claims(gate, tasks, machine) + speed(options.bench):
        text += ["", "[[claims]]", *(f"{key} = {json.dumps(value)}" for key, value in one.items())]
    path = folder / "claims.toml"
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    read_claims(path)


if __name__ == "__main__":
    main()
