"""Time samples of several things on a machine that does other work as well.

Samples are taken in turn, one of each per round, so that a disturbance hits everything alike and a
ratio stays fair. A low quantile estimates the undisturbed time (noise on a shared machine only
adds), the median what one gets in practice; a benchmark states both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]

LOW = 0.1
"""The low quantile that benchmarks state."""


def interleave(
    actions: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Seconds]:
    """Time each action once per round, round robin; every round starts with the next one.

    Args:
        actions: what to time, by name.
        rounds: samples of each, at least 1.
        warm_up: rounds before these that are not kept.
        clock: seconds; ``time.process_time`` ignores what other processes take.

    Returns:
        seconds per action [rounds], in the order of the rounds.

    Raises:
        ValueError: fewer than one round.

    Example:
        >>> sorted(interleave({"a": lambda: 1, "b": lambda: 2}, rounds=3))
        ['a', 'b']
    """
    if rounds < 1:
        raise ValueError(f"timing needs at least one round, got {rounds}")
    names = list(actions)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for number in range(warm_up + rounds):
        first = number % max(1, len(names))
        for name in names[first:] + names[:first]:
            start = clock()
            actions[name]()
            elapsed = clock() - start
            if number >= warm_up:
                samples[name].append(elapsed)
    return {name: np.array(values) for name, values in samples.items()}


def summarise(samples: Seconds) -> dict[str, float]:
    """Return the statistics that every benchmark states: ``low`` (10 % quantile) and ``median``.

    Args:
        samples: seconds or differences of seconds [rounds].

    Example:
        >>> summarise(np.array([3.0, 1.0, 2.0]))["median"]
        2.0
    """
    return {"low": float(np.quantile(samples, LOW)), "median": float(np.median(samples))}
