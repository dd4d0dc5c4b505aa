from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from thrifty.runs import tasks
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


def test_a_line_that_was_cut_off_is_no_row_and_no_beginning_of_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = complete(path, TASKS, work, processes=1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])  # of "b,2,4" and its end, "b," and "2" are left
    assert read(path) == rows[:-1]
    assert complete(path, TASKS, work, processes=1) == rows
    assert path.read_bytes() == whole
    path.write_bytes(b"kind,se")
    assert read(path) == []
    assert complete(path, TASKS, work, processes=1) == rows
    assert path.read_bytes() == whole


def another_version(task: dict[str, Any]) -> dict[str, Any]:
    return {"cube": task["seed"] ** 3}


def test_rows_of_another_version_are_not_mixed_with_these(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    complete(path, TASKS[:1], work, processes=1)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="columns kind, seed, square, and a new row kind, seed, c"):
        complete(path, TASKS, another_version, processes=1)
    longer = [{"kind": "a", "width": 3, "seed": 0}]
    with pytest.raises(ValueError, match="columns kind, seed, square, and not kind, width, seed"):
        complete(path, longer, never, processes=1)
    assert path.read_bytes() == before


def test_hours_are_noted_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Three seconds a row, noted from five seconds on: a kill at the end loses the third row's note.
    monkeypatch.setattr(tasks, "_NOTED", 5.0)
    monkeypatch.setattr(tasks, "_timed", three_seconds)
    complete(tmp_path / "rows.csv", TASKS[:3], work, processes=1)
    notes = [json.loads(line) for line in (tmp_path / MACHINES).read_text().splitlines()]
    assert [note["rows"] for note in notes] == [2, 1]
    assert circumstances(tmp_path)[1] == pytest.approx(9 / 3600, abs=1e-4)


def three_seconds(work: Any, task: dict[str, Any]) -> tuple[dict[str, Any], float]:
    return work(task), 3.0


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


def waits_for_another(path: Path, task: dict[str, Any]) -> dict[str, Any]:
    """The first task ends when the second one's row is there."""
    end = time.monotonic() + 30
    while task["seed"] == 0 and not read(path) and time.monotonic() < end:
        time.sleep(0.01)
    return {"alone": not read(path)}


def test_a_row_does_not_wait_for_those_before_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    tasks = [{"kind": "a", "seed": seed} for seed in range(2)]
    rows = complete(path, tasks, partial(waits_for_another, path), processes=2)
    assert [row["alone"] for row in rows] == ["False", "True"]
    assert [row["seed"] for row in read(path)] == ["1", "0"]


def fails_at_once(path: Path, task: dict[str, Any]) -> dict[str, Any]:
    if task["seed"] == 0:
        raise RuntimeError("stop")
    time.sleep(0.5)
    return work(task)


def test_an_error_costs_no_row_at_work(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    tasks = [{"kind": "a", "seed": seed} for seed in range(9)]
    with pytest.raises(RuntimeError, match="stop"):
        complete(path, tasks, partial(fails_at_once, path), processes=2)
    rows = read(path)
    assert 1 <= len(rows) < 8  # what was at work, and what waited in its pipe; not the others


SCRIPT = """
import os, sys, time
from pathlib import Path
from thrifty.runs.tasks import complete

folder = Path(sys.argv[1])

def work(task):
    if task["seed"] == 0:
        return {"square": 0}
    (folder / f"{task['seed']}.pid").write_text(str(os.getpid()))
    time.sleep(60)
    return {"square": 1}

complete(folder / "rows.csv", [{"seed": seed} for seed in range(3)], work, processes=2)
"""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads the processes from /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)])
    places, rows = [tmp_path / f"{seed}.pid" for seed in (1, 2)], tmp_path / "rows.csv"
    end = time.monotonic() + 60
    while not (all(one.exists() and one.read_text() for one in places) and read(rows)):
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(parent.pid, number)
    assert parent.wait(30) != 0
    workers = [int(place.read_text()) for place in places]
    while not all(map(gone, workers)):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert [row["seed"] for row in read(rows)] == ["0"]
    assert (tmp_path / MACHINES).exists() == (number == signal.SIGTERM)
