"""Crashes by the hundred: the loops of test_crash.py, as a script.

`crashing.py CASE FOLDER` kills runs of the toy in forked children, by `os._exit` or a signal: no
`finally`, no flushing, no clean-up. It resumes each in the parent, asserts that the result equals
a run never disturbed, and prints a summary as JSON. A process of its own, because forking one that
has imported torch takes ten times as long.
"""

from __future__ import annotations

import builtins
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from toy_counter import make_run, result

import thrifty.runs
from thrifty.runs import Outcome, environment, execute

CRASHED = 77
STEPS = 5  # rows 0..4 in a ring of 2: segments are written, outlived and deleted


def work(directory: Path) -> Outcome:
    return execute(make_run(directory, steps=STEPS, capacity=2), checkpoint_seconds=0)


def in_child(action: Callable[[], Any]) -> int:
    """Run `action` in a forked process; return its exit status."""
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
            os._exit(CRASHED)
        self.count += 1

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.event()
            answer = function(*arguments, **options)
            self.event()
            return answer

        return wrapped

    def at_file_operations(self) -> None:
        """Before and after every rename, sync, deletion and folder, and inside every write."""
        for name in ("replace", "fsync", "unlink", "mkdir"):
            setattr(os, name, self.around(getattr(os, name)))

        def open_torn(path: Any, mode: str = "r", **options: Any) -> Any:
            file = builtins.open(path, mode, **options)  # noqa: SIM115 - the caller closes it
            return TornFile(file, self) if "r" not in mode else file

        for module in ("durable", "records", "claim"):
            vars(getattr(thrifty.runs, module))["open"] = open_torn

    def at_lines(self) -> None:
        """At every line of the package under test."""
        package = str(Path(thrifty.runs.__file__).parent)

        def local(frame: Any, event: str, argument: Any) -> Any:
            if event == "line":
                self.event()
            return local

        def start(frame: Any, event: str, argument: Any) -> Any:
            return local if frame.f_code.co_filename.startswith(package) else None

        sys.settrace(start)


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


def crash_and_resume(
    folder: Path,
    install: Callable[[Crash], None],
    *,
    begin: Callable[[Path], None] = lambda directory: None,
    stride: int = 1,
) -> list[int]:
    """Crash at event 0, stride, ... until a run comes through; return where each resume began."""
    work(folder / "whole")
    whole = result(folder / "whole")
    froms: list[int] = []
    while True:
        at = len(froms) * stride
        directory = folder / f"crash{at}"
        begin(directory)

        def crash(at: int = at, directory: Path = directory) -> None:
            install(Crash(at))
            work(directory)

        status = in_child(crash)
        if status == 0:
            return froms
        assert status == CRASHED, status
        froms.append(work(directory).steps_executed_from)
        assert result(directory) == whole, f"crash at event {at}"
        assert not list(directory.rglob("*.tmp")), f"crash at event {at}"


def file_operations(folder: Path) -> list[int]:
    return crash_and_resume(folder, Crash.at_file_operations)


def while_resuming(folder: Path) -> list[int]:
    def begin(directory: Path) -> None:
        run = make_run(directory, steps=STEPS, capacity=2)
        execute(run, callbacks=[lambda record: False])  # stopped at step 3
        with open(directory / "records.jsonl", "a") as file:
            file.write('{"kind": "train", "step": 6, "return": 0.0}\n{"kind": "tr')  # died here

    return crash_and_resume(folder, Crash.at_file_operations, begin=begin)


def lines(folder: Path) -> list[int]:
    # A prime stride meets every phase of a checkpoint.
    return crash_and_resume(folder, Crash.at_lines, stride=47)


def random_times(folder: Path) -> int:
    """Return how many kills three runs have survived."""
    fields: dict[str, Any] = {"steps": 200, "capacity": 50}
    execute(make_run(folder / "whole", **fields))
    whole = result(folder / "whole")
    rng = np.random.default_rng(1)
    kills = 0

    def work_and_die(directory: Path, delay: float) -> None:
        # SIGALRM's own action is to end the process at once, as SIGKILL's is.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, delay)
        execute(make_run(directory, **fields), checkpoint_seconds=0)

    for number in range(3):
        directory = folder / f"run{number}"
        while in_child(partial(work_and_die, directory, rng.uniform(0.001, 0.1))) != 0:
            kills += 1
        assert result(directory) == whole
    return kills


if __name__ == "__main__":
    # No look at versions, and no forcing to the disk: who is killed loses nothing written.
    environment.describe_environment = dict
    os.fsync = lambda descriptor: None
    print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]))))
