"""Workers of a sweep as processes of this machine, one a run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from typing import IO, Any

from thrifty.runs.worker import Ending, Job, environment

_LAST = 2000  # characters of what a dead worker said that are kept


class LocalPool:
    """Starts a process per job; each ends with this process, however this process ends."""

    def __init__(self) -> None:
        self._workers: list[_Worker] = []

    def start(self, job: Job) -> None:
        """Begin to work on a job."""
        self._workers.append(_Worker(job))

    def ended(self) -> list[tuple[Job, Ending]]:
        """Return the jobs whose process has ended since the last call."""
        gone = [worker for worker in self._workers if worker.process.poll() is not None]
        self._workers = [worker for worker in self._workers if worker not in gone]
        return [(worker.job, worker.ending()) for worker in gone]

    def stop(self) -> None:
        """Ask all to stop with a checkpoint."""
        for worker in self._workers:
            worker.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """End all at once; what they did since their last checkpoint is lost."""
        for worker in self._workers:
            worker.process.kill()
            worker.process.wait()
            worker.ending()
        self._workers = []


class _Worker:
    def __init__(self, job: Job) -> None:
        self.job = job
        # Files, not pipes: a worker never waits for somebody to read. `ending` closes them.
        self._answer: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._said: IO[str] = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.process: subprocess.Popen[Any] = subprocess.Popen(
            [sys.executable, "-m", "thrifty.runs.worker"],
            stdin=subprocess.PIPE,
            stdout=self._answer,
            stderr=self._said,
            env={**os.environ, **environment()},
            start_new_session=True,  # the terminal's Ctrl-C is for the sweep alone
        )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once, and `ending` will say so
            self.process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
            self.process.stdin.flush()  # and kept open: its end tells the worker to stop

    def ending(self) -> Ending:
        """Read how it ended, and close the files."""
        with self._answer, self._said:
            self._answer.seek(0)
            answer = self._answer.read()
            self._said.seek(0)
            said = self._said.read()[-_LAST:]
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        status = self.process.returncode
        if status == 0 and answer:  # else something in it called exit
            return Ending(**json.loads(answer))
        if status == -signal.SIGTERM:
            return Ending(kind="stopped")
        if status < 0:
            return Ending(kind="died", message=f"killed by {signal.Signals(-status).name}")
        last = " ".join((said.strip().splitlines() or [f"exit status {status}"])[-1].split())
        return Ending(kind="died", message=last, trace=said)
