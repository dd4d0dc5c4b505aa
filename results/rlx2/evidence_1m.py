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
COMPARED, FINAL = 300_000, 1_000_000
KEPT = ("start", "random_policy", "evaluation", "n_step", "end")
THINNING = 20
NAMES = {
    "rlx2.dense": "dense TD3",
    "rlx2.td3": "RLx2-TD3",
    "rlx2.rigl": "RigL",
    "rlx2.static": "static sparse",
}
# Percent of dense TD3's return after 3M steps, from the paper's table 2.
PUBLISHED = {
    "HalfCheetah-v5": {"RLx2-TD3": 99.8, "RigL": 90.8, "static sparse": 77.1},
    "Hopper-v5": {"RLx2-TD3": 97.0, "RigL": 90.6, "static sparse": 67.7},
    "Walker2d-v5": {"RLx2-TD3": 98.1, "RigL": 35.7, "static sparse": 42.9},
    "Ant-v5": {"RLx2-TD3": 103.9, "RigL": 68.5, "static sparse": 49.6},
}
WITHIN = 97  # the paper chose the sparsest pair that stays within 3 % of dense

Scores = dict[int, float]  # of each seed


# ---------------------------------------------------------------------- collecting


def collect(folder: Path) -> None:
    """Copy what is small of every run, finished or not, over the copies made before."""
    for config in sorted(folder.glob("*/config.json")):
        run = config.parent
        if not (run / "records.jsonl").exists():
            continue
        target = RUNS / run.name
        target.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "environment.json", "DONE"):
            if (run / name).exists():
                shutil.copy(run / name, target / name)
        records = thinned((run / "records.jsonl").read_text(encoding="utf-8"))
        (target / "records.jsonl").write_text(records, encoding="utf-8")


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


def is_compared(run: RunData) -> bool:
    """Tell whether a run is one of these agents; a sweep has others, SAC's under the same names."""
    return run.recipe in NAMES and run.first("start").get("algorithm") == "TD3"


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
    return "; ".join(sorted(machines))


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


def rows_of(task: str, agents: dict[str, list[RunData]]) -> list[str]:
    """Return the claims of one environment as rows of claims.toml, also of one without runs."""
    generator = np.random.default_rng(0)
    rlx2 = agents.get("RLx2-TD3", [])
    rows = []
    for other, step, expected in (
        ("dense TD3", COMPARED, f">= {WITHIN}"),
        ("RigL", FINAL, ">= 0"),
        ("static sparse", FINAL, ">= 0"),
    ):
        runs = agents.get(other, [])
        ours, theirs = scores_at(rlx2, step), scores_at(runs, step)
        count = f"{len(ours)} and {len(theirs)} seeds" if ours and theirs else f"{SEEDS} seeds"
        published = PUBLISHED[task]
        measured: float | None = None
        interval: tuple[float, float] | None = None
        if other == "dense TD3":
            claim = f"RLx2-TD3 keeps the dense return on {task}, 300k steps"
            where = f"table 2: {published['RLx2-TD3']} % after 3M steps of the v3 task"
            metric = f"% of dense TD3's return, mean of the last {LAST} evaluations, {count}"
            if ours and theirs:
                measured, *bounds = ratio_interval(
                    list(ours.values()), list(theirs.values()), generator
                )
                if min(len(ours), len(theirs)) > 1:
                    interval = (bounds[0], bounds[1])
        else:
            claim = f"RLx2-TD3 is not below {other} at equal sparsity on {task}, 1M steps"
            where = (
                f"table 2: {published['RLx2-TD3']} against {published[other]} % of dense after 3M"
            )
            metric = f"difference of returns, mean of the last {LAST} evaluations, {count}"
            if ours and theirs:
                gap = difference_interval(
                    list(ours.values()), list(theirs.values()), mean, generator=generator
                )
                measured, interval = gap.value, (gap.low, gap.high)
        both = [*rlx2, *runs]
        used = seed_names(rlx2, ours) + seed_names(runs, theirs)
        rows.append(
            claim_row(
                claim=claim,
                where=where,
                metric=metric,
                expected=expected,
                measured=measured,
                interval=interval,
                runs=used,
                seeds=sorted({*ours, *theirs}),
                hardware=hardware(both),
                hours=hours([run for run in both if f"{RUNS.name}/{run.name}" in used]),
            )
        )
    return rows


def summarise(claims: bool) -> None:
    """Draw and write everything from the copies in runs-1m."""
    generator = np.random.default_rng(0)
    tasks: dict[str, dict[str, list[RunData]]] = defaultdict(lambda: defaultdict(list))
    for config in sorted(RUNS.glob("*/config.json")):
        run = load_run(config.parent)
        if is_compared(run):
            tasks[run.task][NAMES[run.recipe]].append(run)
    lines = ["| environment | agent | return at 300k steps | % of dense, 300k |"]
    lines[0] += " return at 1M steps | steps per processor second |"
    lines.append("|---|---|---|---|---|---|")
    for task, found in sorted(tasks.items()):
        agents = {name: found[name] for name in NAMES.values() if name in found}
        pictures(task, agents)
        dense = scores_at(agents.get("dense TD3", []), COMPARED)
        for name, runs in agents.items():
            compared = scores_at(runs, COMPARED)
            final = "-" if name == "dense TD3" else text_of(scores_at(runs, FINAL), generator)
            share = "100 %" if name == "dense TD3" else percent_of(compared, dense, generator)
            speed = sum(run.steps for run in runs) / max(1e-9, 3600 * hours(runs))
            lines.append(
                f"| {task} | {name} | {text_of(compared, generator)} | {share} | {final} "
                f"| {speed:.0f} |"
            )
    rows = [row for task in PUBLISHED for row in rows_of(task, tasks.get(task, {}))]
    lines += ["", "| run | steps so far | finished | processor hours |", "|---|---|---|---|"]
    for _, agents in sorted(tasks.items()):
        for run in (run for runs in agents.values() for run in runs):
            done = "yes" if run.finished else "no"
            lines.append(f"| {run.name} | {run.steps:,} | {done} | {hours([run]):.2f} |")
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
