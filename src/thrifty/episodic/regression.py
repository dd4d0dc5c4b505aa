"""Weighted ridge regression, one for each stage, that takes one sample at a time.

    Sigma_h = lambda I + sum_i weight_i phi_i phi_i'

Its inverse follows by Sherman and Morrison's formula in O(d^2), and its determinant by the matrix
determinant lemma, det(Sigma + w phi phi') = det(Sigma) (1 + w |phi|^2), where |phi|^2 is phi'
Sigma^-1 phi. After so many samples the inverse is computed anew from Sigma itself (Cholesky), which
keeps rounding errors where they are.

| symbol | meaning |
|---|---|
| H, d | stages; features |
| lambda | the regulariser |
| u | the elliptical norm of phi under Sigma^-1 |

The elliptical potential lemma (Abbasi-Yadkori, Pal and Szepesvari 2011, lemma 11) holds exactly for
every sequence: sum_i min(1, weight_i u_i^2) <= 2 log(det Sigma_h / lambda^d).

Products skip the zeros of phi, so one-hot features cost O(d) a sample instead of O(d^2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_COMPILE: dict[str, Any] = {"error_model": "numpy", "nogil": True, "cache": True}


class Ridge(NamedTuple):
    """The arrays of H regressions, as the compiled functions take them."""

    matrix: Floats
    """Sigma [H, d, d]."""
    inverse: Floats
    """Its inverse [H, d, d]."""
    growth: Floats
    """log det Sigma - d log lambda [H]."""
    potential: Floats
    """Sum of min(1, weight u^2) [H]."""
    drift: Floats
    """Largest |inverse Sigma - I| met when an inverse was computed anew [H]."""
    updates: NDArray[np.int64]
    """Samples taken [H]."""
    regulariser: float
    """lambda."""
    refactor_every: int
    """Samples between two computations of an inverse from Sigma."""


def new_ridge(H: int, d: int, regulariser: float, *, refactor_every: int = 100_000) -> Ridge:
    """Return H regressions without samples.

    Args:
        H: stages, at least 1.
        d: features, at least 1.
        regulariser: lambda > 0.
        refactor_every: samples of a stage from one computation of its inverse to the next.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> float(new_ridge(1, 2, 0.5).inverse[0, 1, 1])
        2.0
    """
    if H < 1 or d < 1:
        raise ValueError(f"a regression needs H >= 1 stages and d >= 1 features, got {H} and {d}")
    if not (np.isfinite(regulariser) and regulariser > 0):
        raise ValueError(f"the regulariser must be positive and finite, got {regulariser}")
    if refactor_every < 1:
        raise ValueError(f"refactor_every must be at least 1, got {refactor_every}")
    identity = np.broadcast_to(np.eye(d), (H, d, d))
    return Ridge(
        matrix=identity * regulariser,
        inverse=identity / regulariser,
        growth=np.zeros(H),
        potential=np.zeros(H),
        drift=np.zeros(H),
        updates=np.zeros(H, np.int64),
        regulariser=float(regulariser),
        refactor_every=int(refactor_every),
    )


def drift(ridge: Ridge) -> float:
    """Return the largest |inverse Sigma - I| over all stages and entries, now."""
    return float(np.abs(ridge.inverse @ ridge.matrix - np.eye(ridge.matrix.shape[-1])).max())


def ridge_state(ridge: Ridge) -> dict[str, Any]:
    """Return copies of all that samples change."""
    return {
        name: value.copy()
        for name, value in ridge._asdict().items()
        if isinstance(value, np.ndarray)
    }


def load_ridge(ridge: Ridge, state: Mapping[str, Any]) -> None:
    """Take over what `ridge_state` returned, in place.

    Raises:
        ValueError: it is of other sizes.
    """
    fill_arrays(
        {name: value for name, value in ridge._asdict().items() if isinstance(value, np.ndarray)},
        state,
    )


def fill_arrays(arrays: Mapping[str, NDArray[Any]], state: Mapping[str, Any]) -> None:
    """Copy stored arrays into those of a learner.

    Raises:
        ValueError: names or shapes differ.
    """
    if arrays.keys() != state.keys():
        raise ValueError(
            f"the state holds {', '.join(sorted(state))}, the learner {', '.join(sorted(arrays))}:"
            " build the learner with the settings of the run that wrote it"
        )
    for name, array in arrays.items():
        stored = np.asarray(state[name])
        if stored.shape != array.shape:
            raise ValueError(
                f"{name} has the shape {stored.shape} in the state and {array.shape} in the "
                "learner: build the learner with the sizes of the run that wrote it"
            )
        array[...] = stored


@njit(**_COMPILE)
def times(matrix, vector, out):
    """Write matrix @ vector for a symmetric matrix [d, d], skipping zeros of the vector [d]."""
    d = vector.shape[0]
    for j in range(d):
        out[j] = 0.0
    for i in range(d):
        v = vector[i]
        if v != 0.0:
            for j in range(d):
                out[j] += v * matrix[i, j]


@njit(**_COMPILE)
def dot(one, two):
    """Return the inner product, summed from the first entry to the last."""
    total = 0.0
    for i in range(one.shape[0]):
        total += one[i] * two[i]
    return total


@njit(**_COMPILE)
def quadratic(matrix, vector):
    """Return vector' matrix vector for a symmetric matrix, skipping zeros; at least 0."""
    d = vector.shape[0]
    total = 0.0
    for i in range(d):
        v = vector[i]
        if v != 0.0:
            row = 0.0
            for j in range(d):
                row += matrix[i, j] * vector[j]
            total += v * row
    return max(total, 0.0)


