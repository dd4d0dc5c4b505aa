"""Turn the runs of one million steps into the committed evidence: curves, tables, claims.

    python results/rlx2/evidence_1m.py collect runs/1m    # small copies into results/rlx2/runs-1m
    python results/rlx2/evidence_1m.py summarise          # summary_1m.md, pictures
    python results/rlx2/evidence_1m.py summarise --claims # and their rows in claims.toml

The runs (run_1m.sh): `rlx2.td3`, `rlx2.static` and `rlx2.rigl` (the last two without multi-step
targets and dynamic replay, as in the paper's table 2) at the published sparsities for 1,000,000
steps on the engine; `rlx2.dense` for 300,000 steps on the reference with the same 8,333 random
steps at its start. Folders are named RECIPE-ENVIRONMENT-SEED. All evaluate 10 noise-free episodes
every 5,000 steps.

A copy keeps configuration, versions, evaluations and every twentieth training record, numbers
rounded to seven digits. Runs that are not finished may be there: a figure at some step is made of
the runs that have reached it, and says how many of three they are.

A run's score at a step is the mean of its last ten evaluations up to there. Scores are averaged
over seeds; intervals are 95 % percentile bootstraps over seeds, which with three seeds cover about
three quarters of the time: read them as a spread, not as a test. Processor time is that of the
whole run, evaluations included (all agents are evaluated alike).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from agents_1m import AGENTS, COMPARED, ENVIRONMENTS, FINAL, agent_of, published
from claim_rows import claim_row, write_rows
from summarise import curve, ratio_interval

from thrifty.report import load_run
from thrifty.report.figures import learning_curves
from thrifty.report.run_data import RunData
from thrifty.stats import bootstrap_interval, difference_interval, final_mean, mean

HERE = Path(__file__).resolve().parent
RUNS = HERE / "runs-1m"
SEEDS = 3
LAST = 10
KEPT = ("start", "random_policy", "evaluation", "n_step", "end")
THINNING = 20
HEAD = """\
# RLx2: one million steps

