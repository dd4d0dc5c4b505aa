"""The page's answers drive the learner on the lava grid, each in their own time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from label_client import LAVA_RUN, Client, lines

from thrifty.episodic.label_folder import LabelFolder
from thrifty.episodic.lava_grid import LavaGrid
from thrifty.recipes import icvar

Serve = Callable[..., Client]


def outcome(clip: dict[str, Any]) -> int:
    """What a person who wants to be at the goal, and out of the lava, sees in a clip."""
    grid = LavaGrid()
    return sum(grid.is_goal(s) - grid.is_lava(s) for s in clip["states"])


def test_a_learner_asks_waits_and_goes_on_with_the_answers(tmp_path: Path, serve: Serve) -> None:
    """The learner is stopped at its queue, not by the page; every answer is taken in, in order."""
    (tmp_path / "config.json").write_text(json.dumps(LAVA_RUN), encoding="utf-8")
    client = serve(tmp_path)
    experiment = icvar.hf_lava(steps=30, annotator="person").build(seed=3)
    experiment.place(tmp_path)
    failures: list[BaseException] = []

    def learn() -> None:
        try:
            for _ in experiment.records():
                pass
        except BaseException as problem:
            failures.append(problem)

    learner = threading.Thread(target=learn, daemon=True)
    learner.start()
    deadline, most = time.monotonic() + 60, 0
    while learner.is_alive() and time.monotonic() < deadline:
        state = client.state()
        most = max(most, state["asked"] - state["answered"])
        query = state["query"]
        if query is None:
            time.sleep(0.02)
            continue
        gap = outcome(query["left"]) - outcome(query["right"])
        choice = "equal" if gap == 0 else "left" if gap > 0 else "right"
        assert client.answer(query["number"], choice)[0] == 200
    learner.join(1)
    assert not failures
    assert not learner.is_alive()
    asked = LabelFolder(tmp_path).queries()
    assert len(asked) >= 2
    assert 1 <= most <= 4  # the queue holds 3, and one more may be a repetition
    stored = [line["query"] for line in lines(tmp_path)]
    assert stored == list(range(len(stored)))
    assert len(asked) - len(stored) <= 4  # the last ones need no answer
    assert experiment.step == 30