@njit(**_COMPILE)
def absorb(ridge, h, phi, x, u2, weight):
    """Take one sample at stage h.

    Args:
        ridge: the regressions.
        h: the stage.
        phi: features [d].
        x: Sigma_h^-1 phi [d].
        u2: phi' x.
        weight: > 0.
    """
    d = phi.shape[0]
    matrix, inverse = ridge.matrix[h], ridge.inverse[h]
    gain = weight * u2
    scale = weight / (1.0 + gain)
    for i in range(d):
        if phi[i] != 0.0:
            p = weight * phi[i]
            for j in range(d):
                matrix[i, j] += p * phi[j]
        if x[i] != 0.0:
            p = scale * x[i]
            for j in range(d):
                inverse[i, j] -= p * x[j]
    ridge.growth[h] += np.log1p(gain)
    ridge.potential[h] += min(1.0, gain)
    ridge.updates[h] += 1
    if ridge.updates[h] % ridge.refactor_every == 0:
        refactor(ridge, h)


@njit(**_COMPILE)
def refactor(ridge, h):
    """Compute the inverse and the determinant of stage h from Sigma_h, and note the drift."""
    matrix, inverse = ridge.matrix[h], ridge.inverse[h]
    d = matrix.shape[0]
    worst = 0.0
    for i in range(d):
        for j in range(d):
            entry = 0.0
            for k in range(d):
                entry += inverse[i, k] * matrix[k, j]
            worst = max(worst, abs(entry - (1.0 if i == j else 0.0)))
    ridge.drift[h] = max(ridge.drift[h], worst)
    # Of Sigma / lambda, so that a common factor of Sigma and lambda changes no bit of the growth.
    ridge.growth[h] = cholesky_inverse(matrix / ridge.regulariser, inverse)
    for i in range(d):
        for j in range(d):
            inverse[i, j] /= ridge.regulariser


@njit(**_COMPILE)
def cholesky_inverse(matrix, out):
    """Write the inverse of a positive definite matrix [d, d]; return its log determinant."""
    d = matrix.shape[0]
    L = np.zeros((d, d))
    log_det = 0.0
    for j in range(d):
        for i in range(j, d):
            entry = matrix[i, j]
            for k in range(j):
                entry -= L[i, k] * L[j, k]
            if i == j:
                L[j, j] = np.sqrt(entry)
            else:
                L[i, j] = entry / L[j, j]
        log_det += 2.0 * np.log(L[j, j])
    column = np.zeros(d)
    for j in range(d):  # L L' column = e_j
        for i in range(d):
            entry = 1.0 if i == j else 0.0
            for k in range(i):
                entry -= L[i, k] * column[k]
            column[i] = entry / L[i, i]
        for i in range(d - 1, -1, -1):
            entry = column[i]
            for k in range(i + 1, d):
                entry -= L[k, i] * column[k]
            column[i] = entry / L[i, i]
        for i in range(d):
            out[i, j] = column[i]
    for i in range(d):
        for j in range(i):
            out[i, j] = out[j, i]
    return log_det


@njit(**_COMPILE)
def right_hand_side(G, values, out):
    """Write sum_i weight_i phi_i f(s'_i) for values f [S], from G [S, d] (weighted phi by s')."""
    S, d = G.shape
    for j in range(d):
        out[j] = 0.0
    for s in range(S):
        f = values[s]
        if f != 0.0:
            for j in range(d):
                out[j] += f * G[s, j]


@njit(**_COMPILE)
def is_due(ridge, growth_at_switch, threshold):
    """Tell whether some determinant has grown by the factor exp(threshold) since the switch."""
    for h in range(growth_at_switch.shape[0]):
        if ridge.growth[h] >= growth_at_switch[h] + threshold:
            return True
    return False


@njit(**_COMPILE)
def first_best(values):
    """Return (index, maximum) of values [A]: the first within 1e-12 of the largest."""
    best = values[0]
    for a in range(1, values.shape[0]):
        best = max(best, values[a])
    for a in range(values.shape[0]):
        if values[a] >= best - 1e-12:
            return a, best
    return 0, best  # not reached: the largest is within 1e-12 of itself
