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

import thrifty.runs.claim as claim_module
from thrifty.runs import execute, read_checkpoint, read_config, read_records, read_run
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


@pytest.mark.parametrize(
    ("other", "word"),
    [({"seed": 1}, "seed"), ({"capacity": 21}, "config"), ({"steps": 51}, "config")],
)
def test_another_run_is_refused(tmp_path: Path, other: dict[str, int], word: str) -> None:
    execute(make_run(tmp_path / "run"))
    with pytest.raises(ValueError, match=rf"holds another run \(different {word}\): choose"):
        execute(make_run(tmp_path / "run", **other))


def test_other_files_are_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds other files: choose an empty or new folder"):
        execute(make_run(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ValueError, match="is a file: choose another folder"):
        execute(make_run(tmp_path / "thesis.tex"))


def test_an_empty_folder_and_a_deep_new_one_are_taken(tmp_path: Path) -> None:
    assert execute(make_run(tmp_path)).status == "done"
    assert execute(make_run(tmp_path / "a" / "b")).status == "done"


def test_a_bad_configuration_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="capacity 0 is not positive"):
        execute(make_run(tmp_path / "run", capacity=0))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be written \(.*\): choose another folder"):
        execute(make_run(tmp_path / "file" / "run"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ValueError, match=r"cannot be written \(Permission denied\)"):
            execute(make_run(tmp_path / "run"))
    finally:
        tmp_path.chmod(0o700)


def test_a_read_only_folder_is_refused_whoever_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ValueError, match=r"cannot be written \(Permission denied\): choose"):
        execute(make_run(tmp_path / "run"))


def test_two_processes_never_work_on_one_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")

    def second(record: Record) -> bool:
        with pytest.raises(ValueError, match="another process is working on"):
            execute(run)
        return False

    assert execute(run, callbacks=[second]).status == "stopped"  # flock knows open files, not pids
    assert execute(run).status == "done"


def test_without_flock_runs_still_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_module, "fcntl", None)
    assert execute(make_run(tmp_path / "run")).status == "done"


def test_a_folder_without_locks_still_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*arguments: Any) -> None:
        raise OSError(37, "No locks available")

    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert execute(make_run(tmp_path / "run")).status == "done"


def test_a_damaged_checkpoint_names_the_older_one_and_the_way_back(tmp_path: Path) -> None:
    execute(make_run(tmp_path / "whole"))
    run = make_run(tmp_path / "run")
    for limit in (20, 30):
        execute(run, callbacks=[lambda record, limit=limit: record["step"] < limit])
    older, newest = sorted(run.directory.glob("checkpoint-*"))
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.raises(
        ValueError,
        match=f"{newest.name} is damaged.*{older.name} is whole: delete {newest.name}, then resume",
    ):
        execute(run)
    newest.unlink()
    assert execute(run).steps_executed_from == 21
    assert result(run.directory) == result(tmp_path / "whole")


def test_a_copy_of_a_checkpoint_is_neither_resumed_from_nor_deleted(tmp_path: Path) -> None:
    execute(make_run(tmp_path / "whole"))
    run = make_run(tmp_path / "run")
    execute(run, callbacks=[lambda record: record["step"] < 20])
    newest = max(run.directory.glob("checkpoint-*"))
    copy = newest.with_name(f"{newest.stem}-copy.npz")
    copy.write_bytes(newest.read_bytes())
    execute(run, callbacks=[lambda record: record["step"] < 30])
    assert execute(run).steps_executed_from == 30
    assert copy.exists()
    copy.unlink()
    assert result(run.directory) == result(tmp_path / "whole")


def test_a_damaged_segment_leads_to_the_older_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for limit in (20, 30):
        execute(run, callbacks=[lambda record, limit=limit: record["step"] < limit])
    first, second = sorted((run.directory / "journal").iterdir())
    content = bytearray(second.read_bytes())
    content[-1] ^= 1
    second.write_bytes(content)
    with pytest.raises(ValueError, match=f"{second.name} is damaged.*delete checkpoint-0000000030"):
        execute(run)
    first.unlink()  # the older checkpoint needs this one
    with pytest.raises(ValueError, match="No older checkpoint is whole: start again"):
        execute(run)