Written by `evidence_1m.py` from the copies in runs-1m. Dense learners run for 300,000 steps, on the
reference; sparse ones, on the engine, for 1,000,000, and at 300,000 they are a third through their
own schedule. A run's return at a step is the mean of its last ten evaluations up to there. In
brackets, where there are several seeds: 95 % percentile bootstraps, which with three seeds cover
about three quarters of the time. One seed decides nothing.
"""
NAMES = {agent: AGENTS[agent].name for agent in ("dense", "td3", "rigl", "static")}
WITHIN = 97  # the paper chose the sparsest pair that stays within 3 % of dense

Scores = dict[int, float]  # of each seed


# ---------------------------------------------------------------------- collecting


def collect(folder: Path) -> None:
    """Copy what is small of every run, finished or not, over the copies made before.

    Where the run here is not finished, the copy of a finished or longer one stays.
    """
    for config in sorted(folder.glob("*/config.json")):
        run = config.parent
        if not (run / "records.jsonl").exists():
            continue
        target = RUNS / run.name
        if (target / "DONE").exists() and not (run / "DONE").exists():
            continue  # begun anew elsewhere: the copy of the finished run stays
        records = thinned((run / "records.jsonl").read_text(encoding="utf-8"))
        copy = target / "records.jsonl"
        held = copy.read_text(encoding="utf-8") if copy.exists() else ""
        if not (run / "DONE").exists() and last_step(held) > last_step(records):
            continue  # likewise
        target.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "environment.json", "DONE"):
            if (run / name).exists():
                shutil.copy(run / name, target / name)
        copy.write_text(records, encoding="utf-8")


def last_step(text: str) -> int:
    """Return the step of the last record."""
    lines = text.splitlines()
    return int(json.loads(lines[-1])["step"]) if lines else 0


def thinned(text: str) -> str:
    """Return the records that are kept, one a line; a last line that is cut off is left out.

    Args:
        text: of records.jsonl.
    """
    lines = []
    trains = 0
    for line in text.split("\n")[:-1]:
        record = json.loads(line)
        trains += record["kind"] == "train"
        if record["kind"] in KEPT or (record["kind"] == "train" and trains % THINNING == 1):
            lines.append(json.dumps(rounded(record)) + "\n")
    return "".join(lines)


def rounded(value: Any) -> Any:
    """Return the same tree with its fractions rounded to seven digits; the time is kept whole."""
    if isinstance(value, dict):
        return {k: v if k == "wall_time" else rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


# ---------------------------------------------------------------------- reading


def scores_at(runs: list[RunData], step: int) -> Scores:
    """Return the scores at a step of the runs that have reached it, by seed."""
    scores = {}
    for run in runs:
        points = curve(run)
        if points and points[-1][0] >= step:
            scores[run.seed or 0] = final_mean([value for at, value in points if at <= step], LAST)
    return scores


def hours(runs: list[RunData]) -> float:
    """Return the processor hours of some runs together."""
    return sum(float(run.records[-1].get("wall_cpu_seconds", 0.0)) for run in runs) / 3600


def hardware(runs: list[RunData]) -> str:
    """Return where the runs were made, in words."""
    machines = {
        f"{run.processor}, {run.environment['hardware']['cores']} cores, one thread a run"
        for run in runs
        if run.environment
    }
    return "; ".join(sorted(machines)) or "machine not noted"


def commits(run: RunData) -> str:
    """Return the commits at which a run was worked on."""
    sessions = run.environment.get("sessions", [run.environment])
    parts = [one.get("commit", "not noted").split() for one in sessions]
    return ", ".join(dict.fromkeys(" ".join([part[0][:8], *part[1:]]) for part in parts))


def seed_names(runs: list[RunData], seeds: Scores) -> list[str]:
    """Return the folders of the runs with a score, beside claims.toml."""
    return [f"{RUNS.name}/{run.name}" for run in runs if (run.seed or 0) in seeds]


# ---------------------------------------------------------------------- writing


def text_of(scores: Scores, generator: np.random.Generator) -> str:
    """Return mean, interval and number of seeds of some scores as table text."""
    if not scores:
        return f"none of {SEEDS} seeds"
    interval = bootstrap_interval(list(scores.values()), mean, generator=generator)
    bounds = f" [{interval.low:.0f}, {interval.high:.0f}]" if interval.defined else ""
    return f"{interval.value:.0f}{bounds}, {len(scores)} of {SEEDS} seeds"


def percent_of(scores: Scores, dense: Scores, generator: np.random.Generator) -> str:
    """Return scores over dense ones in percent with their interval as table text."""
    if not scores or not dense:
        return "-"
    share, low, high = ratio_interval(list(scores.values()), list(dense.values()), generator)
    bounds = f" [{low:.0f}, {high:.0f}]" if min(len(scores), len(dense)) > 1 else ""
    return f"{share:.0f} %{bounds}"


def pictures(task: str, agents: dict[str, list[RunData]]) -> None:
    """Draw the learning curves over steps and over processor time."""
    generator = np.random.default_rng(0)
    order = list(NAMES.values())
    over_steps = learning_curves(agents, generator=generator, colours=order)
    timed = {name: [over_processor(run) for run in runs] for name, runs in agents.items()}
    over_time = learning_curves(timed, generator=generator, over="wall_seconds", colours=order)
    if over_steps is not None:
        over_steps.savefig(HERE / f"curves_1m_{task}.png", dpi=150)
    if over_time is not None:
        axes = over_time.axes[0]
        axes.set_xlabel(axes.get_xlabel().replace("training time", "processor time of one core"))
        over_time.savefig(HERE / f"curves_1m_{task}_time.png", dpi=150)


def over_processor(run: RunData) -> RunData:
    """Return the run with its processor time in the place of its wall time."""
    records = tuple(
        {**record, "wall_seconds": record.get("wall_cpu_seconds")} for record in run.records
    )
    return dataclasses.replace(run, records=records)


def keeps_dense(
    task: str,
    agent: str,
    ours: list[RunData],
    theirs: list[RunData],
    generator: np.random.Generator,
) -> str:
    """Return the claim that an agent has the dense return, at the length of the dense runs.

    Args:
        task: the environment.
        agent: by its name in agents_1m.
        ours: its runs.
        theirs: those of the dense learner.
        generator: draws the resamples.
    """
    name, dense = AGENTS[agent].name, "dense SAC" if agent == "sac" else "dense TD3"
    scores, others = scores_at(ours, COMPARED), scores_at(theirs, COMPARED)
    measured: float | None = None
    interval: tuple[float, float] | None = None
    if scores and others:
        measured, *bounds = ratio_interval(list(scores.values()), list(others.values()), generator)
        interval = (bounds[0], bounds[1])
    return row_of(
        f"{name} keeps the dense return on {task}, 300k steps",
        f"table 2: {published(agent, task)} % after 3M steps of the v3 task",
        f"% of {dense}'s return",
        f">= {WITHIN}",
        measured,
        interval,
        (ours, scores),
        (theirs, others),
    )


def not_below(
    claim: str,
    where: str,
    ours: list[RunData],
    theirs: list[RunData],
    generator: np.random.Generator,
) -> str:
    """Return the claim that one agent's return is not below another's after 1M steps.

    Args:
        claim: what is said.
        where: in the paper, with its figures.
        ours: runs of the one.
        theirs: runs of the other.
        generator: draws the resamples.
    """
    scores, others = scores_at(ours, FINAL), scores_at(theirs, FINAL)
    measured: float | None = None
    interval: tuple[float, float] | None = None
    if scores and others:
        measured, *bounds = difference_interval(
            list(scores.values()), list(others.values()), mean, generator=generator
        )
        interval = (bounds[0], bounds[1])
    metric, expected = "difference of returns", ">= 0"
    return row_of(
        claim, where, metric, expected, measured, interval, (ours, scores), (theirs, others)
    )


def row_of(
    claim: str,
    where: str,
    metric: str,
    expected: str,
    measured: float | None,
    interval: tuple[float, float] | None,
    *groups: tuple[list[RunData], Scores],
) -> str:
    """Return a row of claims.toml about two groups, each its runs and their scores by seed.

    Fewer seeds than were planned decide nothing: the row stands as not run.
    """
    if min(len(scores) for _, scores in groups) < SEEDS:
        measured = interval = None
    both = [run for runs, _ in groups for run in runs]
    used = [name for runs, scores in groups for name in seed_names(runs, scores)]
    return claim_row(
        claim=claim,
        where=where,
        metric=f"{metric}, mean of the last {LAST} evaluations, {SEEDS} seeds",
        expected=expected,
        measured=measured,
        interval=interval,
        runs=used,
        seeds=sorted({seed for _, scores in groups for seed in scores}),
        hardware=hardware(both),
        hours=hours([run for run in both if f"{RUNS.name}/{run.name}" in used]),
    )


def rows_of(task: str, agents: dict[str, list[RunData]]) -> list[str]:
    """Return the claims of one environment as rows of claims.toml, also of one without runs."""
    generator = np.random.default_rng(0)
    rlx2 = agents.get("RLx2-TD3", [])
    rows = [keeps_dense(task, "td3", rlx2, agents.get("dense TD3", []), generator)]
    for other in ("rigl", "static"):
        name = AGENTS[other].name
        figures = f"{published('td3', task)} against {published(other, task)} % of dense after 3M"
        rows.append(
            not_below(
                f"RLx2-TD3 is not below {name} at equal sparsity on {task}, 1M steps",
                f"table 2: {figures}",
                rlx2,
                agents.get(name, []),
                generator,
            )
        )
    return rows


def copies() -> dict[str, dict[str, list[RunData]]]:
    """Return the runs in runs-1m by environment and agent."""
    tasks: dict[str, dict[str, list[RunData]]] = defaultdict(lambda: defaultdict(list))
    for config in sorted(RUNS.glob("*/config.json")):
        run = load_run(config.parent)
        if agent := agent_of(run):
            tasks[run.task][agent].append(run)
    return tasks


def summarise(claims: bool) -> None:
    """Draw and write everything from the copies in runs-1m."""
    generator = np.random.default_rng(0)
    every = copies()
    planned = ENVIRONMENTS[:2]  # by run_1m.sh; of the others, what there is
    tasks = {
        task: {NAMES[agent]: every[task][agent] for agent in NAMES if agent in every[task]}
        for task in ENVIRONMENTS
        if task in planned or set(every[task]) & set(NAMES)
    }
    lines = [HEAD, "| environment | agent | return at 300k steps | % of dense, 300k |"]
    lines[-1] += " return at 1M steps | steps per processor second |"
    lines.append("|---|---|---|---|---|---|")
    for task, agents in tasks.items():
        pictures(task, agents)
        dense = scores_at(agents.get("dense TD3", []), COMPARED)
        for name in NAMES.values():
            if not (runs := agents.get(name, [])):
                final = "-" if name == "dense TD3" else "not run"
                lines.append(f"| {task} | {name} | not run | - | {final} | - |")
                continue
            compared = scores_at(runs, COMPARED)
            final = "-" if name == "dense TD3" else text_of(scores_at(runs, FINAL), generator)
            share = "100 %" if name == "dense TD3" else percent_of(compared, dense, generator)
            speed = sum(run.steps for run in runs) / max(1e-9, 3600 * hours(runs))
            lines.append(
                f"| {task} | {name} | {text_of(compared, generator)} | {share} | {final} "
                f"| {speed:.0f} |"
            )
    rows = [row for task in ENVIRONMENTS for row in rows_of(task, tasks.get(task, {}))]
    lines += ["", "| run | steps so far | finished | processor hours | commit |"]
    lines += ["|---|---|---|---|---|"]
    for agents in tasks.values():
        for run in (run for runs in agents.values() for run in runs):
            done = "yes" if run.finished else "no"
            lines.append(
                f"| {run.name} | {run.steps:,} | {done} | {hours([run]):.2f} | {commits(run)} |"
            )
    for task in (task for task, agents in tasks.items() if agents):
        lines += ["", f"![Return on {task} over steps](curves_1m_{task}.png)"]
        lines += ["", f"![The same over processor time](curves_1m_{task}_time.png)"]
    (HERE / "summary_1m.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    if claims:
        write_rows("evidence_1m.py", rows)
    else:
        print("\n" + "\n\n".join(rows))


def main() -> None:
    """Read the flags; collect or summarise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("collect").add_argument("runs", type=Path)
    verbs.add_parser("summarise").add_argument("--claims", action="store_true")
    flags = parser.parse_args()
    if flags.verb == "collect":
        collect(flags.runs)
    else:
        summarise(flags.claims)


if __name__ == "__main__":
    main()
