"""Episodes of a finite MDP inside compiled code, with random numbers that need no state.

The uniform number of episode k and stage h is a function of (key, k, h) alone (Steele, Lea and
Flood's SplitMix64, whose state is a counter), so a run stops and resumes anywhere without a
generator in its checkpoint, and two learners of one seed meet the same random numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from thrifty.episodic.mdp import EpisodicMDP, Floats, Integers, once

_COMPILE: dict[str, Any] = {"error_model": "numpy", "nogil": True, "cache": True}
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


class Simulator(NamedTuple):
    """What compiled code needs to play episodes."""

    cdf: Floats
    """Cumulative next-state probabilities [H or 1, S, A, S]."""
    r: Floats
    """Rewards [H, S, A]."""
    key: np.uint64
    """Decides all random numbers."""


def new_simulator(mdp: EpisodicMDP, seed: int) -> Simulator:
    """Return a simulator of the MDP whose random numbers derive from the seed."""
    key = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    return Simulator(
        np.ascontiguousarray(once(mdp.cdf)), np.ascontiguousarray(mdp.r), np.uint64(key)
    )


def starts(mdp: EpisodicMDP, simulator: Simulator, first: int, count: int) -> Integers:
    """Return the first states of the episodes first .. first + count - 1.

    A law of the first state is sampled with the simulator's numbers of stage H.
    """
    if isinstance(mdp.initial, np.ndarray):
        cdf = np.cumsum(mdp.initial)
        numbers = _start_numbers(simulator.key, first, count, mdp.H)
        return np.asarray(np.searchsorted(cdf / cdf[-1], numbers, side="right"), np.int64)
    unused = np.random.default_rng(0)  # no number is drawn where the start is no law
    chosen: Integers = np.asarray(mdp.starts(first, count, unused), dtype=np.int64)
    return chosen


@njit(**_COMPILE)
def uniform(key, k, h, H):
    """Return the uniform number in [0, 1) of episode k at stage h of H (or of its start: h = H)."""
    z = key + (np.uint64(k) * np.uint64(H + 1) + np.uint64(h) + np.uint64(1)) * _GAMMA
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    z = z ^ (z >> np.uint64(31))
    return np.float64(z >> np.uint64(11)) * (1.0 / 9007199254740992.0)  # 2^-53


@njit(**_COMPILE)
def _start_numbers(key, first, count, H):
    numbers = np.empty(count)
    for n in range(count):
        numbers[n] = uniform(key, first + n, H, H)
    return numbers


@njit(**_COMPILE)
def next_state(simulator, k, h, s, a):
    """Draw the state after a in s at stage h of episode k: the first whose cdf exceeds u."""
    cdf = simulator.cdf[h if simulator.cdf.shape[0] > 1 else 0, s, a]
    u = uniform(simulator.key, k, h, simulator.r.shape[0])
    low, high = 0, cdf.shape[0] - 1
    while low < high:
        middle = (low + high) // 2
        if cdf[middle] > u:
            high = middle
        else:
            low = middle + 1
    return low
