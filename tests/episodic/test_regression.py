from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from thrifty.episodic.regression import (
    absorb,
    cholesky_inverse,
    drift,
    first_best,
    is_due,
    load_ridge,
    new_ridge,
    quadratic,
    ridge_state,
    right_hand_side,
    times,
)


def fill(ridge, phis, weights, h=0):
    x = np.empty(phis.shape[1])
    for phi, weight in zip(phis, weights, strict=True):
        times(ridge.inverse[h], phi, x)
        absorb(ridge, h, phi, x, float(phi @ x), weight)


def random_samples(n, d, seed=0):
    rng = np.random.default_rng(seed)
    phis = rng.standard_normal((n, d))
    phis /= np.maximum(1.0, np.linalg.norm(phis, axis=1, keepdims=True))
    return phis, rng.uniform(0.01, 20.0, n)


def test_by_hand() -> None:
    # Sigma = 2 I + 3 e_1 e_1' = diag(5, 2): inverse diag(.2, .5), det 10 against 4.
    ridge = new_ridge(2, 2, 2.0)
    fill(ridge, np.array([[1.0, 0.0]]), [3.0], h=1)
    assert_allclose(ridge.matrix[1], [[5, 0], [0, 2]], rtol=1e-15)
    assert_allclose(ridge.inverse[1], [[0.2, 0], [0, 0.5]], rtol=1e-15)
    assert_allclose(ridge.growth, [0, np.log(10 / 4)], rtol=1e-15)
    assert_allclose(ridge.potential, [0, 1.0])  # weight u^2 = 3 / 2, counted as 1
    assert ridge.updates.tolist() == [0, 1]


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 8), st.integers(1, 60), st.integers(0, 1000), st.floats(1e-3, 10))
def test_against_linear_algebra_and_the_potential_lemma(
    d: int, n: int, seed: int, lam: float
) -> None:
    phis, weights = random_samples(n, d, seed)
    ridge = new_ridge(1, d, lam)
    fill(ridge, phis, weights)
    Sigma = lam * np.eye(d) + (phis * weights[:, None]).T @ phis
    assert_allclose(ridge.matrix[0], Sigma, rtol=1e-10, atol=1e-12)
    assert_allclose(ridge.inverse[0] @ Sigma, np.eye(d), atol=1e-8)
    growth = np.linalg.slogdet(Sigma)[1] - d * np.log(lam)
    assert_allclose(ridge.growth[0], growth, rtol=1e-9, atol=1e-9)
    # Abbasi-Yadkori et al. 2011, lemma 11: holds for every sequence.
    assert ridge.potential[0] <= 2 * ridge.growth[0] + 1e-9


def test_the_inverse_does_not_drift_and_is_renewed() -> None:
    phis, weights = random_samples(20_000, 10)
    free, renewed = new_ridge(1, 10, 0.01), new_ridge(1, 10, 0.01, refactor_every=1000)
    fill(free, phis, weights)
    fill(renewed, phis, weights)
    assert free.drift[0] == 0.0  # never looked
    assert drift(free) < 1e-9
    assert 0.0 < renewed.drift[0] < 1e-9
    assert drift(renewed) < 1e-12
    assert_allclose(renewed.growth, free.growth, rtol=1e-12)
    assert_allclose(renewed.inverse, free.inverse, rtol=1e-9, atol=1e-13)


def test_a_damaged_inverse_is_noticed_and_mended() -> None:
    phis, weights = random_samples(10, 3)
    ridge = new_ridge(1, 3, 1.0, refactor_every=11)
    fill(ridge, phis, weights)
    ridge.inverse[0, 1, 1] += 0.5
    assert drift(ridge) > 0.1
    fill(ridge, phis[:1], weights[:1])
    assert ridge.drift[0] > 0.1
    assert drift(ridge) < 1e-12


