"""What a person watching a sweep sees: a live table of its runs.

On a terminal the table is redrawn once a second; runs at work stand first, and what does not fit
is counted. Elsewhere a line is printed whenever a run begins, ends or dies.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from thrifty.runs.progress import duration, number, shown_values
from thrifty.runs.records import last_records
from thrifty.runs.sweep import Place, Standing

_REDRAW_SECONDS = 1.0
_ORDER: tuple[Standing, ...] = (
    "at work",
    "stopping",
    "failed",
    "elsewhere",
    "waiting",
    "done",
)
_NUMBERS = (("", 9), ("steps", 9), ("", 10), ("steps/s", 7), ("left", 7))  # heading, width
_SPARE = 10  # characters between the columns, and for numbers that are wider
_SHORTEST = 12  # characters of a name, and of the values
_STYLES = {"at work": "bold", "stopping": "bold", "failed": "red", "done": "green"}


class SweepTable:
    """Shows how the runs of a sweep stand; a context manager, called with the places.

    Args:
        console: where to draw; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._due = 0.0
        self._told: dict[str, tuple[Standing, int]] = {}
        self._began: dict[str, tuple[float, int]] = {}  # when and at which step work began here

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, places: Sequence[Place]) -> None:
        """Draw, where it is time for it."""
        if self._live is None:
            self._tell(places)
        elif time.monotonic() >= self._due:
            self._due = time.monotonic() + _REDRAW_SECONDS
            self._live.update(self.picture(places), refresh=True)

    def _tell(self, places: Sequence[Place]) -> None:
        done = sum(place.standing == "done" for place in places)
        for place in places:
            now = (place.standing, place.deaths)
            before = self._told.get(place.job.name, ("waiting", 0))
            self._told[place.job.name] = now
            if now == before:
                continue
            word = f"died, retry {place.deaths}" if now[1] > before[1] else place.standing
            reason = f": {place.message}" if place.message and word != "done" else ""
            line = f"{done}/{len(places)} done  {place.job.name}  {word}{reason}"
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def picture(self, places: Sequence[Place]) -> Group:
        """Return the table of as many runs as the terminal has lines for, and the sum below it."""
        ordered = sorted(places, key=lambda place: _ORDER.index(place.standing))
        room = max(3, self._console.height - 5)
        # Values give way where the terminal is narrow, then names; the numbers never do.
        free = self._console.width - _SPARE - sum(width for _, width in _NUMBERS)
        longest = max((len(place.job.name) for place in ordered[:room]), default=0)
        for_name = max(_SHORTEST, min(longest, free - _SHORTEST))
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("run", no_wrap=True, min_width=for_name)
        for heading, width in _NUMBERS:
            table.add_column(
                heading, no_wrap=True, min_width=width, justify="right" if heading else "left"
            )
        table.add_column(
            "last", no_wrap=True, overflow="ellipsis", max_width=max(_SHORTEST, free - for_name)
        )
        for place in ordered[:room]:
            name = Text(_shortened(place.job.name, for_name))
            table.add_row(name, *self._row(place), style=_STYLES.get(place.standing, "dim"))
        counts = Counter(place.standing for place in places)
        words = [f"{counts[standing]} {standing}" for standing in _ORDER if counts[standing]]
        if len(ordered) > room:
            words.append(f"{len(ordered) - room} more not shown")
        what = "Ctrl-C stops with checkpoints"
        if counts["stopping"]:
            what = "each saves a checkpoint; Ctrl-C again ends all at once"
        return Group(table, Text("  ".join(words) + f"   {what}"))

    def _row(self, place: Place) -> tuple[str | Text, ...]:
        job = place.job
        standing = place.standing + (f" ({place.deaths})" * bool(place.deaths))
        if place.standing in ("waiting", "failed", "done"):
            steps = f"{job.steps:,}" if place.standing == "done" else ""
            return standing, steps, "", "", "", Text(place.message)
        records = last_records(Path(job.directory))
        step = max((int(record.get("step", 0)) for record in records), default=0)
        at, first = self._began.setdefault(job.name, (time.monotonic(), step))
        rate = (step - first) / max(time.monotonic() - at, 1e-9)
        left = duration((job.steps - step) / rate) if rate > 0 else ""
        bar = "━" * round(10 * min(1.0, step / max(job.steps, 1)))
        values = "  ".join(f"{label} {number(value)}" for label, value in shown_values(records))
        speed = f"{rate:,.0f}" if rate > 0 else ""
        return standing, f"{step:,}", f"{bar:<10}", speed, left, Text(values)


def _shortened(name: str, most: int) -> str:
    """The name without its middle: its ends, recipe and seed, tell runs apart."""
    if len(name) <= most:
        return name
    end = most // 2
    return f"{name[: most - end - 1]}…{name[-end:]}"
