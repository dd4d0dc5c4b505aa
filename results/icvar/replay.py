"""Sessions with a person on the lava grid, each replayed from its two files.

    python results/icvar/replay.py [--processes 2] [--toy]

The learner of ``thrifty train icvar.hf_lava --annotator person``. The person is a script with a
thread and a pace of its own, who answers through what the page uses, prefers what ends at the goal,
skips one question in ten and takes one answer in ten back. It goes on when the run has ended, so
the file may have labels that the run never saw. The replay is given copies of the files, and must
make the same records and the same policy. Ten sessions. Writes replay.csv.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from measure import arguments, complete

from thrifty.episodic.label_folder import LABELS, QUERIES
from thrifty.episodic.lava_grid import LavaGrid
from thrifty.episodic.risk_experiment import RiskExperiment
from thrifty.labelling import Session
from thrifty.recipes import icvar

LONGEST = 120.0  # seconds that a person may need


class Person:
    """Answers what is asked until there is nothing left and the run is over."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._rng, self._grid = folder, np.random.default_rng([seed, 9]), LavaGrid()
        self.over = threading.Event()
        self.undone = 0
        self.problem: Exception | None = None

    def __call__(self) -> None:
        """Work; keeps what goes wrong in ``problem``."""
        try:
            while self._answer_one() or not self.over.is_set():
                self.over.wait(float(self._rng.uniform(0.001, 0.02)))
        except Exception as problem:
            self.problem = problem

    def _answer_one(self) -> bool:
        if not (self._folder / QUERIES).exists():
            return False
        session = Session(self._folder, "script")
        query = session.view()["query"]
        if query is None:
            return False
        gap = self._worth(query["left"]) - self._worth(query["right"])
        choice = "equal" if gap == 0 else "left" if gap > 0 else "right"
        if self._rng.random() < 0.1:
            choice = "skip"
        session.answer(query["number"], choice)
        if self._rng.random() < 0.1:
            session.undo(query["number"])
            self.undone += 1
        return True

    def _worth(self, clip: dict[str, Any]) -> int:
        return sum(self._grid.is_goal(s) - self._grid.is_lava(s) for s in clip["states"])


def records(experiment: RiskExperiment) -> list[dict[str, Any]]:
    """Return what a run tells."""
    return [record for record in experiment.records() if record is not None]


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Run one session, and replay it."""
    config, seed = icvar.hf_lava(steps=task["K"], annotator="person"), task["seed"]
    with tempfile.TemporaryDirectory() as name:
        folder, copy = Path(name) / "session", Path(name) / "copy"
        folder.mkdir()
        copy.mkdir()
        person = Person(folder, seed)
        thread = threading.Thread(target=person)
        thread.start()
        try:
            experiment = config.build(seed)
            experiment.place(folder)
            told = records(experiment)
        finally:
            person.over.set()
            thread.join(LONGEST)
        if person.problem is not None:
            raise person.problem
        for file in (QUERIES, LABELS):
            shutil.copy(folder / file, copy)
        again = config.build(seed)
        again.place(copy, replay=True)
        repeated = records(again)
        lines = len((folder / LABELS).read_bytes().splitlines())
    return {
        "queries": told[-1]["queries"],
        "lines": lines,
        "undone": person.undone,
        "labels": told[-1]["labels"],
        "same_records": int(repeated == told),
        "same_policy": int(repeated[-1]["policy"] == told[-1]["policy"]),
        "value": told[-1]["value"],
        "optimum": told[0]["V_star"],
    }


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    K, seeds = (40, 2) if options.toy else (200, 10)
    tasks = [{"K": K, "seed": seed} for seed in range(seeds)]
    complete(options.out / "replay.csv", tasks, work, processes=options.processes)


if __name__ == "__main__":
    main()
