"""Turn the runs of wall_clock.py into wall_clock.md, pictures and claims.

    python results/rlx2/wall_clock_summary.py             # reads results/rlx2/wall_clock
    python results/rlx2/wall_clock_summary.py --claims    # and writes their rows into claims.toml

Times are seconds of training on one core, compilation counted (see wall_clock.py). A return is the
mean over seeds of the mean of 10 noise-free episodes; intervals are 95 % percentile bootstraps over
seeds, which with three seeds cover about three quarters of the time. A run that was cut off counts
at the marks that it has reached. Other work on the machine lengthens processor time too, since
caches are shared: a run whose wall time is more than a tenth above it is told of as disturbed.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from claim_rows import claim_row, write_rows
from wall_clock import ENVIRONMENTS, queue

from thrifty.report.figures import learning_curves
from thrifty.report.run_data import RunData
from thrifty.stats import bootstrap_interval, difference_interval, mean

HERE = Path(__file__).resolve().parent
SHOWN = (120, 300, 600)
HEAD = """\
# RLx2: returns after minutes on one core

Written by `wall_clock_summary.py` from the runs in wall_clock. Minutes are processor time of
training on one core, compilation counted, evaluations not; the last column says how much longer the
clock took in each run, beside other work. A return is the mean over seeds of the mean of 10
noise-free episodes. Ours are planned for 1,000,000 steps and stopped by the clock. In brackets,
where there are several seeds: 95 % percentile bootstraps. One seed decides nothing.
"""
SEEDS = 3
DISTURBED = 1.1  # wall over processor time
NAMES = {
    "thrifty_td3": "RLx2-TD3, published sparsity",
    "thrifty_td3_95": "RLx2-TD3, 95 %",
    "thrifty_wide": "RLx2-TD3, 1024 wide at dense 256's cost",
    "sbx_td3": "sbx TD3",
    "sbx_sac": "sbx SAC",
    "sb3_td3": "Stable-Baselines3 TD3",
}
DENSE = ("sbx_td3", "sbx_sac", "sb3_td3")
CLAIMED = (
    ("thrifty_td3", SHOWN),
    ("thrifty_td3_95", (600,)),
    ("thrifty_wide", (600,)),
)


class WallClockRun:
    """One file of wall_clock.py.

    Args:
        path: of the file; a last line that is cut off is left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        self.records: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.start = self.records[0] if lines else {}
        self.marks = {r["mark"]: r for r in self.records if r["kind"] == "evaluation"}

    @property
    def hours(self) -> float:
        """Return the processor hours of training."""
        return float(self.records[-1].get("cpu_seconds", 0.0)) / 3600

    @property
    def slowed(self) -> float:
        """Return wall time over processor time."""
        last = self.marks[max(self.marks)]
        return float(last["wall_seconds"] / last["cpu_seconds"])

    def drawn(self) -> RunData:
        """Return the run as the figures read it, its marks in the place of its wall time.

        Two marks that were passed at once are one point.
        """
        records = {
            r["cpu_seconds"]: {
                "kind": "evaluation",
                "step": r["step"],
                "wall_seconds": r["cpu_seconds"],
                "return_mean": r["return_mean"],
            }
            for r in self.marks.values()
        }
        return RunData(self.path, {"seed": self.start["seed"]}, {}, tuple(records.values()))


Group = list[WallClockRun]


def returns_at(runs: Group, mark: int) -> list[float]:
    """Return the returns at a mark of the runs that have reached it."""
    return [run.marks[mark]["return_mean"] for run in runs if mark in run.marks]


def cell(values: list[float], generator: np.random.Generator) -> str:
    """Return mean, interval and number of seeds as table text."""
    if not values:
        return f"none of {SEEDS} seeds"
    interval = bootstrap_interval(values, mean, generator=generator)
    bounds = f" [{interval.low:.0f}, {interval.high:.0f}]" if interval.defined else ""
    return f"{interval.value:.0f}{bounds}, {len(values)} of {SEEDS} seeds"


