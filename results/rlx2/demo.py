"""Turn runs of the demo into what is told about it: demo.md, two pictures, rows of claims.toml.

    python results/rlx2/demo.py runs/evidence    # folders demo-0, demo-1, demo-2 of run.sh
    python results/rlx2/demo.py                  # again, from the copies in results/rlx2/runs

A run's return is that of its final policy without exploration, the mean of ten episodes with seeds
that no evaluation during training has seen; they are played when the run is collected and stand in
its returns.json. The row of a seed is one run. The recipe's settings are rlx2.td3's own, tuned on
none of these runs. Training time is told twice: by the clock, which other work on the machine
lengthens, and as the processor time of the training process, evaluations included in both. A
machine that does other work makes both longer (its caches are shared), so the claim about minutes
takes only runs whose two times agree within a tenth.

The dense twin is timed by `thrifty demo` after training, or at any time by

    thrifty bench demo --json results/rlx2/runs/demo-engine-0/bench.json
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from claim_rows import claim_row, write_rows

from thrifty.agents import load_run_policy
from thrifty.report import load_run
from thrifty.report.elements import COLOURS
from thrifty.report.figures import learning_curve
from thrifty.report.film import film_strip, speed
from thrifty.report.run_data import RunData

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
EPISODES, FRESH = 10, 9_000  # of the last evaluation, and its seed
KEPT = ("config.json", "environment.json", "records.jsonl", "DONE", "bench.json")


def collect(folder: Path) -> None:
    """Copy what is small of every finished demo, as demo-engine-SEED, and play its policy."""
    for done in sorted(folder.glob("demo-*/DONE")):
        run = load_run(done.parent)
        target = HERE / "runs" / f"demo-engine-{run.seed}"
        target.mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            if (done.parent / name).exists():
                shutil.copy(done.parent / name, target / name)
        returns = load_run_policy(done.parent).evaluate(EPISODES, seed=FRESH).returns
        content = {"episodes": EPISODES, "seed": FRESH, "returns": returns}
        (target / "returns.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


def reached(run: RunData) -> float:
    """Return the mean return of a run's final policy."""
    content = json.loads((run.directory / "returns.json").read_text(encoding="utf-8"))
    return float(np.mean(content["returns"]))


def processor_seconds(run: RunData) -> float:
    """Return the processor time of the whole run."""
    return float(run.of("end")[0]["wall_cpu_seconds"])


def undisturbed(run: RunData) -> bool:
    """Return whether the machine did little else: the clock agrees with the processor time."""
    return (run.wall_seconds or 0.0) < 1.1 * processor_seconds(run)


def summary(runs: list[RunData]) -> str:
    """Return demo.md: a row a seed, the ledger, and the dense twin where it was timed."""
    lines = ["# The agent of `make demo`", "", "Written by `demo.py` from the runs in runs.", ""]
    lines.append("| seed | random policy | return | training, by the clock | processor time |")
    lines.append("|---|---|---|---|---|")
    for run in runs:
        lines.append(
            f"| {run.seed} | {run.random_return:.0f} | {reached(run):.0f} "
            f"| {run.wall_seconds:.0f} s | {processor_seconds(run):.0f} s |"
        )
    returns = [reached(run) for run in runs]
    lines += [
        "",
        f"Return: median {np.median(returns):.0f}, from {min(returns):.0f} to {max(returns):.0f}.",
        "",
        f"Gait (seed {runs[0].seed}): {speed(runs[0].of('gait')[-1])}.",
    ]
    for run in runs:
        dense = run.measured("milliseconds_per_step", "dense twin, reference")
        ours = run.measured("milliseconds_per_step", "demo agent, engine")
        if dense is not None and ours is not None:
            load = json.loads((run.directory / "bench.json").read_text("utf-8"))["load"]
            lines += [
                "",
                f"A step with its update takes the dense twin in the reference {dense:.2f} ms of "
                f"processor time and this agent {ours:.2f} ms, {dense / ours:.1f} times less: "
                f"{run.steps * dense / 60_000:.0f} against {run.steps * ours / 60_000:.1f} minutes "
                f"for {run.steps:,} steps, evaluations left out (seed {run.seed}; load of the "
                f"machine meanwhile {load['one_minute']:.1f}).",
            ]
    lines += ["", "| ledger | dense | this agent | kept |", "|---|---|---|---|"]
    for name, pair in runs[0].first("start")["ledger"].items():
        if name != "rows":
            kept = f"{100 * pair['ratio']:.1f} %"
            lines.append(f"| {name} | {pair['dense']:,.0f} | {pair['sparse']:,.0f} | {kept} |")
    return "\n".join(lines) + "\n"


def claims(runs: list[RunData]) -> list[str]:
    """Return the rows of claims.toml."""
    returns = [reached(run) for run in runs]
    quiet = [run for run in runs if undisturbed(run)]
    seconds = [run.wall_seconds or 0.0 for run in quiet]
    agent = f"The demo agent (actor 90 %, critic 85 % sparse, {runs[0].steps:,} steps)"
    return [
        claim_row(
            claim=f"{agent} runs: HalfCheetah-v5",
            metric=f"return of the final policy, mean of {EPISODES} fresh episodes, median and "
            f"range of {len(runs)} seeds",
            expected=">= 1500",
            measured=float(np.median(returns)),
            interval=(min(returns), max(returns)),
            **_circumstances(runs),
        ),
        claim_row(
            claim=f"{agent} is trained in four minutes",
            metric="seconds by the clock, evaluations included, of runs on a quiet machine",
            expected="<= 240",
            measured=float(np.median(seconds)) if quiet else None,
            interval=(min(seconds), max(seconds)) if len(quiet) > 1 else None,
            **_circumstances(quiet),
        ),
    ]


def _circumstances(runs: list[RunData]) -> dict[str, Any]:
    """What a row says about the runs that it rests on."""
    disturbed = not all(undisturbed(run) for run in runs)
    return {
        "where": "ours, no counterpart in the paper",
        "runs": [f"runs/{run.name}" for run in runs],
        "seeds": [run.seed for run in runs],
        "hardware": f"{', '.join({run.processor for run in runs})}, 2 cores, one thread a run"
        + (", other work on them" if disturbed else ""),
        "hours": sum(processor_seconds(run) for run in runs) / 3600,
    }


def draw(run: RunData) -> None:
    """Write the README's pictures: the learning curve and the film strip."""
    figure = learning_curve(run)
    assert figure is not None, "the demo evaluates"
    figure.savefig(DOCS / "demo.png", dpi=110, facecolor="white")
    svg = film_strip(run.of("gait")[-1])
    style = f"<style>{COLOURS.strip()}</style>"
    at = svg.index(">") + 1
    (DOCS / "gait.svg").write_text(svg[:at] + style + svg[at:] + "\n", encoding="utf-8")


def main() -> None:
    """Read the runs and write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="?")
    flags = parser.parse_args()
    if flags.runs is not None:
        collect(flags.runs)
    runs = [load_run(folder) for folder in sorted((HERE / "runs").glob("demo-engine-*"))]
    text = summary(runs)
    (HERE / "demo.md").write_text(text, encoding="utf-8")
    print(text)
    write_rows("demo.py", claims(runs))
    draw(runs[0])


if __name__ == "__main__":
    main()
