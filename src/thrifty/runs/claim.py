"""Taking possession of a run directory: the right run, and one process at a time.

The lock is the operating system's (`flock`), so it ends with the process that holds it, however
that process ends. Where there is no `flock` (Windows) the user has to take care.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import Any

from thrifty.runs import durable
from thrifty.runs.store import CONFIG, JOURNAL, read_config

try:
    import fcntl
except ImportError:  # pragma: no cover - not on POSIX
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
_IDENTITY = ("recipe", "arguments", "seed", "config")  # threads and the way of telling may differ


class Busy(ValueError):
    """Another process works on the run."""


def is_busy(directory: Path) -> bool:
    """Tell whether a process works on the run in `directory` now (False where nobody can tell)."""
    try:
        with open(directory / LOCK, "rb") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such run yet, or a network folder without locks
        pass
    return False


def holds_run(
    directory: Path, document: Mapping[str, Any], complete: Callable[[Any], Any] = copy
) -> bool:
    """Tell whether `directory` holds the run that `document` describes; False where it is free.

    Args:
        directory: may not exist.
        document: what config.json holds, or would hold, for the run in question.
        complete: fills in what the configuration of an older version lacks.

    Raises:
        ValueError: the folder holds another run, other files, or is no folder.
    """
    if not directory.exists():
        return False
    if not directory.is_dir():
        raise ValueError(f"{directory} is a file: choose another folder")
    if not (directory / CONFIG).exists():
        # A process killed before it wrote config.json leaves these behind, and nothing else.
        ours = (LOCK, CONFIG + durable.TEMPORARY)
        if any(path.name not in ours for path in directory.iterdir()):
            raise ValueError(f"{directory} holds other files: choose an empty or new folder")
        return False
    held = dict(read_config(directory))
    with contextlib.suppress(ValueError, KeyError):  # of another kind: it differs
        held["config"] = complete(held["config"])
    different = [key for key in _IDENTITY if held.get(key) != document[key]]
    if different:
        raise ValueError(
            f"{directory} holds another run (different {', '.join(different)}): "
            "choose another folder, or repeat the command it was started with"
        )
    return True


@contextlib.contextmanager
def claim(
    directory: Path, document: Mapping[str, Any], complete: Callable[[Any], Any] = copy
) -> Iterator[None]:
    """Make `directory` the run that `document` describes, and hold it until the context ends.

    Args:
        directory: see `holds_run`.
        document: see `holds_run`.
        complete: see `holds_run`.

    Raises:
        Busy: another process works on it.
        ValueError: the folder holds something else, or it cannot be written.
    """
    holds_run(directory, document, complete)  # before anything is written
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = open(directory / LOCK, "ab")  # noqa: SIM115 - closed by the with below
    except OSError as error:
        raise ValueError(
            f"{directory} cannot be written ({error.strerror}): choose another folder"
        ) from None
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(
                    f"another process is working on {directory}: "
                    "wait for it, or choose another folder"
                ) from None
            except OSError:  # a network folder without locks: better unguarded than unusable
                pass
        if not holds_run(directory, document, complete):  # nobody else can change it now
            durable.write_json(directory / CONFIG, document)
        durable.remove_temporaries([directory, directory / JOURNAL])
        yield
