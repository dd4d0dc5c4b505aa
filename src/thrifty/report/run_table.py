"""Runs as a CSV table, one row each, for people's own notebooks."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from thrifty.report.groups import labels, settings_of
from thrifty.report.run_data import RunData
from thrifty.report.single import final_return, ledger_ratio, speed

_OF_EPISODES = ("regret", "V_1", "switches")


def run_table(runs: Sequence[RunData]) -> str:
    """Return a CSV text: a heading, then one row a run; what a run does not have is empty.

    Columns: run, recipe, group, settings, task, seed, steps, finished, final_return (mean of the
    evaluations in the last tenth), random_return, regret, V_1 and switches (of episodic runs, the
    last recorded), parameters_kept, training_flops_kept, inference_flops_kept (fractions of the
    dense twin's), wall_seconds, cpu_seconds, steps_per_second, processor.

    Args:
        runs: in the order of the rows.
    """
    rows = []
    for run, label in zip(runs, labels(runs), strict=True):
        cpu = [r["wall_cpu_seconds"] for r in run.records if "wall_cpu_seconds" in r]
        row: dict[str, object] = {
            "run": run.name,
            "recipe": run.recipe,
            "group": label,
            "settings": "; ".join(f"{k}={v}" for k, v in sorted(settings_of(run).items())),
            "task": run.task,
            "seed": run.seed,
            "steps": run.steps,
            "finished": "yes" if run.finished else "no",
            "final_return": final_return(run),
            "random_return": run.random_return,
        }
        for field in _OF_EPISODES:
            _, values = run.column("progress", field)
            row[field] = float(values[-1]) if values.size else None
        for quantity in ("parameters", "training_flops", "inference_flops"):
            row[f"{quantity}_kept"] = ledger_ratio(run, quantity)
        row |= {
            "wall_seconds": run.wall_seconds,
            "cpu_seconds": max(cpu, default=None),
            "steps_per_second": speed(run),
            "processor": run.processor,
        }
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
