"""One run of a sweep in a process of its own: what every launcher starts.

As a script, `python -m thrifty.runs.worker` reads one job as a line of JSON from its standard input
and works on it. When that input ends, because whoever holds its other end died, it stops with a
checkpoint.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from thrifty.runs.claim import Busy
from thrifty.runs.run import execute, run_of

EndingKind = Literal["done", "stopped", "busy", "failed", "died"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a sweep, as any process on any machine can begin it or go on with it.

    Attributes:
        directory: the run's folder, absolute; on a file system that all workers share.
        document: what its config.json holds (`Run.document`).
        namespace: where recipes live, see `thrifty.runs.naming.resolve`.
    """

    directory: str
    document: dict[str, Any]
    namespace: str

    @property
    def name(self) -> str:
        """The folder's name."""
        return Path(self.directory).name

    @property
    def steps(self) -> int:
        """Length of the whole run in steps."""
        return int(self.document["config"]["steps"])


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How the work on a job ended.

    Attributes:
        kind: "done"; "stopped" by a signal, after a checkpoint; "busy": another process works on
            it; "failed": the run cannot go on, and the message says why; "died": anything else.
        message: one line; empty where there is nothing to say.
        trace: the traceback of an error that nobody expected.
    """

    kind: EndingKind
    message: str = ""
    trace: str = ""


def work(job: Job) -> Ending:
    """Begin, resume or find finished the run of a job, in this process.

    Args:
        job: what to do.
    """
    try:
        run = run_of(job.document, job.directory, job.namespace)
        outcome = execute(run)
    except Busy as busy:
        return Ending(kind="busy", message=str(busy))
    except (ValueError, OSError, ImportError) as problem:
        message = " ".join(str(problem).split())
        return Ending(kind="failed", message=message, trace=traceback.format_exc())
    except Exception as error:
        message = " ".join(f"{type(error).__name__}: {error}".split())
        return Ending(kind="died", message=message, trace=traceback.format_exc())
    return Ending(kind="done" if outcome.status == "done" else "stopped")


def environment() -> dict[str, str]:
    """Return what a worker's environment has to hold: one thread, and the modules of this process.

    A recipe of one's own may lie in a folder that only `sys.path` of this process names.
    """
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    places = dict.fromkeys(os.path.abspath(place) for place in sys.path)
    return {**dict.fromkeys(threads, "1"), "PYTHONPATH": os.pathsep.join(places)}


def _read_line() -> bytes:
    line = b""
    while not line.endswith(b"\n") and (more := os.read(0, 65536)):
        line += more
    return line


def _stop_with_parent() -> None:
    while os.read(0, 1024):  # not sys.stdin, whose lock would hold up the interpreter's end
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Work on the job on standard input; print its ending as JSON."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever an experiment prints must not mix with the answer
    job = Job(**json.loads(_read_line()))
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    ending = work(job)
    answers.write(json.dumps(asdict(ending)))
    answers.close()


if __name__ == "__main__":
    main()
