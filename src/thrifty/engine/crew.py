"""A few threads that share a batch: compiled code lets go of the interpreter while it runs.

A batch is divided into as many parts as torch has threads, at borders that depend on the batch and
on that number only. So whatever is summed over parts comes out bit-equal at an equal number of
threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

LEAST = 512
"""Samples of a part: for fewer a second thread costs more than it brings."""


def parts(batch: int, unit: int) -> list[tuple[int, int]]:
    """Divide a batch among the threads of torch.

    Args:
        batch: samples.
        unit: parts begin at multiples of this many samples.

    Returns:
        Begin and end of each part; at least one, and none of fewer than LEAST samples where there
        are several.

    Example:
        >>> parts(100, 64)
        [(0, 100)]
    """
    count = max(1, min(torch.get_num_threads(), batch // LEAST))
    units = -(-batch // unit)
    borders = [min(batch, units * part // count * unit) for part in range(count + 1)]
    return list(pairwise(borders))


def run(calls: Sequence[Callable[[], Any]]) -> None:
    """Make all calls at the same time, the last one in this thread; raises what a call raises."""
    *others, last = calls
    waiting = [_pool(os.getpid(), len(others)).submit(call) for call in others]
    last()
    for one in waiting:
        one.result()


def summed(parts: Sequence[Tensor]) -> Tensor:
    """Add up what each thread has summed, into the first and in their order."""
    first, *others = parts
    for other in others:
        first += other
    return first


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads do not survive a fork, so every process has a pool of its own."""
    return ThreadPoolExecutor(threads, thread_name_prefix="thrifty-crew")
