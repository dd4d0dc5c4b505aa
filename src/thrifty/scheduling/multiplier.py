"""The multiplier: which price of energy a learner trains at, and which one meets the budget.

* ascent: ``l <- [l + rate top (E / E_0 - 1)]+`` after every episode, at each node, where nothing is
  worth sending at the price top;
* bisection: after every evaluation the logarithm moves by a step towards the budget, and the step
  halves whenever it would turn round, to a least step (the policy still changes);
* conditioned: prices are drawn anew for every episode and every sequence, so that one policy holds
  for all of them; a part of the draws lies around the price that last met the budget best.

Legend: H nodes, E energy per slot of each node [H], l prices [H].
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_FIRST_STEP = 0.8  # of the bisection, on the logarithm
_LONGEST_MOVE = 0.7  # of the logarithm, between two evaluations


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MultiplierConfig:
    """How the price of energy is found while training."""

    mode: Literal["conditioned", "ascent", "bisection"] = "conditioned"
    """One policy for all prices, or one price that moves to meet the budget."""
    rate: float = 0.02
    """Of the ascent: part of the highest price, for a budget overspent once."""
    least_step: float = 0.05
    """Of the bisection, on the logarithm."""
    low: float = 0.01
    """Least price drawn by conditioned, as a part of the highest."""
    high: float = 0.5
    """Greatest price drawn by conditioned, as a part of the highest."""
    near: float = 0.75
    """Part of conditioned draws around the present price, not over the whole range."""
    around: float = 0.4
    """Spread of these around it, on the logarithm, to either side."""
    nodes: float = 0.3
    """Spread of nodes' prices around their common one, likewise."""


