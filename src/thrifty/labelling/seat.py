"""The seat of an annotator: one server at a time gives the answers of one name to one run.

The lock is the operating system's (`flock`), so it ends with the process that holds it, however
that process ends. Where there is no `flock` (Windows) the user has to take care.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover - not on POSIX
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def seat(folder: Path, annotator: str) -> Iterator[None]:
    """Hold an annotator's seat at a run until the context ends.

    Args:
        folder: of the run; it exists.
        annotator: the name, any text.

    Raises:
        ValueError: another process holds it, or the folder cannot be written.
    """
    # Any name is fine as a name, but not as a part of a file name.
    digest = hashlib.blake2b(annotator.encode(), digest_size=8).hexdigest()
    try:
        lock = open(folder / f".label-{digest}.lock", "ab")  # noqa: SIM115 - closed by the with
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be written ({error.strerror}): answers could not be kept there"
        ) from None
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"{annotator} is labelling {folder} already, in another `thrifty label`: use "
                    "its page, or give another person's name with --annotator"
                ) from None
            except OSError:  # a network folder without locks: better unguarded than unusable
                pass
        yield
