"""records.jsonl: what a run reported, one JSON object a line, oldest first.

A checkpoint remembers how long the file was; resuming cuts it to that length, so no record appears
twice. While a run works, or after it was killed, the last line may be incomplete: readers skip it.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from thrifty.runs.experiment import Record

FILE = "records.jsonl"


def read_records(directory: Path | str) -> list[Record]:
    """Return the complete records of a run, oldest first; also of a run still at work.

    Args:
        directory: a run directory.

    Raises:
        ValueError: no records file there, or a line in it that is no JSON object.

    Example:
        >>> [record["step"] for record in read_records("runs/x")]  # doctest: +SKIP
        [0, 1000, 2000]
    """
    path = Path(directory) / FILE
    try:
        *lines, _unfinished = path.read_bytes().split(b"\n")
    except OSError:
        raise ValueError(f"{directory} holds no records ({FILE}): name a run directory") from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise ValueError(f"{path}: line {number} is damaged: delete it to read the rest")
        records.append(record)
    return records


def last_records(directory: Path | str, size: int = 16_384) -> list[Record]:
    """Return the complete records in the last bytes of a run's file; none where there is no file.

    Args:
        directory: a run directory.
        size: how many bytes are read, whatever the length of the file.
    """
    try:
        with open(Path(directory) / FILE, "rb") as file:
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, length - size))
            lines = file.read().split(b"\n")
    except OSError:
        return []
    # Without the line whose beginning may be cut off, and the one that is being written.
    found = []
    for line in lines[1 if length > size else 0 : -1]:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


class RecordFile:
    """The records file of the run at work; a context manager.

    Args:
        path: the file; created where missing.
        length: bytes to keep, as the checkpoint remembers them; the rest is cut off.

    Raises:
        ValueError: the file is shorter than the checkpoint says.
    """

    def __init__(self, path: Path, length: int) -> None:
        self._file = open(path, "ab")  # noqa: SIM115 - closed by __exit__
        if self._file.tell() < length:
            self._file.close()
            raise ValueError(
                f"{path} is shorter than at the last checkpoint: "
                "restore it, or start in a new folder"
            )
        self._file.truncate(length)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sync()
        self._file.close()

    def append(self, record: Record) -> None:
        """Write one record as one line, visible to readers at once.

        Raises:
            ValueError: the record holds NaN or infinity, which JSON cannot.
        """
        try:
            line = json.dumps(record, allow_nan=False)
        except ValueError:
            raise ValueError(
                f"{record.get('kind')} record at step {record.get('step')}: "
                f"{_first_not_finite(record)} is not finite: training has diverged "
                "(lower the learning rate), or the experiment should report None"
            ) from None
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def sync(self) -> int:
        """Force everything to the disk; return the length of the file in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size


def _first_not_finite(value: Any, place: str = "") -> str | None:
    """Return where in a tree of JSON values NaN or infinity stands."""
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    found = (_first_not_finite(item, f"{place}.{key}".lstrip(".")) for key, item in items)
    return next((one for one in found if one is not None), None)
