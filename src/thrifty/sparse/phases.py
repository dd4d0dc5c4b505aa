"""A sparsity that varies over training: phases, each with its own path of the density.

Mixed Sparsity Training (Hu et al. 2025) has three: warm-up (dense to sparse), ultra-sparsification
(few links, most of the run) and restoration (links come back). In each phase the drop fraction
falls from its initial value on half a cosine of its own. The density may move more often than
links are exchanged: an evolution step between two exchanges drops or grows what the budget asks
for and nothing else.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field
from itertools import accumulate

__all__ = ["Phase", "Phases"]


@dataclass(frozen=True)
class Phase:
    """A stretch of training over which the density goes from one value to another.

    density(x) = end + (start - end) (1 - x)^power, with x from 0 to 1 over the phase.

    Args:
        steps: optimizer steps, at least 0.
        start: density at the beginning, in (0, 1].
        end: density at the last step, in (0, 1].
        power: 1 is a straight line, 3 the cubic of gradual pruning (Zhu and Gupta 2017).

    Raises:
        ValueError: an argument is outside its range.
    """

    steps: int
    start: float
    end: float
    power: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"a phase has at least 0 steps, got {self.steps}")
        for density in (self.start, self.end):
            if not 0.0 < density <= 1.0:
                raise ValueError(
                    f"a density must lie in (0, 1], got {density}: it is the fraction of links "
                    "that exist"
                )
        if not self.power > 0.0:
            raise ValueError(f"a phase's power must be more than 0, got {self.power}")

    @property
    def moves(self) -> bool:
        """Whether the density changes."""
        return self.start != self.end


@dataclass(frozen=True)
class Phases:
    """A schedule of phases, one after the other; after the last one nothing changes any more.

    Args:
        phases: at least one.
        initial_drop_fraction: share of the active links exchanged at the beginning of each phase.
        update_every: steps between exchanges of links, at least 1.
        density_every: steps between moves of the density in phases where it moves, at least 1.

    Raises:
        ValueError: an argument is outside its range.

    Example:
        >>> phases = Phases((Phase(100, 1.0, 0.2, 3.0), Phase(100, 0.2, 0.2)), update_every=50)
        >>> phases.phase(101), round(phases.density(50), 3), phases.drop_fraction(150)
        (1, 0.3, 0.15)

    Reference:
        Hu et al. 2025, "Mixed sparsity training", TMLR; phases' lengths and densities are not
        published.
    """

    phases: tuple[Phase, ...]
    initial_drop_fraction: float = 0.3
    update_every: int = field(kw_only=True)
    density_every: int = field(kw_only=True, default=1)

    def __post_init__(self) -> None:
        if not self.phases:
            raise ValueError("a schedule needs at least one phase")
        if not 0.0 <= self.initial_drop_fraction <= 1.0:
            raise ValueError(
                f"initial_drop_fraction must lie in [0, 1], got {self.initial_drop_fraction}"
            )
        if self.update_every < 1 or self.density_every < 1:
            raise ValueError(
                "update_every and density_every are counted in optimizer steps and must be at "
                f"least 1, got {self.update_every} and {self.density_every}"
            )

    @property
    def steps(self) -> int:
        """Steps of all phases together."""
        return sum(phase.steps for phase in self.phases)

    @property
    def ends(self) -> list[int]:
        """The last step of each phase."""
        return list(accumulate(phase.steps for phase in self.phases))

    def phase(self, step: int) -> int:
        """Return the number of the phase that step number `step` (from 1) lies in."""
        return min(bisect.bisect_left(self.ends, step), len(self.phases) - 1)

    def due(self) -> list[int]:
        """Return all evolution steps, ascending."""
        found = set(range(self.update_every, self.steps, self.update_every))
        for phase, end in zip(self.phases, self.ends, strict=True):
            begin = end - phase.steps
            if phase.steps:
                found.add(begin + 1)
            if phase.steps and phase.moves:
                found |= {*range(begin + self.density_every, end, self.density_every), end}
        return sorted(found)

    def is_due(self, step: int) -> bool:
        """Say whether links are exchanged at this step (from 1), or the density moves."""
        if not 0 < step <= self.steps:
            return False
        begin, phase = self._begin(step)
        moves = phase.moves and ((step - begin) % self.density_every == 0 or self._last(step))
        # The first step after a jump between two phases' densities carries it out.
        return self._exchanges(step) or moves or step == begin + 1

    def drop_fraction(self, step: int) -> float:
        """Return the share of active links to drop; 0 where only the density moves."""
        if not self._exchanges(step):
            return 0.0
        begin, phase = self._begin(step)
        through = (step - begin) / phase.steps
        return self.initial_drop_fraction / 2 * (1.0 + math.cos(math.pi * through))

    def sparsity(self, step: int) -> float:
        """Return the fraction of links that is cut from this step on; step 0 is the beginning."""
        return 1.0 - self.density(step)

    def density(self, step: int) -> float:
        """Return the fraction of links that exist from this step on; step 0 is the beginning."""
        if step <= 0:
            return self.phases[0].start
        begin, phase = self._begin(step)
        if step >= begin + phase.steps:
            return phase.end
        left = 1.0 - (step - begin) / phase.steps
        return float(phase.end + (phase.start - phase.end) * left**phase.power)

    def _begin(self, step: int) -> tuple[int, Phase]:
        number = self.phase(step)
        return sum(phase.steps for phase in self.phases[:number]), self.phases[number]

    def _last(self, step: int) -> bool:
        begin, phase = self._begin(step)
        return step == begin + phase.steps

    def _exchanges(self, step: int) -> bool:
        return 0 < step < self.steps and step % self.update_every == 0
