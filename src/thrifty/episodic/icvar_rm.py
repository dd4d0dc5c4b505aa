"""ICVaR-RM: regret minimisation for the iterated CVaR in tabular MDPs.

Du, Wang and Huang, "Provably efficient risk-sensitive reinforcement learning: iterated CVaR and
worst path" (ICLR 2023), algorithm 1:

    Q_h = min { r + CVaR_{p^(. | s, a)}(V_{h+1}) + (H / alpha) sqrt(L / n(s, a)), H },
    L = log(5 K H S A / delta);
    regret O(min{1 / sqrt(min w), alpha^(-(H-1)/2)} H S sqrt(K H A) / alpha), up to logarithms.

Where we differ: the bonus is (beta / alpha) / sqrt(n), with beta = H sqrt(L) in theory; the sum of
CVaR and bonus is clipped to max V_{h+1}, which is still optimistic and implies the paper's bound H;
an unvisited pair has r + max V_{h+1}; plans are made when the visits of a pair have doubled.
"""

from __future__ import annotations

import math

from thrifty.episodic.cvar import check_risk_level
from thrifty.episodic.mdp import EpisodicMDP
from thrifty.episodic.visit_counts import CountingLearner, plan_optimistically
from thrifty.episodic.weighting import check_delta


class ICVaRRM(CountingLearner):
    """ICVaR-RM on a finite MDP with known rewards.

    Args:
        mdp: gives sizes and rewards.
        risk_level: alpha in (0, 1].
        beta: the bonus is (beta / alpha) / sqrt(n); at least 0. :func:`theory_beta`, or .1 to 1.
        pooled: count all stages together, for kernels that do not depend on the stage.

    Raises:
        ValueError: a number out of its range, or stages pooled that differ.

    Example:
        >>> from thrifty.episodic.risk_instances import two_door
        >>> learner = ICVaRRM(two_door(), risk_level=0.1)
        >>> learner.act(0, 0), learner.value()
        (0, 1.0)
    """

    name = "icvar_rm"

    def __init__(
        self, mdp: EpisodicMDP, *, risk_level: float, beta: float = 0.3, pooled: bool = True
    ) -> None:
        super().__init__(mdp, pooled=pooled, on_support=False)
        if not (math.isfinite(beta) and beta >= 0.0):
            raise ValueError(f"beta must be finite and at least 0, got {beta}")
        self.risk_level, self.beta = check_risk_level(risk_level), float(beta)

    def plan(self) -> None:
        """Make Q, V and the policy from the counts."""
        plan_optimistically(self.counts, self._r, self.beta / self.risk_level, self.risk_level)


def theory_beta(*, states: int, actions: int, horizon: int, episodes: int, delta: float) -> float:
    """Return beta = H sqrt(log(5 K H S A / delta)) of the regret bound.

    Args:
        states: S.
        actions: A.
        horizon: H.
        episodes: K.
        delta: probability of failure, in (0, 1).

    Raises:
        ValueError: delta is not in (0, 1).

    Example:
        >>> round(theory_beta(states=4, actions=2, horizon=2, episodes=100, delta=0.1), 2)
        6.72
    """
    check_delta(delta)
    return horizon * math.sqrt(math.log(5.0 * episodes * horizon * states * actions / delta))
