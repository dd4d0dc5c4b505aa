"""ICVaR-BPI: finding an eps-optimal policy for the iterated CVaR in tabular MDPs, then stopping.

Du, Wang and Huang (ICLR 2023), second algorithm. Optimistic values V_up and their greedy policy as
in ICVaR-RM, pessimistic values V_low of that policy with the bonus subtracted. On the event that
all bonuses hold, V_low <= V^pi <= V* <= V_up, so the policy loses at most V_up(s_1) - V_low(s_1).

Where we differ. The paper's G bounds this difference by a recursion, G_h = 2 bonus + (tail weights
of V_low) G_{h+1}; we stop on the difference itself, which is at most G. The pessimistic side is for
a policy that depends on the data, so the bonus must hold for all V at once: CVaR moves by at most
(range / alpha) times the total variation distance, and Weissman's bound for it gives the beta of
:func:`theory_beta`, H sqrt((S log 2 + log(1/delta')) / 2). The gap is looked at whenever a plan is
made (visits of a pair have doubled), which can stop later than looking after every episode, never
wrongly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from thrifty.episodic.cvar import check_risk_level
from thrifty.episodic.mdp import EpisodicMDP
from thrifty.episodic.visit_counts import (
    CountingLearner,
    evaluate_pessimistically,
    plan_optimistically,
)
from thrifty.episodic.weighting import check_delta


class ICVaRBPI(CountingLearner):
    """ICVaR-BPI on a finite MDP with known rewards; plays its answer once it has stopped.

    Args:
        mdp: gives sizes and rewards.
        risk_level: alpha in (0, 1].
        accuracy: eps > 0, the loss that is allowed.
        beta: bonus and malus are (beta / alpha) / sqrt(n); at least 0. See :func:`theory_beta`.
        pooled: count all stages together, for kernels that do not depend on the stage.

    Raises:
        ValueError: a number out of its range, or stages pooled that differ.
    """

    name = "icvar_bpi"

    def __init__(
        self,
        mdp: EpisodicMDP,
        *,
        risk_level: float,
        accuracy: float = 0.1,
        beta: float = 0.3,
        pooled: bool = True,
    ) -> None:
        super().__init__(mdp, pooled=pooled, on_support=False)
        if not (math.isfinite(beta) and beta >= 0.0):
            raise ValueError(f"beta must be finite and at least 0, got {beta}")
        if not (math.isfinite(accuracy) and accuracy > 0.0):
            raise ValueError(f"accuracy must be finite and above 0, got {accuracy}")
        self.risk_level, self.beta = check_risk_level(risk_level), float(beta)
        self.accuracy = float(accuracy)
        self.low = np.zeros((mdp.H + 1, mdp.S))
        self.gap = float(mdp.H)
        self._first = mdp.initial_distribution

    @property
    def stopped(self) -> bool:
        """Tell whether the policy is known to be eps-optimal (on the event of the bonuses)."""
        return self.gap <= self.accuracy

    def prepare(self) -> bool:
        """Plan before an episode if that is due and the answer is not found."""
        return not self.stopped and super().prepare()

    def plan(self) -> None:
        """Make both values, the policy and the gap between the values from the counts."""
        coefficient = self.beta / self.risk_level
        plan_optimistically(self.counts, self._r, coefficient, self.risk_level)
        evaluate_pessimistically(self.counts, self._r, coefficient, self.risk_level, self.low)
        self.gap = float(self._first @ (self.counts.V[0] - self.low[0]))

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        return {**super().state_dict(), "low": self.low.copy(), "gap": self.gap}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            ValueError: it belongs to other sizes or another learner.
        """
        super().load_state_dict(state)
        self.low[...] = state["low"]
        self.gap = state["gap"]


def theory_beta(
    *, states: int, actions: int, horizon: int, visits: int, delta: float, stages: int = 1
) -> float:
    """Return beta = H sqrt((S log 2 + log(stages S A N / delta)) / 2).

    Args:
        states: S.
        actions: A.
        horizon: H.
        visits: N, the largest number of visits of a pair that the bound shall cover.
        delta: probability of failure, in (0, 1).
        stages: kernels that are counted apart: 1, or H.

    Raises:
        ValueError: delta is not in (0, 1).

    Example:
        >>> round(theory_beta(states=4, actions=2, horizon=2, visits=100, delta=0.1), 2)
        4.85
    """
    check_delta(delta)
    union = math.log(stages * states * actions * visits / delta)
    return horizon * math.sqrt((states * math.log(2.0) + union) / 2.0)
