"""The two ends of the scale of S2: the best blind table, and the Bayes filter.

    python results/rsd4/anchors.py

Both at the budget, with the multiplier that moves them to an energy nearby. Writes anchors.csv.
"""

from __future__ import annotations

from measure import HERE, complete

from thrifty.runs.tasks import Task
from thrifty.scheduling import hidden
from thrifty.scheduling.belief import filtered
from thrifty.scheduling.scenarios import scenario


def work(task: Task) -> Task:
    """Compute both."""
    of = scenario(task["scenario"])
    blind = hidden.blind(of, of.budget)
    late = hidden.delayed(of, of.budget)
    found = filtered(of, float(of.budget[0]), environments=64, slots=1000, seed=7)
    return {
        "budget": float(of.budget[0]),
        "blind": round(blind.optimum, 4),
        "blind_multiplier": round(float(blind.multiplier[0]), 5),
        "filter": round(found.throughput, 4),
        "filter_error": round(found.error, 4),
        "filter_multiplier": round(found.multiplier, 5),
        "delayed": round(late.optimum, 4),
    }


def main() -> None:
    """Compute."""
    complete(HERE / "anchors.csv", [{"scenario": "S2"}], work, processes=1)


if __name__ == "__main__":
    main()
