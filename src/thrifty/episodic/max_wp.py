"""MaxWP: the worst path, learned from the support alone.

Du, Wang and Huang (ICLR 2023): Q_h = r + min of V_{h+1} over the next states *seen* after (s, a),
the limit of the iterated CVaR for risk levels below the least transition probability. There is no
bonus: a state not seen yet can only lower the minimum, so the values are never too low, and every
overestimate corrects itself when it is believed. Regret O(sum over s, a of H log(SA/delta) /
(min visitation times min probability)), constant in the number of episodes.

Where we differ: an unvisited pair has r + max V_{h+1}; plans are made when a transition is seen for
the first time, the only event that changes them.
"""

from __future__ import annotations

from thrifty.episodic.mdp import EpisodicMDP
from thrifty.episodic.visit_counts import CountingLearner, plan_optimistically


class MaxWP(CountingLearner):
    """MaxWP on a finite MDP with known rewards.

    Args:
        mdp: gives sizes and rewards.
        pooled: count all stages together, for kernels that do not depend on the stage.

    Raises:
        ValueError: stages are pooled, but the kernel depends on the stage.

    Example:
        >>> from thrifty.episodic.risk_instances import two_door
        >>> MaxWP(two_door()).act(0, 0)
        0
    """

    name = "max_wp"
    risk_level = 0.0  # the limit of the iterated CVaR

    def __init__(self, mdp: EpisodicMDP, *, pooled: bool = True) -> None:
        super().__init__(mdp, pooled=pooled, on_support=True)

    def plan(self) -> None:
        """Make Q, V and the policy from the transitions seen."""
        plan_optimistically(self.counts, self._r, 0.0, 0.0)
