"""Row logs: append-only storage inside a state, saved at the cost of what is new.

A replay buffer of a million transitions changes by a few thousand between two checkpoints. A *row
log* numbers its rows from the beginning of time and says which of them are still needed; the rows
that no earlier checkpoint stored go to one new *segment* file, and older segments are kept as they
are. Loading gives `StoredRows`, which is itself a row log.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from thrifty.runs import durable

Rows = npt.NDArray[Any]


@runtime_checkable
class RowLog(Protocol):
    """Append-only rows, of which the oldest may be forgotten (a ring)."""

    @property
    def first(self) -> int:
        """Number of the oldest row still needed; never decreases."""
        ...

    @property
    def total(self) -> int:
        """Rows ever appended; never decreases. Rows [first, total) are available."""
        ...

    def rows(self, start: int, stop: int) -> Rows:
        """Rows [start, stop) as one array, rows along the first axis; empty where start = stop."""
        ...


@dataclass(frozen=True)
class Segment:
    """One file of a journal: rows [start, stop) of one log and the digest of the file's bytes."""

    file: str
    start: int
    stop: int
    digest: str


Stored = Mapping[str, Sequence[Segment]]
"""Which segments hold the rows of each row log, oldest first; logs are named by their place."""


@dataclass(frozen=True)
class StoredRows:
    """The rows of a log as a state file keeps them: in segments, or in the file itself.

    Segments are read when `rows` asks for them, so a large replay is never held twice.
    """

    first: int
    total: int
    inline: Rows  # the last len(inline) rows; with no rows at all it still tells dtype and shape
    segments: tuple[Segment, ...] = ()
    folder: Path | None = None

    def rows(self, start: int, stop: int) -> Rows:
        """Rows [start, stop), first axis rows.

        Raises:
            ValueError: rows outside [first, total), or a segment that was damaged meanwhile.
        """
        if not self.first <= start <= stop <= self.total:
            raise ValueError(
                f"rows [{start}, {stop}) are not stored, only [{self.first}, {self.total})"
            )
        inline_start = self.total - len(self.inline)
        parts = [
            read_segment(self.folder, segment)[max(start - segment.start, 0) : stop - segment.start]
            for segment in self.segments
            if self.folder is not None and segment.start < stop and start < segment.stop
        ]
        if stop > inline_start or not parts:
            parts.append(self.inline[max(start - inline_start, 0) : max(stop - inline_start, 0)])
        return np.concatenate(parts)


def append_rows(folder: Path, key: str, log: RowLog, stored: Sequence[Segment]) -> list[Segment]:
    """Write the rows of `log` that `stored` lacks to a new segment; return the segments now needed.

    Args:
        folder: the journal; must exist.
        key: names the log, and begins the file name.
        log: the rows as they are now.
        stored: the segments that hold earlier rows of this very log, oldest first.

    Returns:
        The segments that together hold rows [log.first, log.total), oldest first.
    """
    held = stored[-1].stop if stored else 0
    assert held <= log.total, f"row log {key} shrank from {held} to {log.total} rows"
    needed = [segment for segment in stored if segment.stop > log.first]
    start = max(held, log.first)  # beyond `held` where a ring forgot rows before they were stored
    if start < log.total:
        needed.append(_write_segment(folder, key, start, log.rows(start, log.total)))
    return needed


def _write_segment(folder: Path, key: str, start: int, rows: Rows) -> Segment:
    buffer = io.BytesIO()
    write_array(buffer, rows)
    stop = start + len(rows)
    name = f"{key}-{start}-{stop}.npy"
    durable.write_bytes(folder / name, buffer.getbuffer())
    return Segment(name, start, stop, _digest(buffer.getbuffer()))


def write_array(file: Any, array: Rows) -> None:
    """Write one array as .npy; version 3 of the format holds every dtype without a warning."""
    np.lib.format.write_array(file, array, version=(3, 0), allow_pickle=False)


def read_segment(folder: Path, segment: Segment) -> Rows:
    """Return the rows of one segment.

    Raises:
        ValueError: the file is missing or is not, byte for byte, the one that was written.
    """
    path = folder / segment.file
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: restore it, or use an older checkpoint") from None
    if _digest(data) != segment.digest:
        raise ValueError(f"{path} is damaged: restore it, or use an older checkpoint")
    rows: Rows = np.load(io.BytesIO(data), allow_pickle=False)
    return rows


def _digest(data: bytes | memoryview) -> str:
    return hashlib.blake2b(data, digest_size=32).hexdigest()
