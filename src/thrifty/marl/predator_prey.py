"""Predators that must catch together: small enough to be planned exactly.

Two predators and a prey live on a square of side x side cells with walls.

| | |
|---|---|
| actions | 0 stay, 1 up, 2 down, 3 left, 4 right, 5 catch |
| available | a move that stays inside; catch within distance 1 of the prey (Manhattan) |
| observation | three one-hot cells: the own, the other predator's, the prey's; [3 side^2] |
| state | three one-hot cells: predator 0, predator 1, prey; [3 side^2] |
| reward | 10 where both catch; -penalty where one catches alone; 0 else |
| then | predators move; the prey takes one of the five moves, uniformly; into a wall is a stay |
| start | three cells drawn uniformly and independently |
| end | terminated by the catch, truncated after ``limit`` steps |

The penalty makes catching alone so bad that a learner whose value is a sum of individual values
learns never to catch (relative overgeneralisation). `optimum` is the exact value of the best joint
policy, which sees everything, as every agent here does.

Reference: Boehmer et al. (2020), Deep coordination graphs, section 5.1; Rashid et al. (2020),
Weighted QMIX, section 6.1. Ours is smaller, and with one prey.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thrifty.marl.team import (
    Bools,
    Integers,
    Mark,
    Outcome,
    Seen,
    Spec,
    check_actions,
    check_copies,
)

CATCH = 5
REWARD = 10.0
# Rows and columns of stay, up, down, left, right.
_MOVES = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)])


class PredatorPrey:
    """E copies of the hunt.

    Args:
        copies: E.
        seed: of starts and of the prey.
        side: cells of a side of the square.
        penalty: of a lone catch.
        limit: longest episode in steps.
    """

    def __init__(
        self, copies: int, seed: int = 0, *, side: int = 3, penalty: float = 5.0, limit: int = 20
    ) -> None:
        check_copies(copies, seed)
        self.copies, self.side, self.penalty = copies, side, penalty
        cells = side * side
        self.spec = Spec("predator_prey", 2, 6, 3 * cells, 3 * cells, limit, REWARD, wins=True)
        self._rng = np.random.default_rng(seed)
        self._cell_E3 = np.zeros((copies, 3), np.int64)
        self._age_E = np.zeros(copies, np.int64)
        self.restart(np.ones(copies, bool))

    @property
    def seen(self) -> Seen:
        """Return one-hot cells and the actions that make sense."""
        hot_E3C = np.eye(self.side**2, dtype=np.float32)[self._cell_E3]
        first, second, prey = hot_E3C[:, 0], hot_E3C[:, 1], hot_E3C[:, 2]
        own = np.stack(
            [np.concatenate(parts, 1) for parts in ((first, second, prey), (second, first, prey))],
            1,
        )
        return Seen(own, hot_E3C.reshape(self.copies, -1), self._available())

    def _available(self) -> Bools:
        inside = legal_moves(self.side)
        available = np.ones((self.copies, 2, 6), bool)
        for predator in range(2):
            available[:, predator, :CATCH] = inside[self._cell_E3[:, predator]]
            available[:, predator, CATCH] = near(self.side)[
                self._cell_E3[:, predator], self._cell_E3[:, 2]
            ]
        return available

    def restart(self, chosen_E: Bools) -> None:
        """Draw new cells in the chosen copies."""
        cells = self._rng.integers(0, self.side**2, (int(chosen_E.sum()), 3))
        self._cell_E3[chosen_E] = cells
        self._age_E[chosen_E] = 0

    def step(self, action_EN: Integers) -> Outcome:
        """Catch, move the predators, move the prey."""
        check_actions(action_EN, self._available())
        catch = action_EN == CATCH
        caught = catch.all(1)
        reward = np.where(caught, REWARD, np.where(catch.any(1), -self.penalty, 0.0))
        move = moved(self.side)
        for predator in range(2):
            going = np.where(catch[:, predator], 0, action_EN[:, predator])
            self._cell_E3[:, predator] = move[self._cell_E3[:, predator], going]
        prey = self._rng.integers(0, 5, self.copies)
        self._cell_E3[:, 2] = move[self._cell_E3[:, 2], prey]
        self._age_E += 1
        truncated = ~caught & (self._age_E >= self.spec.limit)
        return Outcome(reward.astype(np.float32), caught, truncated, caught)

    def scene(self) -> list[Mark] | None:
        """Return the two predators and the prey."""
        sides = (0, 0, 1)
        return [
            Mark(float(cell % self.side), float(-(cell // self.side)), side, 1.0)
            for cell, side in zip(self._cell_E3[0], sides, strict=True)
        ]

    def close(self) -> None:
        """Do nothing: all is in this process."""

    def state_dict(self) -> dict[str, Any]:
        """Return cells, ages and the generator."""
        return {
            "cells": self._cell_E3.copy(),
            "ages": self._age_E.copy(),
            "rng": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> bool:
        """Take over a stored state; the running episodes go on."""
        self._cell_E3 = np.array(state["cells"], np.int64)
        self._age_E = np.array(state["ages"], np.int64)
        self._rng.bit_generator.state = state["rng"]
        return True


@functools.cache
def legal_moves(side: int) -> NDArray[np.bool_]:
    """Return which of stay, up, down, left, right stay inside, by cell, [side^2, 5]."""
    row, column = np.divmod(np.arange(side * side), side)
    place = np.stack([row, column], 1)[:, None] + _MOVES
    legal: NDArray[np.bool_] = ((place >= 0) & (place < side)).all(2)
    return legal


@functools.cache
def moved(side: int) -> NDArray[np.int64]:
    """Return the cell that each move leads to, a move into a wall being a stay, [side^2, 5]."""
    cells = np.arange(side * side)[:, None]
    step = _MOVES[:, 0] * side + _MOVES[:, 1]
    return np.where(legal_moves(side), cells + step, cells)


@functools.cache
def near(side: int) -> NDArray[np.bool_]:
    """Return which pairs of cells lie within Manhattan distance 1, [side^2, side^2]."""
    row, column = np.divmod(np.arange(side * side), side)
    apart = np.abs(row[:, None] - row) + np.abs(column[:, None] - column)
    close: NDArray[np.bool_] = apart <= 1
    return close


def optimum(
    *, side: int = 3, penalty: float = 5.0, limit: int = 20, discount: float = 0.9
) -> float:
    """Return the expected discounted return of the best joint policy, by backward induction.

    With V_0 = 0 and n steps to go, for a joint state (a, b, p) and the better of the joint actions

        V_n(a, b, p) = max_u [ r(u) + discount E_p' V_{n-1}(a', b', p') ],

    without the future where both catch. No step of a policy can do better than this maximum, and
    the limit makes time part of the state, so it bounds every learner.

    Args:
        side: as the game's.
        penalty: as the game's.
        limit: as the game's.
        discount: per step.

    Returns:
        The mean of V_limit over the uniform start.
    """
    C = side * side
    move, close = moved(side), near(side)
    both = close[:, None, :] & close[None, :, :]  # [a, b, p]
    V = np.zeros((C, C, C))
    for _ in range(limit):
        future = discount * np.mean([V[:, :, move[:, k]] for k in range(5)], axis=0)
        # Moves into walls are stays, which are available: the maximum may run over all five.
        best = np.full((C, C, C), -np.inf)
        for i in range(5):
            for j in range(5):
                best = np.maximum(best, future[move[:, i]][:, move[:, j]])
        for i in range(5):  # one catches alone, the other moves
            alone = future[:, move[:, i]] - penalty
            best = np.where(close[:, None, :], np.maximum(best, alone), best)
            alone = future[move[:, i]] - penalty
            best = np.where(close[None, :, :], np.maximum(best, alone), best)
        V = np.where(both, np.maximum(best, REWARD), best)
    return float(V.mean())
