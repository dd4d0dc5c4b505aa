"""The schedulers that practitioners use, and planners, on the canonical scenarios.

    python results/rsd4/schedulers.py [--only S1 S2] [--processes 1]

All schedulers of a scenario play 400 environments with the same arrivals, channels and uniforms:
300 slots in which rules that adapt settle, then the slots that count. Beside each the exact optimal
table plays them at the energy that the scheduler spent, as in the test of a trained agent.

What a rule spends is set on runs with another seed. It is told a budget (rules with a hard budget
keep to it in every slot, at each node); where it then spends another energy on average, it is told
another budget, until the mean of every node is right. Drift plus penalty finds its price itself and
has its V chosen there. Uniform, myopic and the tables are exact at the budget and have no knob.
Writes schedulers.csv.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from measure import HERE, complete
from train import SCENARIOS

from thrifty.runs.tasks import Task
from thrifty.scheduling import optimum
from thrifty.scheduling.baselines import DriftPlusPenalty, lineup
from thrifty.scheduling.measurement import Measured, measure
from thrifty.scheduling.multiplier import Calibration
from thrifty.scheduling.queueing import Sight
from thrifty.scheduling.scenarios import Scenario, scenario
from thrifty.scheduling.schedulers import Scheduler, TableScheduler
from thrifty.scheduling.sight import sight_of

ENVIRONMENTS, WARM_UP = 400, 300
SLOTS = {"S3": 300}  # that count, 1,000 elsewhere: what scatters less needs fewer
TUNING_SLOTS = 300
TEST_SEED, TRAINING_SEED = 0, 100
EXACT = ("uniform", "myopic", "blind", "optimal table")
PATIENCE, NEAR = (5.0, 15.0, 50.0), 0.005  # V, in budgets; the most it may miss the budget by
TRIALS, CLOSE = 8, 0.002  # of the budget told; a gap that is not made smaller


def tasks(only: list[str]) -> list[Task]:
    """Return what is to be measured."""
    return [
        {"scenario": name, "scheduler": scheduler}
        for name in only
        for scheduler in lineup(scenario(name), sight=sight_of("own", scenario(name)))
    ]


def play(of: Scenario, scheduler: Scheduler, slots: int, seed: int, sight: Sight) -> Measured:
    """Measure."""
    return measure(
        of, scheduler, environments=ENVIRONMENTS, slots=slots, warm_up=WARM_UP, seed=seed,
        sight=sight,
    )  # fmt: skip


def told_budget(of: Scenario, make: Any) -> np.ndarray:
    """Return the budget to tell a scheduler so that it spends E_0 on the training seed [H]."""
    search = Calibration(of.budget, np.ones(of.hops), 1e3)  # of 1 / told, as of a price
    for _ in range(TRIALS):
        scheduler = make(of.budget / search.prices)
        found = play(of, scheduler, TUNING_SLOTS, TRAINING_SEED, sight_of("own", of))
        search.count(found.energy)
        if search.gap(found.energy) < CLOSE:
            break
        search.move(found.energy)
    search.settle()
    return np.asarray(of.budget / search.prices)


def patience(of: Scenario) -> float:
    """Return the V of drift plus penalty that is best on the training seed, at the budget."""
    found = []
    for part in PATIENCE:
        v = part * float(of.budget.mean())
        rule = DriftPlusPenalty(of, of.budget, v=v)
        run = play(of, rule, SLOTS.get(of.name, 1000), TRAINING_SEED, sight_of("own", of))
        off = float(np.max(np.abs(run.energy / of.budget - 1.0)))
        found.append((off > NEAR, -run.throughput / optimum.solve(of, run.energy).optimum, v))
    return min(found)[-1]


def tuned(of: Scenario, name: str) -> tuple[Scheduler, np.ndarray, float | str]:
    """Return a scheduler with its knobs set, the budget it is told [H], and V if it has one."""
    make = lineup(of, sight=sight_of("own", of))[name]
    if name == "drift plus penalty":
        v = patience(of)
        return DriftPlusPenalty(of, of.budget, v=v), of.budget, v
    told = of.budget if name in EXACT else told_budget(of, make)
    return make(told), told, ""


def work(task: Task) -> Task:
    """Tune one, measure it, and the optimal table beside it."""
    of = scenario(task["scenario"])
    scheduler, told, v = tuned(of, task["scheduler"])
    slots = SLOTS.get(of.name, 1000)
    found = play(of, scheduler, slots, TEST_SEED, sight_of("own", of))
    best, there = optimum.solve(of, of.budget).optimum, optimum.solve(of, found.energy)
    beside = play(of, TableScheduler(of, there), slots, TEST_SEED, Sight())
    # What the energies of the two differ by is charged, node by node.
    short = found.each - beside.each - (found.each_energy - beside.each_energy) @ there.multiplier
    paired = 1.0 + float(short.mean()) / there.optimum
    print(f"{of.name}, {task['scheduler']}: {100 * paired:.2f} % of the optimum", flush=True)
    return {
        "environments": ENVIRONMENTS,
        "slots": slots,
        "told": json.dumps([round(float(one), 4) for one in told]),
        "v": v,
        "throughput": round(found.throughput, 5),
        "energy": json.dumps([round(float(one), 4) for one in found.energy]),
        "off_budget": round(float(np.max(np.abs(found.energy / of.budget - 1.0))), 5),
        "of_optimum": round(found.throughput / best, 5),
        "of_optimum_at_energy": round(found.throughput / there.optimum, 5),
        "paired": round(paired, 5),
        "paired_error": round(float(short.std(ddof=1)) / np.sqrt(len(short)) / there.optimum, 5),
        "fairness": round(found.fairness, 5),
        "miss_ratio": json.dumps([round(float(one), 4) for one in found.miss_ratio]),
    }


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(SCENARIOS), choices=SCENARIOS)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    wanted = tasks(options.only)
    complete(options.out / "schedulers.csv", wanted, work, processes=options.processes)


if __name__ == "__main__":
    main()
