"""What a person watching a run sees: steps, steps per second, return, sparsity, time left.

On a terminal this is one line that is redrawn. Elsewhere (a log file, a pipe) it is nothing, or,
where asked for, a plain line every ten seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from thrifty.runs.experiment import Record

_SHOWN = {  # kind of record -> {label: the record's field}
    "train": {"return": "return", "sparsity": "sparsity", "loss": "loss"},
    "evaluation": {
        "evaluation": "return_mean",
        "bits per byte": "bits_per_byte",
        "won": "win_rate",
    },
    "progress": {"regret": "regret", "return": "return_mean", "throughput": "throughput"},
}
_REDRAW_SECONDS = 0.25
_LINE_SECONDS = 10.0


class ProgressBar:
    """Shows how far a run has come; a context manager.

    Args:
        total: steps of the whole run.
        start: steps done before this process began.
        force: where there is no terminal, print a plain line now and then.
        console: where to draw; standard error by default.
        clock: seconds, monotonic.

    Example:
        >>> with ProgressBar(1000) as bar:
        ...     bar.record({"kind": "train", "step": 500, "return": 12.5, "sparsity": 0.9})
    """

    def __init__(
        self,
        total: int,
        *,
        start: int = 0,
        force: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console(file=sys.stderr)
        self._total, self._start = total, start
        self.step = start  # drawn again at the end of the context
        self._clock, self._began = clock, clock()
        self._values: dict[str, float] = {}
        self._bar: Progress | None = None
        terminal = self._console.is_terminal
        if terminal:
            self._bar = Progress(
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[status]}"),
                console=self._console,
                auto_refresh=False,  # no thread of its own: a run may fork workers
            )
            self._task = self._bar.add_task("", total=total, completed=start, status="")
        # The runner looks at `due` between two steps, so that it need not call.
        self._interval = _REDRAW_SECONDS if terminal else _LINE_SECONDS
        self.due = self._began + self._interval if terminal or force else float("inf")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.due < float("inf"):
            self.show(self.step)
        if self._bar:
            self._bar.stop()

    def record(self, record: Record) -> None:
        """Take over step and values of a record; kinds and fields unknown here are ignored."""
        self._values.update(shown_values([record]))
        self.step = record["step"]
        if self._clock() >= self.due:
            self.show(self.step)

    def show(self, step: int) -> None:
        """Draw the state at `step` now, and note when the next drawing is due."""
        now = self._clock()
        self.step = step
        self.due = now + self._interval
        if self._bar:
            self._bar.update(self._task, completed=step, status=self._status(now), refresh=True)
        else:
            self._console.print(
                f"{step}/{self._total} {self._status(now)}", highlight=False, soft_wrap=True
            )

    def _status(self, now: float) -> str:
        rate = (self.step - self._start) / max(now - self._began, 1e-9)
        words = [f"{rate:.0f} steps/s"]
        words += [f"{label} {number(value)}" for label, value in self._values.items()]
        if rate > 0:
            words.append(f"{duration(max(self._total - self.step, 0) / rate)} left")
        return "  ".join(words)


def shown_values(records: Sequence[Record]) -> list[tuple[str, float]]:
    """Return label and last value of everything in some records that a bar shows."""
    values: dict[str, float] = {}
    for record in records:
        for label, field in _SHOWN.get(record.get("kind", ""), {}).items():
            if isinstance(record.get(field), int | float):
                values[label] = record[field]
    return list(values.items())


def number(value: Any) -> str:
    """A value in at most a few digits."""
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"


def duration(seconds: float) -> str:
    """A time span as [h:]mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"
