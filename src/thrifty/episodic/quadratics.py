"""Values at states that are known by features: quadratics, and the samples they are fitted to.

Compiled parts of :mod:`thrifty.episodic.feature_learner`; its legend holds here. ``options`` are
(monotone, weighted, over, estimate, beta_reward): take minima over plans; regress Vpes and V^2 too;
the over-optimistic value too; rewards have a regression of their own, with that bonus factor.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from thrifty.episodic.mdp import Floats
from thrifty.episodic.regression import absorb, dot, first_best, quadratic, times
from thrifty.episodic.weighting import sample_variance

_COMPILE: dict[str, Any] = {"error_model": "numpy", "nogil": True, "cache": True}


class Quadratics(NamedTuple):
    """What each of N plans says about Q, per stage."""

    w: Floats
    """[H, N, d]."""
    w_pes: Floats
    """[H, N, d]."""
    theta: Floats
    """Estimated rewards [H, N, d]."""
    inverse: Floats
    """Sigma^-1 [H, N, d, d]."""
    reward_inverse: Floats
    """The same of the rewards' regression [H, N, d, d]."""


class Rows(NamedTuple):
    """What is kept of each sample of the stages 0..H-2."""

    phi: Floats
    """Features times weight [H-1, n, d]."""
    features: Floats
    """Of the next state [H-1, n, A, d]; 0 where the episode had ended."""
    r: Floats
    """Known rewards there [H-1, n, A]; what is still to come where the episode had ended."""
    Q: Floats
    """Optimistic values there [H-1, n, A]."""
    Q_pes: Floats
    """Pessimistic values there [H-1, n, A]."""


def new_quadratics(H: int, d: int, N: int) -> Quadratics:
    """Return room for N plans."""
    return Quadratics(
        w=np.zeros((H, N, d)),
        w_pes=np.zeros((H, N, d)),
        theta=np.zeros((H, N, d)),
        inverse=np.zeros((H, N, d, d)),
        reward_inverse=np.zeros((H, N, d, d)),
    )


def room_for(quadratics: Quadratics, N: int) -> Quadratics:
    """Return the plans with room for N of them, at least twice as many as before where it grows."""
    H, held, d = quadratics.w.shape
    if held >= N:
        return quadratics
    grown = new_quadratics(H, d, max(N, 2 * held))
    for array, old in zip(grown, quadratics, strict=True):
        array[:, :held] = old
    return grown


def new_rows(H: int, A: int, d: int, n: int, earlier: Rows | None = None) -> Rows:
    """Return room for n samples a stage, the first of them copied from `earlier`."""
    rows = Rows(
        phi=np.zeros((H - 1, n, d)),
        features=np.zeros((H - 1, n, A, d)),
        r=np.zeros((H - 1, n, A)),
        Q=np.zeros((H - 1, n, A)),
        Q_pes=np.zeros((H - 1, n, A)),
    )
    if earlier is not None:
        for array, old in zip(rows, earlier, strict=True):
            array[:, : old.shape[1]] = old
    return rows


@njit(**_COMPILE)
def evaluate(quadratics, plans, h, features, r, out, H, c, options):
    """Write Q, Qpes and the over-optimistic Q [3, A] of a state at stage h.

    Args:
        quadratics: the plans.
        plans: how many there are.
        h: the stage.
        features: of all actions [A, d].
        r: known rewards [A].
        out: [3, A].
        H: stages.
        c: the constants.
        options: see the module.
    """
    for a in range(features.shape[0]):
        out[0, a], out[1, a], out[2, a] = float(H - h), 0.0, float(H - h)
        for n in range(plans):
            high, low, over = _one(quadratics, n, h, features[a], r[a], H, c, options)
            out[0, a] = min(out[0, a], high)
            out[1, a] = max(out[1, a], low)
            out[2, a] = over  # the last plan's


