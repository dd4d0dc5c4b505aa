"""Arrivals: how many packets each flow gets in a slot.

The rates may repeat in a cycle, so one class holds independent draws (a cycle of one slot), on-off
patterns and any other period. A recorded trace is a cycle of known counts.

Legend: F flows, M environments run at once, t clock (slots since the start of the cycle).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

KINDS = ("poisson", "bernoulli", "deterministic")


@dataclasses.dataclass(frozen=True, eq=False)
class Arrivals:
    """Random or fixed arrivals with rates that repeat.

    Args:
        rates: mean packets per slot [period, F], or [F] for a constant rate.
        kind: "poisson"; "bernoulli" (rates are probabilities); "deterministic" (rates are whole
            numbers of packets).

    Raises:
        ValueError: an unknown kind, or rates that are no rates of that kind.

    Example:
        >>> Arrivals([[2.0, 3.0]]).mean
        array([2., 3.])
    """

    rates: Any
    kind: str = "poisson"

    def __post_init__(self) -> None:
        rates = np.atleast_2d(np.asarray(self.rates, dtype=np.float64))
        if self.kind not in KINDS:
            raise ValueError(f"arrivals are {', '.join(KINDS)}; got {self.kind!r}")
        if rates.ndim != 2 or not rates.size or not np.all(np.isfinite(rates) & (rates >= 0)):
            raise ValueError("arrival rates must be finite numbers >= 0, [flows] or with a period")
        if self.kind == "bernoulli" and rates.max() > 1:
            raise ValueError(f"a Bernoulli rate is a probability, got {rates.max():g}")
        if self.kind == "deterministic" and np.any(rates != np.round(rates)):
            raise ValueError("deterministic arrivals are whole numbers of packets")
        object.__setattr__(self, "rates", rates)

    @property
    def period(self) -> int:
        """Slots after which the rates repeat."""
        return int(self.rates.shape[0])

    @property
    def flows(self) -> int:
        """How many flows there are."""
        return int(self.rates.shape[1])

    @property
    def mean(self) -> Floats:
        """Mean packets per slot [F]."""
        return np.asarray(self.rates.mean(axis=0))

    def draw(self, clock: Ints, generator: np.random.Generator) -> Ints:
        """Return the packets that arrive at the end of a slot, [M, F].

        Args:
            clock: of every environment [M].
            generator: draws the same amount whatever anyone does.
        """
        rates = self.rates[clock % self.period]
        if self.kind == "poisson":
            return np.asarray(generator.poisson(rates), dtype=np.int64)
        if self.kind == "bernoulli":
            return np.asarray(generator.random(rates.shape) < rates, dtype=np.int64)
        return np.asarray(rates, dtype=np.int64)


def on_off(mean: ArrayLike, *, on: int, off: int, kind: str = "poisson") -> Arrivals:
    """Return arrivals that come in bursts: ``on`` slots at a raised rate, ``off`` slots of none.

    Args:
        mean: packets per slot over the whole cycle [F]; while on it is (on + off) / on times that.
        on: slots at the raised rate, at least 1.
        off: slots without arrivals, at least 0.
        kind: as in :class:`Arrivals`.

    Raises:
        ValueError: no slot is on.

    Example:
        >>> on_off([1.0], on=1, off=1).rates.tolist()
        [[2.0], [0.0]]
    """
    if on < 1 or off < 0:
        raise ValueError(f"a burst needs on >= 1 and off >= 0 slots, got {on} and {off}")
    rates = np.zeros((on + off, np.size(np.asarray(mean))))
    rates[:on] = np.asarray(mean, dtype=np.float64) * (on + off) / on
    return Arrivals(rates, kind)


def recorded(counts: ArrayLike) -> Arrivals:
    """Return arrivals that replay a record, packets per slot [T, F]."""
    return Arrivals(counts, "deterministic")
