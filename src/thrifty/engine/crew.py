"""A few threads that share a batch: compiled code lets go of the interpreter while it runs.

A batch is divided at borders that depend on the batch and on the number of threads only. So
whatever is summed over parts comes out bit-equal at an equal number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

LEAST = 512
"""Samples of a part of one operation: for fewer a second thread costs more than it brings."""

Sum = TypeVar("Sum")


def parts(batch: int, unit: int, threads: int, least: int = LEAST) -> list[tuple[int, int]]:
    """Divide a batch among threads.

    Args:
        batch: samples.
        unit: parts begin at multiples of this many samples.
        threads: most parts.
        least: samples of a part, at least `unit`.

    Returns:
        Begin and end of each part; at least one, and none of fewer than `least` samples (but for
        the last `unit`) where there are several.

    Example:
        >>> parts(100, 64, 2), parts(256, 64, 2, least=64)
        ([(0, 100)], [(0, 128), (128, 256)])
    """
    count = max(1, min(threads, batch // least))
    units = -(-batch // unit)
    borders = [min(batch, units * part // count * unit) for part in range(count + 1)]
    return list(pairwise(borders))


def run(calls: Sequence[Callable[[], Any]]) -> None:
    """Make all calls at the same time, the last one in this thread; raises what a call raises."""
    *others, last = calls
    if not others:
        last()
        return
    waiting = [_pool(os.getpid(), len(others)).submit(call) for call in others]
    last()
    for one in waiting:
        one.result()


def start(call: Callable[[], Any], threads: int) -> None:
    """Make a call in one of so many threads, and do not wait for it; nobody hears what it raises.

    Args:
        call: made once.
        threads: that may be busy at the same time.
    """
    _pool(os.getpid(), threads).submit(call)


def summed(parts: Sequence[Sum]) -> Sum:
    """Add up what each thread has summed, tensors or arrays, into the first and in their order."""
    first: Any = parts[0]
    for other in parts[1:]:
        first += other
    return parts[0]


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads do not survive a fork, so every process has a pool of its own."""
    return ThreadPoolExecutor(threads, thread_name_prefix="thrifty-crew")