def test_cholesky_inverse() -> None:
    rng = np.random.default_rng(1)
    root = rng.standard_normal((6, 6))
    matrix = root @ root.T + np.eye(6)
    out = np.empty((6, 6))
    assert_allclose(cholesky_inverse(matrix, out), np.linalg.slogdet(matrix)[1], rtol=1e-12)
    assert_allclose(out, np.linalg.inv(matrix), rtol=1e-9, atol=1e-12)
    assert_array_equal(out, out.T)


def test_products_by_hand() -> None:
    matrix = np.array([[2.0, 1.0], [1.0, 3.0]])
    out = np.empty(2)
    times(matrix, np.array([1.0, 2.0]), out)
    assert out.tolist() == [4.0, 7.0]
    assert quadratic(matrix, np.array([1.0, 2.0])) == 18.0  # 1*4 + 2*7
    G = np.array([[1.0, 0.0], [2.0, 5.0]])
    right_hand_side(G, np.array([3.0, 0.5]), out)
    assert out.tolist() == [4.0, 2.5]


def test_ties_go_to_the_first() -> None:
    assert first_best(np.array([1.0, 2.0, 2.0])) == (1, 2.0)
    assert first_best(np.array([2.0 - 5e-13, 2.0])) == (0, 2.0)
    assert first_best(np.array([2.0 - 5e-12, 2.0])) == (1, 2.0)


def test_a_switch_is_due_when_a_determinant_has_doubled() -> None:
    ridge = new_ridge(2, 1, 1.0)
    assert is_due(ridge, np.full(2, -np.inf), np.log(2.0))
    since = np.zeros(2)
    assert not is_due(ridge, since, np.log(2.0))
    fill(ridge, np.array([[1.0]]), [0.9], h=1)  # det 1.9
    assert not is_due(ridge, since, np.log(2.0))
    fill(ridge, np.array([[1.0]]), [0.2], h=1)  # det 2.1
    assert is_due(ridge, since, np.log(2.0))


def test_the_determinant_ratio_bounds_the_norms() -> None:
    # det Sigma' <= 2 det Sigma and Sigma <= Sigma' imply |phi|^2 <= 2 |phi|'^2 for every phi
    # (Abbasi-Yadkori et al. 2011, lemma 12).
    phis, weights = random_samples(400, 5, seed=3)
    ridge = new_ridge(1, 5, 0.5)
    old, since, switches = ridge.inverse[0].copy(), ridge.growth.copy(), 0
    probes = random_samples(50, 5, seed=4)[0]
    for phi, weight in zip(phis, weights, strict=True):
        fill(ridge, phi[None], [weight])
        if is_due(ridge, since, np.log(2.0)):
            old, since, switches = ridge.inverse[0].copy(), ridge.growth.copy(), switches + 1
        before = np.einsum("nd,de,ne->n", probes, old, probes)
        now = np.einsum("nd,de,ne->n", probes, ridge.inverse[0], probes)
        assert np.all(before <= 2 * now + 1e-12)
    assert switches > 10


def test_state_goes_back_and_forth() -> None:
    one, two = new_ridge(1, 3, 1.0), new_ridge(1, 3, 1.0)
    fill(one, *random_samples(5, 3))
    load_ridge(two, ridge_state(one))
    for name, value in ridge_state(one).items():
        assert_array_equal(ridge_state(two)[name], value)
    with pytest.raises(ValueError, match="shape"):
        load_ridge(new_ridge(1, 4, 1.0), ridge_state(one))
    with pytest.raises(ValueError, match="holds"):
        load_ridge(two, {"matrix": one.matrix})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 2, 1.0), "H >= 1"),
        ((1, 0, 1.0), "d >= 1"),
        ((1, 2, 0.0), "regulariser"),
        ((1, 2, float("nan")), "regulariser"),
    ],
)
def test_bad_sizes(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        new_ridge(*arguments)
    with pytest.raises(ValueError, match="refactor_every"):
        new_ridge(1, 1, 1.0, refactor_every=0)
