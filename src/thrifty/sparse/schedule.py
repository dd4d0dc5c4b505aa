"""When links are exchanged, how many, and how sparse the network is: a function of the step.

`step` counts the optimizer steps of the one network that evolves, from 1. The cosine schedule
is RigL's (Evci et al. 2020) and RLx2's: every `update_every` steps before `update_until`, with a
drop fraction that falls from its initial value to 0 on half a cosine. Any object with the three
methods of `SparsitySchedule` will do; one whose sparsity moves makes the evolution re-budget.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

from thrifty.sparse.allocate import check_sparsity

__all__ = ["Cosine", "SparsitySchedule", "Static"]


class SparsitySchedule(Protocol):
    """Three questions that the evolution asks about a step of its network's optimizer."""

    def is_due(self, step: int) -> bool:
        """Is step number `step` (from 1) an evolution step?"""
        ...

    def drop_fraction(self, step: int) -> float:
        """Share of the active links to drop at that evolution step, in [0, 1]."""
        ...

    def sparsity(self, step: int) -> float:
        """Fraction of all links that is cut from that evolution step on, in [0, 1)."""
        ...


@dataclass(frozen=True)
class Static:
    """A topology that never changes.

    Args:
        target_sparsity: fraction of all links that is cut, in [0, 1).

    Raises:
        ValueError: the sparsity is not in [0, 1).

    Example:
        >>> Static(0.9).is_due(1000)
        False
    """

    target_sparsity: float

    def __post_init__(self) -> None:
        check_sparsity(self.target_sparsity)

    def is_due(self, step: int) -> bool:
        """Say that no step (count from 1) is an evolution step: False."""
        return False

    def drop_fraction(self, step: int) -> float:
        """Return 0: nothing is dropped at any step."""
        return 0.0

    def sparsity(self, step: int) -> float:
        """Return the constant fraction of links that is cut, at any step."""
        return self.target_sparsity


@dataclass(frozen=True)
class Cosine:
    """Constant sparsity, exchange at a fixed interval, drop fraction falling on half a cosine.

    zeta(t) = zeta_0 / 2 * (1 + cos(pi t / update_until)).

    Args:
        target_sparsity: fraction of all links that is cut, in [0, 1).
        initial_drop_fraction: zeta_0, share of the active links exchanged at first, in [0, 1].
        update_every: interval between evolution steps, in optimizer steps, at least 1.
        update_until: no evolution at this step or later, in optimizer steps, at least 1.

    Raises:
        ValueError: an argument is outside its range.

    Example:
        >>> schedule = Cosine(0.9, update_every=100, update_until=1000)
        >>> schedule.is_due(500), schedule.drop_fraction(500), schedule.is_due(1000)
        (True, 0.25, False)

    Reference:
        Evci et al. 2020, "Rigging the lottery", section 3; Dettmers and Zettlemoyer 2019.
    """

    target_sparsity: float
    initial_drop_fraction: float = 0.5
    update_every: int = field(kw_only=True)
    update_until: int = field(kw_only=True)

    def __post_init__(self) -> None:
        check_sparsity(self.target_sparsity)
        if not 0.0 <= self.initial_drop_fraction <= 1.0:
            raise ValueError(
                f"initial_drop_fraction must lie in [0, 1], got {self.initial_drop_fraction}"
            )
        if self.update_every < 1 or self.update_until < 1:
            raise ValueError(
                "update_every and update_until are counted in optimizer steps and must be at "
                f"least 1, got {self.update_every} and {self.update_until}; for a fixed topology "
                "use Static"
            )

    def is_due(self, step: int) -> bool:
        """Say whether step number `step` (from 1) is a multiple of the interval before the end."""
        return 0 < step < self.update_until and step % self.update_every == 0

    def drop_fraction(self, step: int) -> float:
        """Return zeta(step), the share of active links to drop; 0 from `update_until` on."""
        if step >= self.update_until:
            return 0.0
        return self.initial_drop_fraction / 2 * (1 + math.cos(math.pi * step / self.update_until))

    def sparsity(self, step: int) -> float:
        """Return the constant fraction of links that is cut, at any step."""
        return self.target_sparsity
