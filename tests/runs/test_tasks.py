from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from thrifty.runs.tasks import MACHINES, circumstances, complete, read

TASKS = [{"kind": kind, "seed": seed} for kind in ("a", "b") for seed in range(3)]


def work(task: dict[str, Any]) -> dict[str, Any]:
    return {"square": task["seed"] ** 2}


def fails_at_b(task: dict[str, Any]) -> dict[str, Any]:
    if task["kind"] == "b":
        raise RuntimeError("stop")
    return work(task)


def never(task: dict[str, Any]) -> dict[str, Any]:
    raise AssertionError(f"{task} is there already")


def test_rows_come_in_order_and_once(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = complete(path, TASKS, work, processes=1)
    assert [row["square"] for row in rows] == ["0", "1", "4"] * 2
    assert complete(path, TASKS, never, processes=1) == rows == read(path)
    assert complete(path, [], never, processes=1) == []


def test_a_stop_keeps_what_is_done(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with pytest.raises(RuntimeError, match="stop"):
        complete(path, TASKS, fails_at_b, processes=1)
    assert [row["kind"] for row in read(path)] == ["a"] * 3
    assert len(complete(path, TASKS, work, processes=1)) == 6
    assert len(read(path)) == 6
    notes = [json.loads(line) for line in (tmp_path / MACHINES).read_text().splitlines()]
    assert [note["rows"] for note in notes] == [3, 3]


def test_machines_and_hours_are_told(tmp_path: Path) -> None:
    assert circumstances(tmp_path) == ("machine not noted", None)
    complete(tmp_path / "rows.csv", TASKS, work, processes=1)
    words, hours = circumstances(tmp_path)
    assert words.endswith("cores, one thread a run")
    assert hours is not None
    assert 0 <= hours < 0.01
    for cpu, spent in (("x", 1.0), ("y", 0.5), ("x", 2.0)):
        note = {"hardware": {"cpu": cpu, "cores": 2}, "processor_hours": spent}
        with (tmp_path / MACHINES).open("a") as file:
            file.write(json.dumps(note) + "\n")
    words, hours = circumstances(tmp_path)
    assert "x, 2 cores; y, 2 cores" in words
    assert hours == pytest.approx(3.5, abs=0.01)
