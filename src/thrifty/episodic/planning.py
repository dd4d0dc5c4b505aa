"""Exact planning and policy evaluation by backward induction.

The step from V_{h+1} to Q_h is an operator, so that another one than the expectation (a conditional
value at risk, the worst case) makes the same planner solve another objective.

Legend: H horizon, S states, A actions; h = 0..H-1 is the papers' 1..H. V [H+1, S] with V[H] = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thrifty.episodic.mdp import EpisodicMDP, Floats, Integers

Policy = NDArray[np.integer[Any]] | NDArray[np.floating[Any]]
# (P [S, A, S], V [S]) -> [S, A]
Operator = Callable[[Floats, Floats], Floats]

TIE = 1e-12  # actions this close to the best are equal, and the first of them is taken


class Plan(NamedTuple):
    """Values and the policy that is greedy for them."""

    Q: Floats  # [H, S, A]
    V: Floats  # [H+1, S]
    policy: Integers  # [H, S]


def expectation(P: Floats, V: Floats) -> Floats:
    """Return the expected value of the next state, [S, A], for P [S, A, S] and V [S]."""
    return np.asarray(P @ V)


def optimal(mdp: EpisodicMDP, operator: Operator = expectation) -> Plan:
    """Return the optimal values and policy; of equal actions the first.

    Args:
        mdp: its model.
        operator: what the value of a next state's law is; monotone, or the plan is not optimal.

    Example:
        >>> one = EpisodicMDP.from_arrays([[[1.0], [1.0]]], [[0.25, 1.0]], horizon=3)
        >>> optimal(one).V[:, 0].tolist()
        [3.0, 2.0, 1.0, 0.0]
    """
    return _plan(mdp, operator, 1.0)


def worst(mdp: EpisodicMDP, operator: Operator = expectation) -> Plan:
    """Return the values and the policy of who minimises: the most that regret can be."""
    return _plan(mdp, operator, -1.0)


def _plan(mdp: EpisodicMDP, operator: Operator, sign: float) -> Plan:
    H, S, A = mdp.r.shape
    Q, V = np.zeros((H, S, A)), np.zeros((H + 1, S))
    policy = np.zeros((H, S), dtype=np.int64)
    for h in reversed(range(H)):
        Q[h] = mdp.r[h] + operator(mdp.P[h], V[h + 1])
        goodness = sign * Q[h]
        best = goodness.max(axis=1)
        policy[h] = np.argmax(goodness >= best[:, None] - TIE, axis=1)
        V[h] = sign * best
    return Plan(Q, V, policy)


def evaluate(mdp: EpisodicMDP, policy: Policy, operator: Operator = expectation) -> Floats:
    """Return the exact value of a policy, [H+1, S].

    Args:
        mdp: its model.
        policy: actions [H, S] (integers), or probabilities of actions [H, S, A].
        operator: as in :func:`optimal`. It is applied per action, then averaged over actions.

    Raises:
        ValueError: wrong shape, an action that does not exist, or no probabilities.
    """
    chosen = _checked_policy(mdp, policy)
    H, S = mdp.H, mdp.S
    V, states = np.zeros((H + 1, S)), np.arange(S)
    for h in reversed(range(H)):
        if chosen.ndim == 2:
            a = chosen[h]
            V[h] = mdp.r[h, states, a] + operator(mdp.P[h, states, a][:, None], V[h + 1])[:, 0]
        else:
            V[h] = np.sum(chosen[h] * (mdp.r[h] + operator(mdp.P[h], V[h + 1])), axis=1)
    return V


def uniform(mdp: EpisodicMDP) -> Floats:
    """Return the policy that draws every action alike, [H, S, A]."""
    return np.full(mdp.r.shape, 1.0 / mdp.A)


def value(mdp: EpisodicMDP, V: Floats) -> float:
    """Return the value V [H+1, S] from the first state's law, a sum of H rewards in [0, 1]."""
    return float(mdp.initial_distribution @ V[0])


def occupancy(mdp: EpisodicMDP, policy: Policy) -> Floats:
    """Return the probability of being in s and taking a at stage h, [H, S, A].

    Args:
        mdp: its model; its first state must have a law.
        policy: as in :func:`evaluate`.
    """
    chosen = _checked_policy(mdp, policy)
    chances = np.eye(mdp.A)[chosen] if chosen.ndim == 2 else chosen
    at = np.empty(mdp.r.shape)
    state = mdp.initial_distribution
    for h in range(mdp.H):
        at[h] = state[:, None] * chances[h]
        state = np.einsum("sa,sat->t", at[h], mdp.P[h])
    return at


def _checked_policy(mdp: EpisodicMDP, policy: Policy) -> NDArray[Any]:
    chosen: NDArray[Any] = np.asarray(policy)
    if chosen.shape == (mdp.H, mdp.S) and chosen.dtype.kind in "iu":
        if chosen.min() < 0 or chosen.max() >= mdp.A:
            raise ValueError(f"the policy has actions outside 0..{mdp.A - 1}")
    elif chosen.shape == mdp.r.shape:
        sums = chosen.sum(axis=-1)
        if not (np.all(policy >= 0) and np.allclose(sums, 1.0, rtol=0, atol=1e-9)):
            raise ValueError("the policy's probabilities must be >= 0 and sum to 1 in every state")
    else:
        raise ValueError(
            f"a policy is integers [H, S] = {[mdp.H, mdp.S]} or probabilities [H, S, A], "
            f"not {chosen.dtype} {list(chosen.shape)}"
        )
    return chosen