class Multiplier:
    """The price while training.

    Args:
        config: how it moves.
        top: a price at which nothing is worth sending.
        budget: E_0 of each node [H].

    Raises:
        ValueError: a range that is none.
    """

    def __init__(self, config: MultiplierConfig, top: float, budget: Floats) -> None:
        if not 0 < config.low < config.high <= 1:
            raise ValueError(
                f"prices are drawn with 0 < low < high <= 1, got {config.low} and {config.high}"
            )
        if config.rate <= 0 or config.least_step <= 0:
            raise ValueError("the multiplier's rate and least_step must be above 0")
        if not 0 <= config.near <= 1 or config.around < 0 or config.nodes < 0:
            raise ValueError("the multiplier's near is a part, around and nodes are not negative")
        self._config, self._top, self._budget = config, top, budget
        self.prices = np.full(len(budget), top * math.sqrt(config.low * config.high))
        """The present price of each node [H]."""
        self._step = np.full(len(budget), _FIRST_STEP)
        self._turn = np.zeros(len(budget))

    def draw(self, many: int, generator: np.random.Generator) -> Floats:
        """Return prices for so many episodes or sequences [many, H]."""
        nodes = len(self.prices)
        if self._config.mode != "conditioned":
            return np.tile(self.prices, (many, 1))
        around, spread = self._config.around, self._config.nodes
        low, high = math.log(self._config.low), math.log(self._config.high)
        wide = math.log(self._top) + generator.uniform(low, high, (many, 1))
        near = np.log(self.prices) + generator.uniform(-around, around, (many, 1))
        found = np.where(generator.random((many, 1)) < self._config.near, near, wide)
        if nodes > 1:
            found = found + generator.uniform(-spread, spread, (many, nodes))
        return np.asarray(np.exp(found))

    def after_episode(self, energy: Floats) -> None:
        """Ascend by an episode's energy [H]."""
        if self._config.mode == "ascent":
            over = energy / np.maximum(self._budget, 1e-9) - 1.0
            moved = self.prices + self._config.rate * self._top * over
            self.prices = np.clip(moved, 0.0, self._top)

    def after_evaluation(self, energy: Floats) -> None:
        """Move by what an evaluation at the present price spent [H]."""
        over = np.log(np.maximum(energy, 1e-9) / np.maximum(self._budget, 1e-9))
        if self._config.mode == "conditioned":
            move = np.clip(over, -_LONGEST_MOVE, _LONGEST_MOVE)
        elif self._config.mode == "bisection":
            turn = np.sign(over)
            halve = turn * self._turn < 0
            step = np.where(halve, self._step / 2, self._step)
            self._step = np.maximum(step, self._config.least_step)
            self._turn = turn
            move = turn * self._step
        else:
            return
        self.prices = np.clip(self.prices * np.exp(move), self._top * 1e-4, self._top)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        return {"prices": self.prices.copy(), "step": self._step.copy(), "turn": self._turn.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a stored state."""
        self.prices = np.array(state["prices"])
        self._step, self._turn = np.array(state["step"]), np.array(state["turn"])


class Calibration:
    """The search for the price at which a frozen policy spends the budget.

    Broyden's method on log energies over log prices (for one node: secants); what is spent at one
    node moves with the price at every other. Trials are measured from outside. Of those that count,
    the one that missed the budget least is kept.

    Args:
        budget: E_0 [H].
        prices: to begin with [H].
        top: the greatest price.
    """

    def __init__(self, budget: Floats, prices: Floats, top: float) -> None:
        self._budget, self._top = budget, top
        self.prices = np.maximum(np.array(prices), top * 1e-6)
        """To be tried next, or the best after `settle` [H]."""
        self._slopes = -np.eye(len(budget))
        self._last: tuple[Floats, Floats] | None = None
        self._best, self._least = self.prices.copy(), math.inf

    def gap(self, energy: Floats) -> float:
        """Return by how much energies [H] miss the budget at most, as a part of it."""
        return float(np.max(np.abs(energy / self._budget - 1.0)))

    def count(self, energy: Floats) -> None:
        """Keep the present prices, which spent this [H], if none before missed the budget less."""
        if self.gap(energy) < self._least:
            self._best, self._least = self.prices.copy(), self.gap(energy)

    def resample(self) -> None:
        """Tell that the next trials are of other episodes: no slope leads from the last."""
        self._last = None

    def settle(self) -> None:
        """Return to the best prices that were counted."""
        self.prices = self._best.copy()

    def move(self, energy: Floats) -> None:
        """Take in what the present prices spent [H], and choose the next."""
        log_energy, log_price = np.log(np.maximum(energy, 1e-9)), np.log(self.prices)
        if self._last is not None:
            rise, run = log_energy - self._last[0], log_price - self._last[1]
            if np.max(np.abs(run)) > _LEAST_RUN:
                unforeseen = rise - self._slopes @ run
                self._slopes += np.outer(unforeseen, run) / (run @ run)
                own = np.clip(np.diag(self._slopes), -_STEEPEST, -_FLATTEST)
                np.fill_diagonal(self._slopes, own)
        self._last = log_energy, log_price
        missing = np.log(self._budget) - log_energy
        move = np.clip(self._towards(missing), -_LONGEST_MOVE, _LONGEST_MOVE)
        self.prices = np.clip(self.prices * np.exp(move), self._top * 1e-6, self._top)

    def _towards(self, missing: Floats) -> Floats:
        alone = np.asarray(missing / np.diag(self._slopes))
        try:
            together: Floats = np.asarray(np.linalg.solve(self._slopes, missing), dtype=np.float64)
        except np.linalg.LinAlgError:
            return alone
        return together if together @ alone > 0 else alone  # never against all that is missing

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        last = None if self._last is None else [self._last[0].copy(), self._last[1].copy()]
        return {
            "prices": self.prices.copy(),
            "slopes": self._slopes.copy(),
            "last": last,
            "best": self._best.copy(),
            "least": self._least,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a stored state."""
        self.prices, self._slopes = np.array(state["prices"]), np.array(state["slopes"])
        last = state["last"]
        self._last = None if last is None else (np.array(last[0]), np.array(last[1]))
        self._best, self._least = np.array(state["best"]), state["least"]


_LEAST_RUN = 1e-3  # of log prices, below which a slope would be noise
_FLATTEST, _STEEPEST = 0.3, 30.0
