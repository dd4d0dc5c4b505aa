"""CVaR of finite distributions, and the Bellman operator of the iterated CVaR.

Rewards are maximised, so the risk is in the *lower* tail: ``risk_level`` alpha in (0, 1] is the
fraction of worst outcomes that counts; 1 is the mean, and a level at or below the least positive
probability is the worst outcome. For X with values v_i and probabilities p_i there are three forms:

- primal: sup over x of x - E[(x - X)^+] / alpha,
- tail average: (1/alpha) times the integral of the quantile function over (0, alpha),
- dual: min of sum_i w_i v_i over 0 <= w_i <= p_i / alpha, sum_i w_i = 1.

They are equal. Sort the values, v_1 <= v_2 <= ..., and let F_i = p_1 + ... + p_i.
The dual is a fractional knapsack: mass goes to the lowest values first, w_i = p_i / alpha until
it is used up: w_i = (min(F_i, alpha) - min(F_{i-1}, alpha)) / alpha. These are the weights of the
tail average, whose quantile function equals v_i on (F_{i-1}, F_i). The primal objective is concave
and piecewise linear in x with slope 1 - P(X < x) / alpha to the left of x, so it changes slope at
values only, rises to the left of the first v_i with F_i >= alpha and falls beyond it: the supremum
is attained there, at a *value* (a "knot"), and equals
v_j - sum_{i<j} p_i (v_j - v_i) / alpha = sum_{i<j} (p_i / alpha) v_i + (1 - F_{j-1} / alpha) v_j,
which is the tail average. An atom without mass has weight zero, wherever it lies, and equal values
share their mass in any way without changing the sum.

The iterated CVaR (Du, Wang and Huang, "Provably efficient risk-sensitive reinforcement learning:
iterated CVaR and worst path", ICLR 2023) applies the operator stage by stage,
Q_h(s, a) = r_h(s, a) + CVaR_{s' ~ P_h(. | s, a)}(V_{h+1}(s')). It is not the CVaR of the return
(:func:`static_cvar`), and neither bounds the other (see ``risk_instances.two_branches``).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from thrifty.episodic.mdp import EpisodicMDP, Floats, Integers
from thrifty.episodic.planning import Operator, expectation

_TOLERANCE = 1e-9  # by which probabilities may miss the sum 1
_MERGED = 12  # decimals: returns that agree so far are one atom


def check_risk_level(risk_level: float) -> float:
    """Return the risk level.

    Raises:
        ValueError: it is not in (0, 1].

    Example:
        >>> check_risk_level(0.1)
        0.1
    """
    if not (math.isfinite(risk_level) and 0.0 < risk_level <= 1.0):
        raise ValueError(
            f"risk_level {risk_level} is not in (0, 1]: it is the fraction of worst outcomes that "
            "counts (1 is the mean; for the worst outcome alone use worst_path)"
        )
    return float(risk_level)


def _distribution(values: ArrayLike, probabilities: ArrayLike) -> tuple[Floats, Floats]:
    v, p = np.asarray(values, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if v.ndim != 1 or not v.size or p.ndim < 1 or p.shape[-1] != v.size:
        raise ValueError(
            f"values {v.shape} and probabilities {p.shape} do not fit: give values [n] and "
            "probabilities [..., n], n at least 1"
        )
    if not np.isfinite(v).all():
        raise ValueError("values must be finite")
    if not (p >= 0.0).all() or not (np.abs(p.sum(-1) - 1.0) <= _TOLERANCE).all():
        raise ValueError("probabilities must be at least 0 and add up to 1 along the last axis")
    return v, p


def tail_weights(values: ArrayLike, probabilities: ArrayLike, risk_level: float) -> Floats:
    """Return the conditional law of the worst ``risk_level`` of the mass: the dual's minimiser.

    Args:
        values: [n].
        probabilities: [..., n], distributions over the same values.
        risk_level: in (0, 1].

    Returns:
        weights [..., n], at most probabilities / risk_level, adding up to 1.

    Raises:
        ValueError: the distribution or the risk level is not one.

    Example:
        >>> tail_weights([1.0, 0.0, 2.0], [0.5, 0.25, 0.25], 0.5)
        array([0.5, 0.5, 0. ])
    """
    level = check_risk_level(risk_level)
    v, p = _distribution(values, probabilities)
    return _tail_weights(v, p, level)


def _tail_weights(v: Floats, p: Floats, level: float) -> Floats:
    order = np.argsort(v, kind="stable")
    used = np.minimum(np.cumsum(p[..., order], axis=-1), level)
    # Whatever rounding left out of a sum of 1 belongs to the highest value.
    used[..., -1] = level
    weights = np.empty_like(p)
    weights[..., order] = np.diff(used, axis=-1, prepend=0.0) / level
    return weights


def cvar(values: ArrayLike, probabilities: ArrayLike, risk_level: float) -> Floats:
    """Return the mean of the worst ``risk_level`` of the mass (the tail average).

    Args:
        values: [n].
        probabilities: [..., n], distributions over the same values.
        risk_level: in (0, 1].

    Returns:
        one number per distribution [...].

    Raises:
        ValueError: the distribution or the risk level is not one.

    Example:
        >>> float(cvar([0.0, 1.0], [0.05, 0.95], 0.1))
        0.5
    """
    v = np.asarray(values, dtype=np.float64)
    return np.asarray(tail_weights(v, probabilities, risk_level) @ v)


def cvar_primal(
    values: ArrayLike,
    probabilities: ArrayLike,
    risk_level: float,
    *,
    knots: ArrayLike | None = None,
) -> Floats:
    """Return the maximum over the knots x of x - E[(x - X)^+] / risk_level.

    Args:
        values: [n].
        probabilities: [..., n], distributions over the same values.
        risk_level: in (0, 1].
        knots: where to look for the supremum; the values themselves, which is exact, if left out.
            On a grid of spacing e that holds a point at or below the least value the result is too
            low by at most e: left of the supremum the objective has a slope in [0, 1].

    Returns:
        one number per distribution [...].

    Raises:
        ValueError: the distribution or the risk level is not one.

    Example:
        >>> float(cvar_primal([0.0, 1.0], [0.05, 0.95], 0.1))
        0.5
    """
    level = check_risk_level(risk_level)
    v, p = _distribution(values, probabilities)
    x = v if knots is None else np.asarray(knots, dtype=np.float64)
    shortfalls = np.maximum(x[:, None] - v, 0.0)
    return np.asarray((x - p @ shortfalls.T / level).max(-1))


def worst_path(P: Floats, V: Floats) -> Floats:
    """Return min of V(s') over the s' of positive probability: the operator of the worst path.

    Args:
        P: probabilities [S, A, S].
        V: next values [S].
    """
    return np.asarray(np.where(P > 0.0, V, np.inf).min(-1))


def iterated_cvar(risk_level: float) -> Operator:
    """Return the Bellman operator (P, V) -> CVaR of V(s') under every P(. | s, a).

    One sort of V serves all states and actions: O(S log S + S^2 A).

    Args:
        risk_level: in (0, 1].

    Raises:
        ValueError: the risk level is not in (0, 1].

    Example:
        >>> P = np.array([[[0.5, 0.5]], [[0.0, 1.0]]])
        >>> iterated_cvar(0.5)(P, np.array([3.0, 1.0])).tolist()
        [[1.0], [1.0]]
    """
    level = check_risk_level(risk_level)
    if level == 1.0:
        return expectation

    def operator(P: Floats, V: Floats) -> Floats:
        return np.asarray(_tail_weights(V, P, level) @ V)

    return operator


def return_distribution(
    mdp: EpisodicMDP, policy: Integers, *, max_atoms: int = 1_000_000
) -> tuple[Floats, Floats]:
    """Return the exact distribution of the return of a deterministic policy.

    It is carried forward over pairs (state, reward so far); sums that agree to 12 decimals are one.

    Args:
        mdp: its first state must have a law.
        policy: actions [H, S].
        max_atoms: the largest number of pairs that is followed.

    Returns:
        the values in increasing order [n], and their probabilities [n].

    Raises:
        ValueError: there are more pairs than ``max_atoms``.

    Example:
        >>> one = EpisodicMDP.from_arrays([[[1.0]]], [[0.25]], horizon=2)
        >>> return_distribution(one, np.zeros((2, 1), dtype=np.int64))
        (array([0.5]), array([1.]))
    """
    first = mdp.initial_distribution
    sums = [
        (np.zeros(1), np.full(1, mass)) if mass else (np.empty(0), np.empty(0)) for mass in first
    ]
    for h in range(mdp.H):
        arriving: list[list[tuple[Floats, Floats]]] = [[] for _ in range(mdp.S)]
        for s, (total, mass) in enumerate(sums):
            if not total.size:
                continue
            a = policy[h, s]
            for s_next in np.flatnonzero(mdp.P[h, s, a]):
                arriving[s_next].append((total + mdp.r[h, s, a], mass * mdp.P[h, s, a, s_next]))
        sums = [_merged(parts) for parts in arriving]
        if sum(total.size for total, _ in sums) > max_atoms:
            raise ValueError(
                f"the return has more than {max_atoms} partial sums at stage {h}: use a shorter "
                "horizon, fewer different rewards, or raise max_atoms"
            )
    return _merged(sums)


def grouped_returns(values: Floats, masses: Floats, most: int = 200) -> tuple[Floats, Floats]:
    """Return a distribution with few values: neighbours of about equal mass become their mean.

    Args:
        values: in increasing order [n].
        masses: their probabilities [n].
        most: values to keep; with so many or fewer nothing changes.

    Returns:
        at most ``most + 1`` values in increasing order, and their probabilities; same mean.

    Example:
        >>> found, mass = grouped_returns(np.arange(4.0), np.full(4, 0.25), most=2)
        >>> found.tolist(), mass.tolist()
        ([0.5, 2.5], [0.5, 0.5])
    """
    if len(values) <= most:
        return values, masses
    middles = np.cumsum(masses) - 0.5 * masses
    _, group = np.unique(np.floor(most * middles), return_inverse=True)
    mass = np.asarray(np.bincount(group, weights=masses), dtype=np.float64)
    return np.bincount(group, weights=masses * values) / mass, mass


def _merged(parts: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    if not parts:
        return np.empty(0), np.empty(0)
    totals = np.round(np.concatenate([total for total, _ in parts]), _MERGED)
    values, where = np.unique(totals, return_inverse=True)
    masses = np.concatenate([mass for _, mass in parts])
    return values, np.bincount(where, weights=masses, minlength=values.size).astype(np.float64)


def static_cvar(mdp: EpisodicMDP, policy: Integers, risk_level: float) -> float:
    """Return the CVaR of a policy's whole return: for comparison, not what the learners maximise.

    Args:
        mdp: its first state must have a law.
        policy: actions [H, S].
        risk_level: in (0, 1].

    Raises:
        ValueError: the risk level is not in (0, 1], or the return takes too many values.
    """
    values, masses = return_distribution(mdp, policy)
    return float(cvar(values, masses, risk_level))
