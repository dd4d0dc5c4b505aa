"""Success laws: with which probability an attempt at some energy gets through a channel.

A law knows two things: the probability, and which energy is worth its price. The second is what
makes the optimum a table: with gain g (what success is worth beyond failure) and price l per unit
of energy, the best energy maximises ``g p(e) - l e`` over 0 <= e <= 1. Where p is concave in e this
has one solution, continuous in the price.

Legend: e energy of one attempt, a = d^3 c the attenuation (d distance, c channel value, 1 is best).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class SuccessLaw(Protocol):
    """What the simulator and the planners need to know of a law."""

    @property
    def concave(self) -> bool:
        """Whether the probability is concave in the energy."""

    def probability(self, energy: Any, attenuation: Any) -> Floats:
        """Return the probability of success, elementwise, arguments broadcast."""

    def slope(self, energy: Any, attenuation: Any) -> Floats:
        """Return its derivative by the energy."""

    def best_energy(self, gain: Any, price: Any, attenuation: Any) -> Floats:
        """Return the maximiser of ``gain * p(e) - price * e`` over 0 <= e <= 1, elementwise.

        Where price and gain are both 0 it is 0.
        """


@dataclasses.dataclass(frozen=True)
class TanhLaw:
    """``p = tanh(e / a)``, which is ``2 / (1 + exp(-2 e / a)) - 1``.

    Reference:
        The law of the published environment (arXiv 2208.14074).
    """

    concave: bool = dataclasses.field(default=True, init=False)

    def probability(self, energy: Any, attenuation: Any) -> Floats:
        """Return tanh(e / a)."""
        return np.asarray(np.tanh(energy / attenuation))

    def slope(self, energy: Any, attenuation: Any) -> Floats:
        """Return (1 - tanh(e / a)^2) / a."""
        return np.asarray((1.0 - np.tanh(energy / attenuation) ** 2) / attenuation)

    def best_energy(self, gain: Any, price: Any, attenuation: Any) -> Floats:
        """Return ``a arcosh sqrt(g / (l a))`` in [0, 1]: where g (1 - p^2) / a = l."""
        return _clipped(gain, price, attenuation, lambda ratio: np.arccosh(np.sqrt(ratio)))


@dataclasses.dataclass(frozen=True)
class ExponentialLaw:
    """``p = 1 - exp(-e / a)``."""

    concave: bool = dataclasses.field(default=True, init=False)

    def probability(self, energy: Any, attenuation: Any) -> Floats:
        """Return 1 - exp(-e / a)."""
        return np.asarray(-np.expm1(-energy / attenuation))

    def slope(self, energy: Any, attenuation: Any) -> Floats:
        """Return exp(-e / a) / a."""
        return np.asarray(np.exp(-energy / attenuation) / attenuation)

    def best_energy(self, gain: Any, price: Any, attenuation: Any) -> Floats:
        """Return ``a log(g / (l a))`` in [0, 1]."""
        return _clipped(gain, price, attenuation, np.log)


@dataclasses.dataclass(frozen=True)
class OutageLaw:
    """``p = exp(-a threshold / e)``: Rayleigh fading against a threshold; not concave near 0.

    The best energy is found on a grid; the planners then mix two tables to meet a budget.

    Args:
        threshold: theta > 0, in units of energy.
        levels: of the energy grid on [0, 1].
    """

    threshold: float = 0.3
    levels: int = 201
    concave: bool = dataclasses.field(default=False, init=False)

    def __post_init__(self) -> None:
        if not self.threshold > 0 or self.levels < 2:
            raise ValueError(
                "an outage law needs threshold > 0 and levels >= 2, "
                f"got {self.threshold} and {self.levels}"
            )

    def probability(self, energy: Any, attenuation: Any) -> Floats:
        """Return exp(-a threshold / e), 0 at e = 0."""
        energy = np.maximum(energy, 1e-12)
        return np.asarray(np.exp(-np.asarray(attenuation) * self.threshold / energy))

    def slope(self, energy: Any, attenuation: Any) -> Floats:
        """Return p a threshold / e^2."""
        energy = np.maximum(energy, 1e-12)
        scale = np.asarray(attenuation) * self.threshold
        return np.asarray(np.exp(-scale / energy) * scale / energy**2)

    def best_energy(self, gain: Any, price: Any, attenuation: Any) -> Floats:
        """Return the best level of the grid."""
        grid = np.linspace(0.0, 1.0, self.levels)
        chance = self.probability(grid, np.asarray(attenuation)[..., None])
        worth = np.asarray(gain)[..., None] * chance - np.asarray(price)[..., None] * grid
        return np.asarray(grid[np.argmax(worth, axis=-1)])


def _clipped(gain: Any, price: Any, attenuation: Any, inverse: Any) -> Floats:
    """The energy where the slope meets the price, for laws whose slope is largest at e = 0."""
    cost = np.maximum(price * attenuation, 1e-300)  # at price 0 everything that gains is worth it
    ratio = np.clip(gain / cost, 1.0, 1e300)
    return np.asarray(np.minimum(attenuation * inverse(ratio), 1.0))
