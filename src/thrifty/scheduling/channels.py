"""Channels: chains of quality states, one for each link of a flow.

The transition matrix may change in a cycle, so one class holds stationary Markov chains (a cycle of
one slot), channels that alternate between regimes, and deterministic movements (matrices of 0 and
1). A recorded trace is a class of its own.

Legend: F flows, H hops, C states (best first), Q slots of the cycle, R different matrices.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ROW_SLACK = 1e-6  # of a row's sum; rows are divided by it


@dataclasses.dataclass(frozen=True, eq=False)
class MarkovChannel:
    """Chains whose matrix may depend on the slot of a cycle.

    Args:
        values: channel value c of every state [C], positive, larger is worse.
        kernels: transition matrices [R, F, H, C, C]; R, F, H of size 1 serve all. [C, C] and
            [R, C, C] are accepted.
        cycle: which matrix moves the chain out of slot q of the cycle, Q numbers below R.
        common: all links are moved by one draw (and start in one state), which correlates them.

    Raises:
        ValueError: a matrix that is not stochastic, a value that is not positive, a cycle that
            names a matrix that is not there.

    Example:
        >>> MarkovChannel([1.0, 3.0], [[0.9, 0.1], [0.3, 0.7]]).stationary()[0, 0, 0].round(2)
        array([0.75, 0.25])
    """

    values: Any
    kernels: Any
    cycle: tuple[int, ...] = (0,)
    common: bool = False

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64)
        if values.ndim != 1 or not values.size or not np.all(np.isfinite(values) & (values > 0)):
            raise ValueError("channel values must be positive numbers, one for each state")
        kernels = np.asarray(self.kernels, dtype=np.float64)
        if kernels.ndim == 2:
            kernels = kernels[None]
        if kernels.ndim == 3:
            kernels = kernels[:, None, None]
        if kernels.ndim != 5 or kernels.shape[3:] != (values.size, values.size):
            raise ValueError(
                f"a channel matrix of {values.size} states must be {values.size} x {values.size}, "
                f"got the shape {np.shape(self.kernels)}"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            sums = kernels.sum(axis=-1)
        wrong = ~np.isfinite(sums) | (np.abs(sums - 1) > _ROW_SLACK) | (kernels < 0).any(axis=-1)
        if wrong.any():
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(
                f"the channel matrix is not stochastic: row {where[-1]} of matrix {where[0]} "
                f"sums to {sums[where]:g} or has negative entries; rows must sum to 1"
            )
        if not self.cycle or not all(
            0 <= one < len(kernels) and one == int(one) for one in self.cycle
        ):
            raise ValueError(f"the cycle {self.cycle} must name matrices 0 to {len(kernels) - 1}")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "kernels", kernels / sums[..., None])
        object.__setattr__(self, "cycle", tuple(int(one) for one in self.cycle))

    @property
    def states(self) -> int:
        """C, the number of states."""
        return int(self.values.size)

    @property
    def period(self) -> int:
        """Q, slots after which the matrices repeat."""
        return len(self.cycle)

    def by_slot(self) -> Floats:
        """Return the matrix out of each slot of the cycle, [Q, F or 1, H or 1, C, C]."""
        return np.asarray(self.kernels[np.array(self.cycle)])

    def stationary(self) -> Floats:
        """Return the long-run distribution in each slot of the cycle, [Q, F or 1, H or 1, C].

        Of several (a chain in parts, or a periodic one) the one that a uniform start leads to.
        """
        steps = self.by_slot()
        around = steps[0]
        for step in steps[1:]:
            around = around @ step
        lazy = (around + np.eye(self.states)) / 2  # same distribution, never periodic
        for _ in range(50):  # 2^50 steps
            lazy = lazy @ lazy
            lazy /= lazy.sum(axis=-1, keepdims=True)
        found = [lazy.mean(axis=-2)]
        for step in steps[:-1]:
            found.append((found[-1][..., None, :] @ step)[..., 0, :])
        return np.stack(found)


@dataclasses.dataclass(frozen=True, eq=False)
class TraceChannel:
    """Recorded states.

    Args:
        values: channel value of every state [C].
        states_at: state of every link in every slot [T, F, H]; after the end it starts again.

    Raises:
        ValueError: states that are not whole numbers below C, or none.
    """

    values: Any
    states_at: Any

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64)
        if values.ndim != 1 or not values.size or not np.all(np.isfinite(values) & (values > 0)):
            raise ValueError("channel values must be positive numbers, one for each state")
        states = np.asarray(self.states_at)
        if states.ndim == 2:
            states = states[:, :, None]
        if states.ndim != 3 or not states.size or not np.issubdtype(states.dtype, np.integer):
            raise ValueError("a channel trace holds whole numbers, [slots, flows] or with hops")
        if states.min() < 0 or states.max() >= values.size:
            raise ValueError(
                f"a channel trace's states must lie in 0..{values.size - 1}, "
                f"got {states.min()}..{states.max()}"
            )
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "states_at", states.astype(np.int64))

    @property
    def states(self) -> int:
        """C, the number of states."""
        return int(self.values.size)

    @property
    def period(self) -> int:
        """T, the length of the record."""
        return int(self.states_at.shape[0])


Channel = MarkovChannel | TraceChannel


def piecewise(values: ArrayLike, parts: list[tuple[ArrayLike, int]]) -> MarkovChannel:
    """Return a channel that stays under one matrix for some slots, then under the next, in turn.

    Args:
        values: channel value of every state [C].
        parts: (matrix, slots) in order.

    Raises:
        ValueError: a part without slots, or a matrix that is not stochastic.
    """
    if not parts or any(slots < 1 for _, slots in parts):
        raise ValueError("a piecewise channel needs parts of at least one slot")
    cycle = [number for number, (_, slots) in enumerate(parts) for _ in range(slots)]
    kernels = np.stack([np.asarray(kernel) for kernel, _ in parts])
    return MarkovChannel(values, kernels, tuple(cycle))


def shifting(values: ArrayLike, power: int) -> MarkovChannel:
    """Return the deterministic channel ``state <- (state + t^power) mod C`` (t counts slots).

    The power repeats modulo C with period C, which is the cycle.
    """
    count = np.size(np.asarray(values))
    if power < 1:
        raise ValueError(f"a shifting channel needs power >= 1, got {power}")
    shifts = [pow(slot, power, count) for slot in range(count)]
    kernels = np.stack([np.roll(np.eye(count), shift, axis=1) for shift in shifts])
    return MarkovChannel(values, kernels, tuple(range(count)))


def square_wave(values: ArrayLike, period: int) -> MarkovChannel:
    """Return the channel that half of a period's slots lead to state 0, the others to state 1.

    All links move alike: out of slot t it goes to state 0 if t modulo the period is below half.
    """
    count = np.size(np.asarray(values))
    if period < 2 or count < 2:
        raise ValueError(f"a square wave needs a period >= 2 and 2 states, got {period}")
    to_first, to_second = np.zeros((2, count, count))
    to_first[:, 0] = to_second[:, 1] = 1.0
    cycle = tuple(0 if slot < period / 2 else 1 for slot in range(period))
    return MarkovChannel(values, np.stack([to_first, to_second]), cycle)
