"""Regret for the iterated CVaR: a learner on a finite MDP, judged by the exact operator.

Regret is the sum of V*_1 - V^pi_1, both iterated-CVaR values of the true model. It is never
estimated from returns: there is no estimator of an iterated CVaR from whole returns.
"""

from __future__ import annotations

import numpy as np

from thrifty.episodic.mdp import EpisodicMDP, Floats
from thrifty.episodic.planning import Operator, evaluate, optimal
from thrifty.episodic.rollout import JudgedRun, Learner, Rollout, check_episodes


class RiskRollout(Rollout):
    """A learner on a finite MDP, judged by an operator.

    Args:
        mdp: the truth.
        learner: learns.
        seed: decides transitions and first states.
        operator: of the objective, such as ``iterated_cvar(0.1)`` or ``worst_path``.
    """

    def __init__(self, mdp: EpisodicMDP, learner: Learner, seed: int, operator: Operator) -> None:
        super().__init__(mdp, learner, seed)
        self.operator = operator
        self.optimum = optimal(mdp, operator).V[0]

    def gap(self) -> Floats:
        """Return V* - V^pi [S] of the first stage for the policy of the last episode."""
        policy = self.learner.policy()
        if self._evaluated is None or not np.array_equal(policy, self._evaluated):
            self._evaluated = policy.copy()
            value = evaluate(self.mdp, policy, self.operator)[0]
            self._gap = np.maximum(self.optimum - value, 0.0)
        return self._gap


def play_episodes(
    mdp: EpisodicMDP, learner: Learner, K: int, seed: int, operator: Operator
) -> JudgedRun:
    """Let a learner that weighs risk play K episodes.

    Args:
        mdp: the truth.
        learner: made for it; goes on from where it is.
        K: episodes, at least 1.
        seed: of transitions and first states.
        operator: of the objective, by which regret is counted: ``iterated_cvar(0.1)``.

    Returns:
        Returns, exact regret of the objective up to each episode, and optimistic V_1, each [K].

    Raises:
        ValueError: K is no positive integer.
    """
    check_episodes(K)
    rollout = RiskRollout(mdp, learner, seed, operator)
    returns, values, regrets = np.empty(K), np.empty(K), np.empty(K)
    while rollout.episodes < K:
        first = rollout.episodes
        block = rollout.advance(K - first)
        here = slice(first, rollout.episodes)
        assert block.regrets is not None, "the model is known"
        returns[here], values[here], regrets[here] = block.returns, block.values, block.regrets
    return JudgedRun(returns, np.cumsum(regrets), values, learner.switches)
