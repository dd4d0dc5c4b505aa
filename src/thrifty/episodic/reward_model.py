"""Rewards learned from comparisons: maximum likelihood by Newton, and its confidence ellipsoid.

Rewards are r_h(s,a) = <w, f(s,a)> with known features f. A comparison of clips A and B has
X = F(A) - F(B), F the sum of f along a clip, and P(A preferred) = sigmoid(scale <w, X>). With
outcomes o in [0, 1] (1/2 for equal: half a label each way) the estimate maximises

    sum over labels of o log sigmoid(scale <w, X>) + (1 - o) log sigmoid(-scale <w, X>)
    - (regulariser / 2) |w|^2,

concave in w; Newton's method with step halving finds its one maximum. With
Hess = regulariser I + scale^2 sum sigmoid'(scale <w^, X>) X X', the parameters that are still
plausible are { w : |w - w^|_Hess <= radius }.

Labels fix rewards up to a constant for all clips of one length, which no policy depends on:
the iterated CVaR is translation invariant. :func:`plausible_reward` makes the least reward 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from thrifty.episodic.mdp import Floats
from thrifty.episodic.preferences import Clip

_MOST_STEPS = 100


def clip_features(features: Floats, clip: Clip) -> Floats:
    """Return F(clip), the sum of f along it, [d].

    Args:
        features: f [S, A, d].
        clip: a trajectory.
    """
    return np.asarray(features[list(clip.states), list(clip.actions)].sum(0))


def sigmoid(x: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def plausible_reward(w: Floats, features: Floats) -> Floats:
    """Return the reward [S, A] of a parameter, shifted to a least one of 0 and clipped to 1.

    The shift changes no preference and no policy. Of the truth, with rewards in [0, 1], the clip
    changes nothing.

    Args:
        w: [d].
        features: f [S, A, d].
    """
    r = features @ w
    return np.asarray(np.minimum(r - r.min(), 1.0))


class RewardModel:
    """The labels so far, the estimate and its ellipsoid.

    Args:
        dimension: d.
        scale: of the comparisons, above 0.
        regulariser: above 0.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> model = RewardModel(1, scale=1.0, regulariser=1e-9)
        >>> for outcome in (1.0, 1.0, 1.0, 0.0):
        ...     model.add(np.array([1.0]), outcome)
        >>> model.fit()
        >>> round(float(model.w[0]), 6) == round(float(np.log(3.0)), 6)
        True
    """

    def __init__(self, dimension: int, *, scale: float, regulariser: float = 1.0) -> None:
        if not (math.isfinite(scale) and scale > 0.0):
            raise ValueError(f"scale must be finite and above 0, got {scale}")
        if not (math.isfinite(regulariser) and regulariser > 0.0):
            raise ValueError(f"the regulariser must be finite and above 0, got {regulariser}")
        self.scale, self.regulariser = scale, regulariser
        self.w = np.zeros(dimension)
        self.hessian = regulariser * np.eye(dimension)
        self._rows: dict[bytes, list[float]] = {}  # X: labels, sum of outcomes; equal X share a row

    @property
    def labels(self) -> float:
        """Return how many labels count."""
        return sum(count for count, _ in self._rows.values())

    def add(self, X: Floats, outcome: float, *, count: float = 1.0) -> None:
        """Take in labels with one difference of clips; a count of -1 takes one back.

        The ellipsoid shrinks at once; the estimate follows at the next :meth:`fit`.

        Args:
            X: F(A) - F(B) [d].
            outcome: mean outcome of these labels, in [0, 1].
            count: how many there are.
        """
        row = self._rows.setdefault(np.ascontiguousarray(X, dtype=np.float64).tobytes(), [0.0, 0.0])
        row[0] += count
        row[1] += count * outcome
        slope = sigmoid(self.scale * (X @ self.w))
        self.hessian += count * self.scale**2 * float(slope * (1.0 - slope)) * np.outer(X, X)

    def loss(self, X: Floats, outcome: float) -> float:
        """Return the log-loss of the estimate on labels, in nats; guessing has log 2.

        Args:
            X: F(A) - F(B) [d].
            outcome: mean outcome of the labels, in [0, 1].
        """
        x = self.scale * float(X @ self.w)
        return float(np.logaddexp(0.0, x)) - outcome * x

    def fit(self) -> None:
        """Find the maximum of the penalised likelihood, from the estimate of before."""
        X, counts, sums = self.table()
        value = self._objective(self.w, X, counts, sums)
        for _ in range(_MOST_STEPS):
            gradient, hessian = self._derivatives(self.w, X, counts, sums)
            step = np.linalg.solve(hessian, gradient)
            decrement = float(gradient @ step)
            if decrement <= 1e-22 * (1.0 + abs(value)):
                break
            size = 1.0
            if decrement > 1e-6 * (1.0 + abs(value)):  # closer, rounding hides the rise
                while self._objective(self.w + size * step, X, counts, sums) < (
                    value + 0.25 * size * decrement
                ):
                    size *= 0.5
            self.w = self.w + size * step
            value = self._objective(self.w, X, counts, sums)
        self.hessian = self._derivatives(self.w, X, counts, sums)[1]

    def gradient(self) -> Floats:
        """Return the gradient of the penalised likelihood at the estimate, [d]."""
        return self._derivatives(self.w, *self.table())[0]

    def _objective(self, w: Floats, X: Floats, counts: Floats, sums: Floats) -> float:
        x = self.scale * (X @ w)
        return float(sums @ x - counts @ np.logaddexp(0.0, x) - 0.5 * self.regulariser * w @ w)

    def _derivatives(
        self, w: Floats, X: Floats, counts: Floats, sums: Floats
    ) -> tuple[Floats, Floats]:
        p = sigmoid(self.scale * (X @ w))
        gradient = self.scale * X.T @ (sums - counts * p) - self.regulariser * w
        curvature = counts * p * (1.0 - p)
        hessian = self.scale**2 * (X.T * curvature) @ X + self.regulariser * np.eye(len(w))
        return gradient, hessian

    def width(self, X: Floats) -> float:
        """Return |X| under the inverse of the Hessian: half the doubt about <w, X>, per radius."""
        return math.sqrt(max(float(X @ np.linalg.solve(self.hessian, X)), 0.0))

    def growth(self) -> float:
        """Return log det of the Hessian."""
        return float(np.linalg.slogdet(self.hessian)[1])

    def candidates(self, count: int, radius: float, rng: np.random.Generator) -> Floats:
        """Return the centre and points drawn on the surface of the ellipsoid, [1 + count, d].

        Args:
            count: points on the surface.
            radius: of the ellipsoid, in the norm of the Hessian.
            rng: draws them; uniform directions, mapped by the inverse root of the Hessian.
        """
        directions = rng.standard_normal((count, len(self.w)))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        root = np.linalg.cholesky(self.hessian)  # |root' u| = |u|_Hess
        return np.vstack([self.w, self.w + radius * np.linalg.solve(root.T, directions.T).T])

    def table(self) -> tuple[Floats, Floats, Floats]:
        """Return the different X [n, d], their labels [n] and sums of outcomes [n]."""
        kept = {key: row for key, row in self._rows.items() if row[0] > 0.0}
        X = np.frombuffer(b"".join(kept), dtype=np.float64).reshape(-1, len(self.w))
        both = np.array(list(kept.values())).reshape(-1, 2)
        return X, both[:, 0], both[:, 1]

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        X, counts, sums = self.table()
        return {
            "w": self.w.copy(),
            "hessian": self.hessian.copy(),
            "X": X.copy(),
            "counts": counts,
            "sums": sums,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            ValueError: it is of another dimension.
        """
        if state["w"].shape != self.w.shape:
            raise ValueError(
                f"the state has {len(state['w'])} reward features, the learner {len(self.w)}: "
                "build the learner with the features of the run that wrote it"
            )
        self.w, self.hessian = state["w"].copy(), state["hessian"].copy()
        rows = zip(state["X"], state["counts"], state["sums"], strict=True)
        self._rows = {np.ascontiguousarray(X).tobytes(): [float(n), float(o)] for X, n, o in rows}
