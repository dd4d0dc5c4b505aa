"""Runs begin, stop, resume and finish; they refuse what they cannot work with and write nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_counter import Counter, Counting, make_run, result

from thrifty.runs import execute, read_checkpoint, read_config, read_records
from thrifty.runs.experiment import Record

pytestmark = pytest.mark.usefixtures("quick")


def test_a_run_leaves_the_files_of_the_contract(tmp_path: Path) -> None:
    outcome = execute(make_run(tmp_path / "run"))
    assert (outcome.status, outcome.step, outcome.steps_executed_from) == ("done", 50, 0)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        ".lock",
        "DONE",
        "checkpoint-0000000001.npz",
        "checkpoint-0000000050.npz",
        "config.json",
        "environment.json",
        "journal",
        "records.jsonl",
    ]
    assert read_config(tmp_path / "run") == {
        "recipe": "toy_counter:counter",
        "arguments": {},
        "seed": 0,
        "threads": 1,
        "overrides": [],
        "config": {
            "steps": 50,
            "capacity": 20,
            "record_every": 3,
            "delay": 0.0,
            "fail_at": None,
        },
    }
    records = read_records(tmp_path / "run")
    assert [record["step"] for record in records] == list(range(3, 51, 3))
    seconds = [record["wall_seconds"] for record in records]
    assert seconds == sorted(seconds)
    assert 0 <= seconds[0] <= seconds[-1] <= outcome.wall_seconds
    assert abs(records[-1]["wall_time"] - time.time()) < 60


def test_a_finished_run_returns_at_once(tmp_path: Path) -> None:
    first = execute(make_run(tmp_path / "run"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    again = execute(make_run(tmp_path / "run"), callbacks=[pytest.fail])
    assert again == replace(first, steps_executed_from=50)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


@pytest.mark.parametrize("every", [1, 2, 5])
def test_stop_at_every_record_and_resume_equals_one_go(tmp_path: Path, every: int) -> None:
    execute(make_run(tmp_path / "whole", record_every=every))
    run = make_run(tmp_path / "parts", record_every=every)
    froms = []
    while (outcome := execute(run, callbacks=[lambda record: False])).status == "stopped":
        froms.append(outcome.steps_executed_from)
        assert outcome.step == outcome.steps_executed_from + every
    # One record per process: each begins exactly where the one before stopped.
    assert froms == list(range(0, 50, every))
    assert outcome.steps_executed_from == 50
    assert result(tmp_path / "parts") == result(tmp_path / "whole")


def test_a_checkpoint_at_every_yield_keeps_the_last_two(tmp_path: Path) -> None:
    execute(make_run(tmp_path / "whole"))
    execute(make_run(tmp_path / "often"), checkpoint_seconds=0)
    names = [path.name for path in sorted((tmp_path / "often").glob("checkpoint-*"))]
    # Step 50 was saved twice, by the clock and at the end, under one name.
    assert names == ["checkpoint-0000000049.npz", "checkpoint-0000000050.npz"]
    assert result(tmp_path / "often") == result(tmp_path / "whole")
    # Rows 29..49 are needed by one of the two (capacity 20), one segment each.
    assert len(list((tmp_path / "often" / "journal").iterdir())) == 21


def test_callbacks_get_every_stamped_record(tmp_path: Path) -> None:
    seen: list[Record] = []
    execute(make_run(tmp_path / "run"), callbacks=[seen.append, lambda record: None])
    assert seen == read_records(tmp_path / "run")


def test_training_time_adds_up_over_sessions(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", delay=0.001)
    first = execute(run, callbacks=[lambda record: record["step"] < 20])
    second = execute(run)
    sessions = json.loads((tmp_path / "run" / "environment.json").read_text())["sessions"]
    assert first.wall_seconds >= 0.02
    assert second.wall_seconds >= first.wall_seconds + 0.029  # 29 more steps of 1 ms
    records = read_records(tmp_path / "run")
    assert records[7]["wall_seconds"] >= first.wall_seconds - 0.1
    processor = [record["wall_cpu_seconds"] for record in records]
    # Sleeping costs none of it, and a second session goes on where the first one stopped.
    assert processor[0] > 0.0
    assert processor == sorted(processor)
    assert processor[-1] < second.wall_seconds
    assert [(s["first_step"], s["last_step"], s["status"]) for s in sessions] == [
        (0, 21, "stopped"),
        (21, 50, "done"),
    ]
    assert sessions[0]["start"] < sessions[0]["end"] <= sessions[1]["start"] < sessions[1]["end"]


def test_an_exception_keeps_records_and_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", fail_at=20)
    with pytest.raises(RuntimeError, match="the toy broke"):
        execute(run, checkpoint_seconds=0)
    assert [record["step"] for record in read_records(run.directory)] == [3, 6, 9, 12, 15, 18]
    checkpoint = read_checkpoint(run.directory)
    assert checkpoint is not None
    assert checkpoint.step == 19
    sessions = json.loads((run.directory / "environment.json").read_text())["sessions"]
    assert sessions[-1]["status"] == "failed"
    with pytest.raises(RuntimeError, match="the toy broke"):
        execute(run)


def test_an_early_failure_leaves_the_checkpoint_of_the_first_yield(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", fail_at=20)
    for attempt in range(2):  # with a minute between checkpoints, 20 steps reach no other
        with pytest.raises(RuntimeError, match="the toy broke"):
            execute(run)
        checkpoint = read_checkpoint(run.directory)
        assert checkpoint is not None, attempt
        assert checkpoint.step == 1


def test_an_exception_of_a_callback_propagates_with_its_record_written(tmp_path: Path) -> None:
    def broken(record: Record) -> None:
        raise KeyError(record["step"])

    with pytest.raises(KeyError):
        execute(make_run(tmp_path / "run"), callbacks=[broken])
    assert [record["step"] for record in read_records(tmp_path / "run")] == [3]


@dataclass(frozen=True, kw_only=True)
class Signalling(Counter):
    """Sends this process signals in the middle of step 10, before its yield."""

    count: int = 1
    number: int = int(signal.SIGINT)

    def build(self, seed: int) -> Counting:
        return SignallingCounting(self, seed)


class SignallingCounting(Counting):
    config: Signalling

    def records(self) -> Iterator[Record | None]:
        for record in super().records():
            if self.step == 10:
                for _ in range(self.config.count):
                    os.kill(os.getpid(), self.config.number)
            yield record


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_the_yield_with_a_checkpoint(tmp_path: Path, number: int) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    execute(make_run(tmp_path / "whole"))
    run = replace(make_run(tmp_path / "run"), config=Signalling(number=int(number)))
    outcome = execute(run)
    assert (outcome.status, outcome.step) == ("interrupted", 10)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert execute(run).steps_executed_from == 10
    assert result(run.directory) == result(tmp_path / "whole")


def test_a_second_ctrl_c_raises(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    run = replace(make_run(tmp_path / "run"), config=Signalling(count=2))
    with pytest.raises(KeyboardInterrupt):
        execute(run)
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(read_records(run.directory)) == 3


def test_a_run_works_outside_the_main_thread(tmp_path: Path) -> None:
    thread = threading.Thread(target=execute, args=[make_run(tmp_path / "run")])
    thread.start()
    thread.join()
    assert (tmp_path / "run" / "DONE").exists()


class Idle:
    """Yields nothing but safe points."""

    def __init__(self, count: int) -> None:
        self.count = count

    def records(self) -> Iterator[None]:
        for _ in range(self.count):
            yield None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class IdleConfig:
    steps: int

    def build(self, seed: int) -> Idle:
        return Idle(self.steps)


def test_watching_the_clock_costs_under_a_microsecond_per_yield(tmp_path: Path) -> None:
    def seconds(count: int, name: str) -> float:
        run = replace(make_run(tmp_path / name), config=IdleConfig(steps=count))
        began = time.thread_time()  # so that other work on the machine does not count
        execute(run)
        return time.thread_time() - began

    # The difference of a long and a short run is what its yields cost, the generator's included.
    times = [(seconds(300_000, f"long{i}") - seconds(0, f"short{i}")) / 300_000 for i in range(3)]
    assert min(times) < 1e-6


def test_a_killed_subprocess_is_resumed_bit_equal(tmp_path: Path) -> None:
    """SIGKILL from outside at random times, as the kernel would do when memory runs out."""
    rng = np.random.default_rng(0)
    steps, delay, checkpoint_seconds = 1500, 0.001, 0.03
    execute(make_run(tmp_path / "whole", steps=steps, delay=0.0))
    directory = tmp_path / "run"
    toy = Path(__file__).with_name("toy_counter.py")
    command = [sys.executable, str(toy), str(directory)]
    command += [str(steps), str(delay), str(checkpoint_seconds)]
    kills, outcome = 0, ""
    while not outcome:
        began = _sessions_so_far(directory)
        checkpoint = read_checkpoint(directory) if began else None
        saved = checkpoint.step if checkpoint else 0
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if kills < 4:
            _wait_for_session(directory, process, began)
            time.sleep(rng.uniform(0.05, 0.2))
            process.send_signal(signal.SIGKILL)
            kills += 1
        first, _, outcome = process.communicate()[0].partition("\n")
        # What the experiment itself did first: the step after the newest checkpoint.
        assert first == f"executes step {saved + 1}"
        assert saved > 0 or began == 0
    sessions = json.loads((directory / "environment.json").read_text())["sessions"]
    assert len(sessions) >= 4
    # Every resumed process went on from a checkpoint, and the last one from the newest.
    assert all(session["first_step"] > 0 for session in sessions[1:])
    assert f"steps_executed_from={sessions[-1]['first_step']}" in outcome
    # The delay is the clock's business; nothing else may differ.
    assert result(directory) == result(tmp_path / "whole")


def _sessions_so_far(directory: Path) -> int:
    path = directory / "environment.json"
    return len(json.loads(path.read_text())["sessions"]) if path.exists() else 0


def _wait_for_session(directory: Path, process: subprocess.Popen[str], earlier: int) -> None:
    """Until the process has begun, and has saved a first checkpoint of its own."""
    path = directory / "environment.json"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        sessions = json.loads(path.read_text())["sessions"] if path.exists() else []
        if len(sessions) > earlier and sessions[-1]["last_step"] > sessions[-1]["first_step"]:
            return
        time.sleep(0.005)
