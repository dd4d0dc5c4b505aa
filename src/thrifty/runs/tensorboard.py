"""Records as TensorBoard event files, for those who watch runs there.

A callback: every number of a record becomes a scalar kind/field/subfield at the record's step.
Needs the extra `tensorboard`, whose writer works without torch and TensorFlow. After a resume the
steps since the last checkpoint appear twice; records.jsonl is the exact account.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from thrifty.runs.experiment import Record


class TensorBoard:
    """Callback and context manager that writes event files under `directory`.

    The folder is created with the first record, so it may lie in a run directory still to be made.

    Raises:
        ValueError: the package tensorboard is not installed.

    Example:
        >>> with TensorBoard("runs/x/tensorboard") as board:  # doctest: +SKIP
        ...     execute(run, callbacks=[board])
    """

    def __init__(self, directory: Path | str) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer import event_file_writer
        except ImportError:
            raise ValueError(
                'event files need a package: pip install "thrifty[tensorboard]"'
            ) from None
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._make_writer = event_file_writer.EventFileWriter
        self._directory = Path(directory)
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __call__(self, record: Record) -> None:
        """Write the numbers of one record."""
        if self._writer is None:
            self._writer = self._make_writer(str(self._directory), flush_secs=10)
        values = [
            self._summary.Value(tag=f"{record['kind']}/{tag}", simple_value=value)
            for tag, value in _numbers(record)
            if tag not in ("step", "wall_time")
        ]
        event = self._event(
            wall_time=record.get("wall_time", time.time()),
            step=record["step"],
            summary=self._summary(value=values),
        )
        self._writer.add_event(event)

    def close(self) -> None:
        """Write out what is pending and close the file; a later record opens another."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _numbers(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """Every number in nested dicts with its place; lists (single episodes, layers) are left out."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield place, float(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers(item, f"{place}/{key}" if place else str(key))