@njit(**_COMPILE)
def _one(quadratics, n, h, phi, r, H, c, options):
    _, weighted, _, estimate, beta_reward = options
    top = float(H - h)
    u = np.sqrt(quadratic(quadratics.inverse[h, n], phi))
    reward, doubt = r, 0.0
    if estimate:
        reward = r + dot(quadratics.theta[h, n], phi)
        doubt = beta_reward * np.sqrt(quadratic(quadratics.reward_inverse[h, n], phi))
    up = reward + doubt + dot(quadratics.w[h, n], phi)
    low = 0.0
    if weighted:
        low = reward - doubt + dot(quadratics.w_pes[h, n], phi) - c.beta_bar * u
        low = max(min(low, top), 0.0)
    return min(up + c.beta * u, top), low, min(up + c.beta_bar * u, top)


@njit(**_COMPILE)
def rescan(quadratics, n, h, rows, count, b, H, c, options):
    """Bring the values at the next states of stage h up to plan n, and sum its right-hand sides.

    Args:
        quadratics: the plans; plan n of stage h + 1 is there already.
        n: the newest plan.
        h: the stage, below H - 1.
        rows: the samples.
        count: how many of stage h there are.
        b: right-hand sides of stage h [4, d], 0 before.
        H: stages.
        c: the constants.
        options: see the module.
    """
    monotone = options[0]
    A = rows.r.shape[2]
    values = np.empty((3, A))
    for i in range(count):
        for a in range(A):
            high, low, over = _one(
                quadratics, n, h + 1, rows.features[h, i, a], rows.r[h, i, a], H, c, options
            )
            if monotone:
                high = min(high, rows.Q[h, i, a])
                low = max(low, rows.Q_pes[h, i, a])
            rows.Q[h, i, a], rows.Q_pes[h, i, a] = high, low
            values[0, a], values[1, a], values[2, a] = high, low, over
        learn_value(rows.phi[h, i], values, b)


@njit(**_COMPILE)
def learn_value(phi, values, b):
    """Add a sample's terms, with weighted features phi [d], to right-hand sides b [4, d]."""
    V = first_best(values[0])[1]
    V_pes = first_best(values[1])[1]
    V_over = first_best(values[2])[1]
    for j in range(phi.shape[0]):
        b[0, j] += phi[j] * V
        b[1, j] += phi[j] * V_pes
        b[2, j] += phi[j] * (V * V)
        b[3, j] += phi[j] * V_over


@njit(**_COMPILE)
def plan_stage(ridge, reward_ridge, quadratics, n, h, b, R, options):
    """Write plan n of stage h from its right-hand sides."""
    times(ridge.inverse[h], b[h, 0], quadratics.w[h, n])
    times(ridge.inverse[h], b[h, 1], quadratics.w_pes[h, n])
    quadratics.inverse[h, n] = ridge.inverse[h]
    if options[3]:
        times(reward_ridge.inverse[h], R[h], quadratics.theta[h, n])
        quadratics.reward_inverse[h, n] = reward_ridge.inverse[h]


@njit(**_COMPILE)
def learn_weight(ridge, reward_ridge, b, R, features, a, x, h, r, H, unknown, c, options, sums):
    """Take features[a] into the regression of stage h; return its weight."""
    _, weighted, over, estimate, _ = options
    phi = features[a]
    if estimate:
        times(reward_ridge.inverse[h], phi, x)
        absorb(reward_ridge, h, phi, x, max(dot(phi, x), 0.0), 1.0)
    times(ridge.inverse[h], phi, x)
    u2 = max(dot(phi, x), 0.0)
    u = np.sqrt(u2)
    sbar2 = max(c.offset, c.floor, c.conservatism * u)
    if weighted:
        mean, lower = dot(x, b[h, 0]), dot(x, b[h, 1])
        upper, slack = mean, 2.0 * c.beta_bar * u
        if over:
            upper, slack = dot(x, b[h, 3]), 0.0
        sbar2 = sample_variance(c, H, mean, dot(x, b[h, 2]), upper, lower, slack, u)
    weight = 1.0 / sbar2
    absorb(ridge, h, phi, x, u2, weight)
    if unknown:
        # In a regression of their own rewards weigh 1, together with V what V does.
        p = r if estimate else weight * r
        for j in range(phi.shape[0]):
            R[h, j] += p * phi[j]
    sums[0] += c.beta * u
    sums[1] += sbar2
    sums[2] += 1.0
    return weight
