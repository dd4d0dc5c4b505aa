"""A process that dies at any instant leaves a run that goes on as if nothing had happened.

Each crash happens in a forked child that ends by `os._exit` or a signal: no `finally`, no flushing,
no clean-up. The parent then resumes, and compares with a run that was never disturbed.
"""

from __future__ import annotations

import builtins
import os
import signal
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_counter import make_run, result

import thrifty.runs
from thrifty.runs import execute, read_checkpoint
from thrifty.runs.store import CheckpointFolder

if not hasattr(os, "fork"):
    pytest.skip("crashes are injected into forked children", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("quick")

_CRASHED = 77
_STEPS = 5  # rows 0..4 in a ring of 2: segments are written, outlived and deleted


@pytest.fixture
def whole(tmp_path: Path) -> Any:
    execute(make_run(tmp_path / "whole", steps=_STEPS, capacity=2))
    return result(tmp_path / "whole")


def work(directory: Path) -> Any:
    return execute(make_run(directory, steps=_STEPS, capacity=2), checkpoint_seconds=0)


def in_child(action: Callable[[], Any]) -> int:
    """Run `action` in a forked process; return its exit status."""
    with warnings.catch_warnings():
        # Newer Pythons warn when other threads exist (torch's): the child uses none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    _, waited = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(waited)


class Crash:
    """Ends the process at the n-th event; used in a child only, so nothing is restored."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0

    def event(self) -> None:
        if self.count == self.at:
            os._exit(_CRASHED)
        self.count += 1

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.event()
            answer = function(*arguments, **options)
            self.event()
            return answer

        return wrapped

    def install(self) -> None:
        """Before and after every rename, sync, deletion and folder, and inside every write."""
        for name in ("replace", "fsync", "unlink", "mkdir"):
            setattr(os, name, self.around(getattr(os, name)))

        def open_torn(path: Any, mode: str = "r", **options: Any) -> Any:
            file = builtins.open(path, mode, **options)  # noqa: SIM115 - the caller closes it
            return TornFile(file, self) if "r" not in mode else file

        for module in ("durable", "records", "claim"):
            vars(getattr(thrifty.runs, module))["open"] = open_torn


class TornFile:
    """A file of which a crash may leave the first half of what was being written."""

    def __init__(self, file: Any, crash: Crash) -> None:
        self._file, self._crash = file, crash

    def write(self, data: Any) -> None:
        half = len(data) // 2
        self._file.write(data[:half])
        self._file.flush()
        self._crash.event()
        self._file.write(data[half:])

    def truncate(self, length: int) -> None:
        self._crash.event()
        self._file.truncate(length)
        self._crash.event()

    def __enter__(self) -> TornFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_crash_at_every_file_operation_is_survived(tmp_path: Path, whole: Any) -> None:
    froms, at = [], 0
    while True:
        directory = tmp_path / f"crash{at}"

        def crash(at: int = at, directory: Path = directory) -> None:
            Crash(at).install()
            work(directory)

        status = in_child(crash)
        if status == 0:
            break  # fewer than `at` operations: every one of them has been tried
        assert status == _CRASHED
        froms.append(work(directory).steps_executed_from)
        assert result(directory) == whole, f"crash at operation {at}"
        assert not list(directory.rglob("*.tmp"))
        at += 1
    assert at > 120  # 6 checkpoints of more than 20 operations
    # A later crash never redoes more: everything up to the last checkpoint is kept.
    assert froms == sorted(froms)
    assert set(froms) == set(range(_STEPS + 1))


def test_a_crash_while_resuming_is_survived(tmp_path: Path, whole: Any) -> None:
    at = 0
    while True:
        directory = tmp_path / f"crash{at}"
        run = make_run(directory, steps=_STEPS, capacity=2)
        execute(run, callbacks=[lambda record: False])  # at step 3
        with open(directory / "records.jsonl", "a") as file:
            file.write('{"kind": "train", "step": 6, "return": 0.0}\n{"kind": "tr')  # died here

        def crash(at: int = at, directory: Path = directory) -> None:
            Crash(at).install()
            work(directory)

        status = in_child(crash)
        assert work(directory).steps_executed_from >= 3
        assert result(directory) == whole, f"crash at operation {at}"
        at += 1
        if status == 0:
            break
    assert at > 50


def test_a_crash_at_any_line_is_survived(tmp_path: Path, whole: Any) -> None:
    """Kills at lines of our own code, spread evenly: also between file operations."""
    package = str(Path(thrifty.runs.__file__).parent)

    def trace_lines(crash: Crash) -> Callable[..., Any]:
        def local(frame: Any, event: str, argument: Any) -> Any:
            if event == "line":
                crash.event()
            return local

        def start(frame: Any, event: str, argument: Any) -> Any:
            return local if frame.f_code.co_filename.startswith(package) else None

        return start

    def crash(at: int, directory: Path) -> None:
        sys.settrace(trace_lines(Crash(at)))
        work(directory)

    crashes = 0
    for at in range(50, 10**6, 53):  # a prime stride meets every phase of a checkpoint
        directory = tmp_path / f"crash{at}"
        if in_child(lambda at=at, directory=directory: crash(at, directory)) == 0:
            break
        work(directory)
        assert result(directory) == whole, f"crash at line event {at}"
        crashes += 1
    assert crashes > 20


def test_sigkill_at_random_times_is_survived(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"steps": 200, "capacity": 50}
    execute(make_run(tmp_path / "whole", **fields))
    expected = result(tmp_path / "whole")
    rng = np.random.default_rng(1)
    kills = 0
    for number in range(3):
        directory = tmp_path / f"run{number}"

        def work_and_die(delay: float, directory: Path = directory) -> None:
            # SIGALRM's own action is to end the process at once, as SIGKILL's is.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, delay)
            execute(make_run(directory, **fields), checkpoint_seconds=0)

        while in_child(partial(work_and_die, rng.uniform(0.001, 0.15))) != 0:
            kills += 1
        assert result(directory) == expected
    assert kills > 3


def test_nothing_is_redone_but_the_time_since_the_last_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=300, delay=0.001, record_every=1)
    killed_at = 200

    def die(record: dict[str, Any]) -> None:
        if record["step"] == killed_at:
            os._exit(_CRASHED)

    assert in_child(lambda: execute(run, callbacks=[die], checkpoint_seconds=0.02)) == _CRASHED
    records = (run.directory / "records.jsonl").read_text().splitlines()
    assert len(records) == killed_at
    outcome = execute(run)
    # 20 ms are at most 20 steps of 1 ms; a busy machine makes steps longer, never shorter.
    assert killed_at - 20 <= outcome.steps_executed_from < killed_at


def test_leftovers_of_a_crash_are_removed_on_resume(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    execute(run, callbacks=[lambda record: False])
    for name in ("checkpoint-0000000009.npz.tmp", "journal/x.npy.tmp", "journal/orphan-3-9.npy"):
        (run.directory / name).write_text("half")
    execute(run)
    left = [path.name for path in run.directory.rglob("*") if "orphan" in path.name]
    assert left == []
    assert not list(run.directory.rglob("*.tmp"))


def test_a_failed_checkpoint_keeps_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is an exception, not a crash: it propagates, and the run can go on later."""
    run = make_run(tmp_path / "run", steps=12)
    replaced = os.replace

    def full(source: Any, target: Any) -> None:
        if "0000000007" in str(target):
            raise OSError(28, "No space left on device")
        replaced(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            execute(run, checkpoint_seconds=0)
    checkpoint = read_checkpoint(run.directory)
    assert checkpoint is not None
    assert checkpoint.step == 6
    assert not list(run.directory.rglob("*.tmp"))
    assert execute(run).steps_executed_from == 6


def test_the_check_finds_a_broken_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The crash test itself can fail: without the cut of the records, lines appear twice."""
    run = make_run(tmp_path / "run", steps=12, record_every=1)
    execute(run, callbacks=[lambda record: record["step"] < 6])
    execute(make_run(tmp_path / "whole", steps=12, record_every=1))
    with open(run.directory / "records.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 7, "return": 0.0}\n')
    load = CheckpointFolder.load

    def forgetful(self: CheckpointFolder) -> Any:
        checkpoint = load(self)
        length = (run.directory / "records.jsonl").stat().st_size
        object.__setattr__(checkpoint, "records_bytes", length)
        return checkpoint

    monkeypatch.setattr(CheckpointFolder, "load", forgetful)
    execute(run)
    assert result(run.directory) != result(tmp_path / "whole")
