"""One-step matrix games: the team's actions index a table of payoffs, and the episode is over.

| | |
|---|---|
| agents | as many as the payoff has axes |
| actions | the length of every axis; all always available |
| observation, state | the constant 1, [1] |
| reward | the payoff at the joint action |
| end | terminated after one step |

The default payoff is the non-monotonic game of the QTRAN and WQMIX papers: its best joint action
(0, 0) pays 8 and is surrounded by punishments, so that a learner whose mixing is monotonic and
whose data are uniform settles at a 0.

References: Son et al. (2019), QTRAN, table 1; Rashid et al. (2020), Weighted QMIX, section 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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

NON_MONOTONIC = ((8.0, -12.0, -12.0), (-12.0, 0.0, 0.0), (-12.0, 0.0, 0.0))


class MatrixGame:
    """E copies of a one-step game.

    Args:
        copies: E.
        seed: not used, nothing is random.
        payoff: table of N axes of equal length U.

    Raises:
        ValueError: fewer than one copy, or axes of different length.

    Example:
        >>> game = MatrixGame(1)
        >>> float(game.step(np.array([[0, 0]])).reward[0])
        8.0
    """

    def __init__(self, copies: int, seed: int = 0, payoff: Sequence[Any] = NON_MONOTONIC) -> None:
        check_copies(copies, seed)
        self.payoff = np.array(payoff, np.float32)
        if len(set(self.payoff.shape)) != 1:
            raise ValueError(
                f"the payoff has shape {self.payoff.shape}: give every agent equally many actions"
            )
        self.copies = copies
        agents, actions = self.payoff.ndim, self.payoff.shape[0]
        self.spec = Spec("matrix_game", agents, actions, 1, 1, 1, float(self.payoff.max()))

    @property
    def seen(self) -> Seen:
        """Return the constant observation and state; every action is available."""
        E, N, U = self.copies, self.spec.agents, self.spec.actions
        return Seen(
            np.ones((E, N, 1), np.float32), np.ones((E, 1), np.float32), np.ones((E, N, U), bool)
        )

    def restart(self, chosen_E: Bools) -> None:
        """Begin a new episode, which looks like every other."""

    def step(self, action_EN: Integers) -> Outcome:
        """Pay the team and end the episode."""
        check_actions(action_EN, self.seen.available)
        never = np.zeros(self.copies, bool)
        return Outcome(self.payoff[tuple(action_EN.T)], ~never, never, never)

    def scene(self) -> list[Mark] | None:
        """Return None: there is nothing to see."""
        return None

    def close(self) -> None:
        """Do nothing: all is in this process."""

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state: nothing is remembered."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> bool:
        """Take over a stored state, which is empty."""
        return True