def row_of(contender: str, environment: str, mark: int, groups: dict[str, Group]) -> str:
    """Return the claim that one of ours is ahead of every dense learner at a mark.

    Fewer seeds than were planned decide nothing: the row stands as not run.
    """
    ours = returns_at(groups.get(contender, []), mark)
    theirs = {name: returns_at(groups.get(name, []), mark) for name in DENSE}
    measured: float | None = None
    interval: tuple[float, float] | None = None
    used: Group = []
    against = "the best of sbx TD3, sbx SAC and Stable-Baselines3 TD3"
    if min(map(len, (ours, *theirs.values()))) >= SEEDS:
        best = max(DENSE, key=lambda name: float(np.mean(theirs[name])))
        against += f" ({NAMES[best]})"
        gap = difference_interval(ours, theirs[best], mean, generator=np.random.default_rng(0))
        measured, interval = gap.value, (gap.low, gap.high)
        used = [r for name in (contender, *DENSE) for r in groups[name] if mark in r.marks]
    machines = {
        f"{run.start['hardware']['cpu']}, {run.start['hardware']['cores']} cores, one thread a run"
        + (", other work on them" if run.slowed > DISTURBED else "")
        for run in used
    }
    return claim_row(
        claim=f"{NAMES[contender]}, is ahead of dense learners after {mark // 60} minutes on one "
        f"core, {environment}, compilation counted",
        where="ours, no counterpart in the paper",
        metric=f"return minus that of {against}, {SEEDS} seeds",
        expected=">= 0",
        measured=measured,
        interval=interval,
        runs=[f"{run.path.parent.name}/{run.path.name}" for run in used],
        seeds=sorted({run.start["seed"] for run in used}),
        hardware="; ".join(sorted(machines)),
        hours=sum(run.hours for run in used),
    )


def read(folder: Path) -> dict[str, dict[str, Group]]:
    """Return the runs of a folder by environment and contender."""
    tasks: dict[str, dict[str, Group]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.glob("*.jsonl")):
        run = WallClockRun(path)
        if run.marks:
            tasks[run.start["environment"]][run.start["contender"]].append(run)
    return tasks


def table(tasks: dict[str, dict[str, Group]]) -> list[str]:
    """Return the table as lines: every contender of the queue, whether it was run or not."""
    generator = np.random.default_rng(0)
    lines = [HEAD, "| environment | learner | " + " | ".join(f"{m // 60} minutes" for m in SHOWN)]
    lines[-1] += " | steps in 10 minutes | wall over processor time |"
    lines.append("|---|---|" + "---|" * (len(SHOWN) + 2))
    for contender, task in dict.fromkeys((contender, task) for contender, task, _ in queue()):
        runs = tasks.get(task, {}).get(contender, [])
        if not runs:
            cells = ["not run"] * len(SHOWN) + ["-", "-"]
        else:
            cells = [cell(returns_at(runs, mark), generator) for mark in SHOWN]
            ends = [run.marks[SHOWN[-1]] for run in runs if SHOWN[-1] in run.marks]
            cells.append(f"{np.mean([end['step'] for end in ends]):,.0f}" if ends else "-")
            cells.append(", ".join(f"{run.slowed:.2f}" for run in runs))
        lines.append(f"| {task} | {NAMES[contender]} | {' | '.join(cells)} |")
    every = [run for groups in tasks.values() for runs in groups.values() for run in runs]
    commits = sorted({run.start.get("commit", "not noted")[:12] for run in every})
    disturbed = sum(run.slowed > DISTURBED for run in every)
    lines += [
        "",
        f"Of {len(every)} runs {disturbed} were disturbed by other work on the machine: their wall "
        "time is more than a tenth above their processor time, which is then longer as well. "
        f"Commits: {', '.join(commits) or '-'}.",
    ]
    for task in sorted(tasks):
        lines += ["", f"![Return on {task} over minutes](wall_clock_{task}.png)"]
    return lines


def draw(task: str, groups: dict[str, Group]) -> None:
    """Draw the returns over the time of training."""
    drawn = {NAMES[name]: [run.drawn() for run in groups[name]] for name in NAMES if name in groups}
    generator = np.random.default_rng(0)
    figure = learning_curves(
        drawn, generator=generator, over="wall_seconds", colours=list(NAMES.values())
    )
    if figure is not None:
        axes = figure.axes[0]
        axes.set_xlabel(f"{axes.get_xlabel()}, one core, compilation counted")
        figure.savefig(HERE / f"wall_clock_{task}.png", dpi=150)


def claims(tasks: dict[str, dict[str, Group]]) -> list[str]:
    """Return the rows of claims.toml, of every contender of the queue."""
    planned = {(contender, task) for contender, task, _ in queue()}
    return [
        row_of(contender, task, mark, tasks.get(task, {}))
        for task in ENVIRONMENTS
        for contender, marks in CLAIMED
        for mark in marks
        if (contender, task) in planned
    ]


def main() -> None:
    """Read the files; write the table, the pictures and, if asked, the claims."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="?", default=HERE / "wall_clock")
    parser.add_argument("--claims", action="store_true")
    flags = parser.parse_args()
    tasks = read(flags.runs)
    for task, groups in tasks.items():
        draw(task, groups)
    lines, rows = table(tasks), claims(tasks)
    (HERE / "wall_clock.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    if flags.claims:
        write_rows("wall_clock_summary.py", rows)
    else:
        print("\n" + "\n\n".join(rows))


if __name__ == "__main__":
    main()
