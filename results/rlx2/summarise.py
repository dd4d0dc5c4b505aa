"""Turn the runs of run.sh into the committed evidence: curves, pictures, summary.md.

    python results/rlx2/summarise.py [runs/evidence]

The records of finished runs (configuration, versions, records; not the checkpoints) are copied from
the given folder to results/rlx2/runs, and everything is drawn from there.

A run's score is the mean of its last four evaluations (85k to 100k steps, ten episodes each). A
group's score is the mean over seeds; intervals are 95 % percentile bootstraps over seeds, which
with three seeds cover about three quarters of the time: read them as a spread, not as a test.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np

from thrifty.report import load_run
from thrifty.report.figures import learning_curves
from thrifty.report.run_data import RunData
from thrifty.stats import bootstrap_interval, difference_interval, final_mean, mean

HERE = Path(__file__).resolve().parent
RUNS = HERE / "runs"
LAST = 4
HEAD = """\
# RLx2: 100,000 steps

Written by `summarise.py` from the runs in runs. A run's return is the mean of its last four
evaluations (85,000 to 100,000 steps, ten episodes each), a group's the mean over its seeds.
Intervals are 95 % percentile bootstraps over seeds, which with three seeds cover about three
quarters of the time: a spread, not a test. A row with a minus is the difference of two agents, in
brackets the one in percent of the other.
"""
NAMES = {"rlx2.dense": "dense TD3", "rlx2.td3": "RLx2-TD3", "sb3.td3": "Stable-Baselines3 TD3"}


def collect(folder: Path) -> None:
    """Copy what is small of every finished run."""
    for done in sorted(folder.glob("*/DONE")):
        if done.parent.name.startswith("demo-"):
            continue  # demo.py
        target = RUNS / done.parent.name
        target.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "environment.json", "records.jsonl", "DONE"):
            if (done.parent / name).exists():
                shutil.copy(done.parent / name, target / name)


def curve(run: RunData) -> list[tuple[int, float]]:
    """Return (step, mean return) of every evaluation."""
    return [(int(r["step"]), float(r["return_mean"])) for r in run.of("evaluation")]


def ratio_interval(
    above: list[float], below: list[float], generator: np.random.Generator
) -> tuple[float, float, float]:
    """Return mean(above) / mean(below) in percent with a bootstrap interval over both groups."""
    draws = [
        100.0
        * np.mean(generator.choice(above, len(above)))
        / np.mean(generator.choice(below, len(below)))
        for _ in range(10_000)
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    return 100.0 * float(np.mean(above) / np.mean(below)), float(low), float(high)


def main() -> None:
    """Read the runs and write the files beside this script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="?")
    flags = parser.parse_args()
    if flags.runs is not None:
        collect(flags.runs)
    generator = np.random.default_rng(0)
    groups: dict[str, dict[str, list[RunData]]] = defaultdict(lambda: defaultdict(list))
    for folder in sorted(path.parent for path in RUNS.glob("*/config.json")):
        run = load_run(folder)
        if run.recipe == "rlx2.demo":
            continue  # demo.py
        groups[run.task][NAMES[run.recipe]].append(run)

    with (HERE / "curves.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["environment", "agent", "seed", "step", "return_mean"])
        for task, agents in sorted(groups.items()):
            for agent, runs in sorted(agents.items()):
                for run in runs:
                    for step, value in curve(run):
                        writer.writerow([task, agent, run.seed, step, f"{value:.3f}"])

    lines = [HEAD, "| environment | agent | seeds | return | 95 % interval |"]
    lines.append("|---|---|---|---|---|")
    for task, agents in sorted(groups.items()):
        figure = learning_curves(dict(sorted(agents.items())), generator=generator)
        if figure is not None:
            figure.savefig(HERE / f"learning_curves_{task}.png", dpi=150)
        scores = {
            agent: [final_mean([value for _, value in curve(run)], LAST) for run in runs]
            for agent, runs in sorted(agents.items())
        }
        for agent, values in scores.items():
            interval = bootstrap_interval(values, mean, generator=generator)
            lines.append(
                f"| {task} | {agent} | {len(values)} | {interval.value:.0f} "
                f"| {interval.low:.0f} to {interval.high:.0f} |".replace("nan to nan", "one seed")
            )
        dense, sb3 = "dense TD3", "Stable-Baselines3 TD3"
        for agent, other in (("RLx2-TD3", dense), (dense, sb3), ("RLx2-TD3", sb3)):
            if agent not in scores or other not in scores:
                continue
            values, base = scores[agent], scores[other]
            gap = difference_interval(values, base, mean, generator=generator)
            share, low, high = ratio_interval(values, base, generator)
            lines.append(
                f"| {task} | {agent} - {other} | | {gap.value:.0f} ({share:.0f} %) "
                + (
                    f"| {gap.low:.0f} to {gap.high:.0f} ({low:.0f} to {high:.0f} %) |"
                    if min(len(values), len(base)) > 1
                    else "| one seed |"
                )
            )
    every = [run for agents in groups.values() for runs in agents.values() for run in runs]
    machine = next((dict(run.environment) for run in every if run.environment), {})
    machine.pop("sessions", None)
    lines += [f"\n![Learning curves on {t}](learning_curves_{t}.png)" for t in sorted(groups)]
    lines += ["", "```json", json.dumps(machine, indent=1), "```"]
    (HERE / "summary.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
