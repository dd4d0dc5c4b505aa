"""The stream of a run's records: its loop, and the numbers that are summed up between two records.

Every system's experiment is such a stream. It names its pieces of work; the loop says what happened
after each, so that a run can stop between any two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Record = dict[str, Any]
"""JSON values by name, at least ``kind`` (str) and ``step`` (int)."""

Sums = dict[str, tuple[float, int]]
"""Of numbers by name since the last record: their sum, and how many."""


def stream(pending: list[Record], work: Callable[[], bool]) -> Iterator[Record | None]:
    """Yield what happens, and None after a piece of work without news, until no work is left.

    Args:
        pending: records that wait; each is taken out before it is yielded, so that at every yield
            this list is what is still to be told.
        work: does the next piece and appends what happened; returns False where none is left.

    Example:
        >>> pieces = [[], [{"kind": "end", "step": 1}]]
        >>> told = []
        >>> def work():
        ...     told.extend(pieces.pop(0) if pieces else [])
        ...     return bool(told or pieces)
        >>> list(stream(told, work))
        [None, {'kind': 'end', 'step': 1}]
    """
    while True:
        if pending:
            yield pending.pop(0)
        elif not work():
            return
        elif not pending:
            yield None


def passed(every: int | None, step: int, before: int) -> int:
    """Return how many multiples of a number were reached or passed.

    Args:
        every: the number; 0 or None has no multiples.
        step: where the run is.
        before: where it was; a multiple there was passed already.

    Example:
        >>> passed(10, step=24, before=8)
        2
    """
    return step // every - before // every if every else 0


def add(sums: Sums, numbers: Mapping[str, float]) -> None:
    """Add one number of each name to the sums.

    Args:
        sums: changed in place.
        numbers: such as the losses of an update.
    """
    for name, value in numbers.items():
        total, count = sums.get(name, (0.0, 0))
        sums[name] = (total + value, count + 1)


def means(sums: Sums) -> dict[str, float]:
    """Return the mean of each name's numbers.

    Args:
        sums: as :func:`add` made them.

    Example:
        >>> losses = {}
        >>> add(losses, {"critic_loss": 1.0, "actor_loss": 3.0})
        >>> add(losses, {"critic_loss": 2.0})
        >>> means(losses)
        {'critic_loss': 1.5, 'actor_loss': 3.0}
    """
    return {name: total / count for name, (total, count) in sums.items()}
