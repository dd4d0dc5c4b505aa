"""Many runs: which are done, which are next, and what to do when one dies.

The folders are the only memory. A run with DONE is skipped, one with a checkpoint goes on from it,
one that another process holds (`thrifty.runs.claim`) is left to that process and looked at again
later. So the same sweep may be started again at any time, also twice at once or on two machines
that share the folder, and whoever is killed loses at most the time since the last checkpoint.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from thrifty.runs import durable
from thrifty.runs.claim import is_busy
from thrifty.runs.interruption import Interruption
from thrifty.runs.store import CONFIG, read_done
from thrifty.runs.worker import Ending, Job

Standing = Literal["waiting", "at work", "stopping", "elsewhere", "done", "failed"]

FAILURE = "failure.txt"  # in a run's folder: the traceback of the last error
_POLL_SECONDS = 0.1
_LOOK_SECONDS = 2.0  # between two looks at a run that is elsewhere


class Launcher(Protocol):
    """Where jobs are worked on."""

    def start(self, job: Job) -> None:
        """Begin to work on a job, or queue it."""
        ...

    def ended(self) -> list[tuple[Job, Ending]]:
        """Return the jobs that have ended since the last call, without waiting."""
        ...

    def stop(self) -> None:
        """Ask all jobs to stop with a checkpoint."""
        ...

    def close(self) -> None:
        """End whatever is still at work, at once."""
        ...


@dataclass
class Place:
    """A job and how it stands."""

    job: Job
    standing: Standing = "waiting"
    deaths: int = 0
    message: str = ""
    """Of the last failure or death."""
    look_at: float = field(default=0.0, repr=False)


@dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """How `run_sweep` ended.

    Attributes:
        interrupted: whether a signal ended it.
        counts: how many runs have each standing.
        failures: name and message of those that failed.
    """

    interrupted: bool
    counts: Counter[Standing]
    failures: tuple[tuple[str, str], ...]


def run_sweep(
    jobs: Sequence[Job],
    launcher: Launcher,
    *,
    workers: int,
    retries: int = 2,
    show: Callable[[Sequence[Place]], None] = lambda places: None,
) -> SweepOutcome:
    """Work on all jobs, in their order, until every one is done or has failed.

    Ctrl-C and SIGTERM stop all workers with a checkpoint; a second Ctrl-C ends them at once and
    raises KeyboardInterrupt.

    Args:
        jobs: in the order in which they shall begin; their folders differ.
        launcher: where they are worked on; closed at the end.
        workers: jobs that are at work at the same time, at least 1.
        retries: how often a run that died is started again. One that was refused with a message
            (a diverged run, a full disk) is not: it would be refused again.
        show: called several times a second with how all jobs stand.
    """
    sweep = _Sweep(jobs, launcher, workers, retries)
    try:
        with Interruption() as interruption:
            while not interruption.requested and not sweep.over():
                sweep.advance()
                show(sweep.places)
                if not sweep.over():
                    time.sleep(_POLL_SECONDS)
            if not sweep.over():
                sweep.stop()
                while sweep.at_work():
                    sweep.collect()
                    show(sweep.places)
                    time.sleep(_POLL_SECONDS)
            interrupted = not sweep.over()
    finally:
        launcher.close()
    return SweepOutcome(
        interrupted=interrupted,
        counts=Counter(place.standing for place in sweep.places),
        failures=tuple(
            (place.job.name, place.message) for place in sweep.places if place.standing == "failed"
        ),
    )


def standing_of(job: Job) -> str:
    """Return how a job stands by its folder alone: new, stopped, at work or done.

    Raises:
        ValueError: its DONE is damaged.
    """
    folder = Path(job.directory)
    if read_done(folder) is not None:
        return "done"
    if is_busy(folder):
        return "at work"
    return "stopped" if (folder / CONFIG).exists() else "new"


class _Sweep:
    def __init__(self, jobs: Sequence[Job], launcher: Launcher, workers: int, retries: int) -> None:
        self.places = [Place(job) for job in jobs]
        self._by_folder = {place.job.directory: place for place in self.places}
        assert len(self._by_folder) == len(self.places), "two jobs share a folder"
        self._queue = deque(self.places)
        self._launcher, self._workers, self._retries = launcher, workers, retries
        self.stopping = False

    def over(self) -> bool:
        return all(place.standing in ("done", "failed") for place in self.places)

    def at_work(self) -> int:
        return sum(place.standing in ("at work", "stopping") for place in self.places)

    def stop(self) -> None:
        """Ask all that are at work to stop."""
        self.stopping = True
        for place in self.places:
            if place.standing == "at work":
                place.standing = "stopping"
        self._launcher.stop()

    def advance(self) -> None:
        """Take note of what has ended, and fill the free workers."""
        self.collect()
        free = self._workers - self.at_work()
        for _ in range(len(self._queue)):
            if free <= 0:
                return
            place = self._queue.popleft()
            if place.look_at > time.monotonic():
                self._queue.append(place)
            elif self._finished(place):
                place.standing = "done"
            elif is_busy(Path(place.job.directory)):
                self._later(place)
            else:
                place.standing = "at work"
                self._launcher.start(place.job)
                free -= 1

    def collect(self) -> None:
        """Take note of what has ended."""
        for job, ending in self._launcher.ended():
            place = self._by_folder[job.directory]
            place.message = ending.message
            if ending.trace:
                _write_failure(job, ending)
            if ending.kind == "done":
                place.standing = "done"
                (Path(job.directory) / FAILURE).unlink(missing_ok=True)  # of an earlier attempt
            elif ending.kind == "busy":
                self._later(place)
            elif ending.kind in ("stopped", "died") and self.stopping:
                place.standing = "waiting"  # a cancelled job of a cluster may look like a dead one
            elif ending.kind in ("stopped", "died") and place.deaths < self._retries:
                place.deaths += 1
                place.standing = "waiting"
                self._queue.appendleft(place)
            else:
                place.standing = "failed"

    def _later(self, place: Place) -> None:
        place.standing = "elsewhere"
        place.look_at = time.monotonic() + _LOOK_SECONDS
        self._queue.append(place)

    def _finished(self, place: Place) -> bool:
        try:
            return read_done(Path(place.job.directory)) is not None
        except ValueError:  # damaged: its worker will say so
            return False


def _write_failure(job: Job, ending: Ending) -> None:
    folder = Path(job.directory)
    if (folder / CONFIG).exists():  # else it holds no run, and must stay free for one
        with contextlib.suppress(OSError):  # the disk is full: the message is told anyway
            durable.write_bytes(folder / FAILURE, ending.trace.encode())