def test_lost_records_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    execute(run, callbacks=[lambda record: False])
    (run.directory / "records.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"records.jsonl is shorter than at the last checkpoint"):
        execute(run)


@pytest.mark.parametrize("name", ["config.json", "environment.json"])
def test_damaged_json_is_named(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "run")
    execute(run, callbacks=[lambda record: False])
    (run.directory / name).write_text("{")
    with pytest.raises(ValueError, match=f"{name} is damaged: "):
        execute(run)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("recipe", None, "recipe is None and not a name"),
        ("arguments", [1], r"arguments is \[1\] and not an object"),
        ("seed", "0", "seed is '0' and not an integer"),
        ("threads", True, "threads is True and not an integer"),
        ("overrides", 1, "overrides is 1 and not a list"),
        ("config", [], r"config is \[\] and not an object"),
    ],
)
def test_a_value_of_another_kind_is_named(tmp_path: Path, name: str, value: Any, told: str) -> None:
    run = make_run(tmp_path / "run")
    execute(run)
    document = read_config(run.directory) | {name: value}
    (run.directory / "config.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=rf"run/config.json: {told}: restore it from a copy"):
        read_config(run.directory)


def test_a_run_that_lacks_something_to_go_on_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    execute(run)
    document = read_config(run.directory)
    del document["seed"], document["recipe"]
    (run.directory / "config.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"run/config.json has no recipe, seed: restore it"):
        read_run(run.directory, "thrifty")


def test_a_state_that_another_version_wrote_is_refused_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run")
    execute(run, callbacks=[lambda record: False])
    monkeypatch.setattr(Counting, "load_state_dict", lambda self, state: state["renamed"])
    with pytest.raises(ValueError, match="has no 'renamed', so another version of thrifty"):
        execute(run)
    monkeypatch.undo()
    assert execute(run).status == "done"


def test_read_run_goes_on_where_the_folder_says(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", capacity=7, seed=3)
    execute(run, callbacks=[lambda record: False])
    assert read_run(run.directory, "thrifty") == run
    with pytest.raises(ValueError, match="holds no run"):
        read_run(tmp_path, "thrifty")


def test_the_flags_of_a_run_are_kept_and_change_nothing(tmp_path: Path) -> None:
    run = replace(make_run(tmp_path / "run"), overrides=("--delay", "0"))
    execute(run, callbacks=[lambda record: False])
    assert read_run(run.directory, "thrifty") == run
    # The same configuration told in other words is the same run.
    assert execute(replace(run, overrides=("--delay=0.0",))).status == "done"
    document = read_config(run.directory)
    assert document.pop("overrides") == ["--delay", "0"]
    (run.directory / "config.json").write_text(json.dumps(document))  # as older versions wrote it
    assert read_run(run.directory, "thrifty") == replace(run, overrides=())


@dataclass(frozen=True, kw_only=True)
class Open(Counter):
    """Keeps half its steps, if not told otherwise."""

    kept: int | None = None

    def resolved(self) -> Open:
        return self if self.kept else replace(self, kept=self.steps // 2)


def test_what_the_length_decides_is_written_as_a_number(tmp_path: Path) -> None:
    run = replace(make_run(tmp_path / "run"), config=Open(steps=10))
    assert execute(run, callbacks=[lambda record: False]).step == 3
    assert read_config(run.directory)["config"]["kept"] == 5
    # The open and the filled configuration are one run.
    assert execute(replace(run, config=Open(steps=10, kept=5))).steps_executed_from == 3
    with pytest.raises(ValueError, match="holds another run"):
        execute(replace(run, config=Open(steps=10, kept=4)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seed": -1}, "seed -1 is negative: give an integer >= 0"),
        ({"threads": 0}, "threads 0 are too few: give 1 or more"),
    ],
)
def test_seed_and_threads_are_checked(tmp_path: Path, wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(make_run(tmp_path), **wrong)


def test_read_run_names_a_changed_recipe(tmp_path: Path) -> None:
    run = replace(make_run(tmp_path / "run"), arguments={"length": 3})
    execute(run)
    with pytest.raises(ValueError, match="another version of toy_counter:counter"):
        read_run(run.directory, "thrifty")


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
