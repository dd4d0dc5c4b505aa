"""Rows of the tile against NumPy and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from thrifty.engine.cache import COMPILE
from thrifty.engine.rows import (
    add_shifted_log_density,
    clamped_rows,
    gather_rows,
    normalise_rows,
    shifted_log_density_slopes,
    through_normalised_rows,
)
from thrifty.engine.vector import LANES


@njit(**COMPILE)
def gather(tile, row, count, data, column, places):  # type: ignore[no-untyped-def]
    gather_rows(tile, row, count, data, column, places)


@pytest.mark.parametrize("count", [1, 3, 4, 8, 15, 16, 17, 40])
@pytest.mark.parametrize("lanes", [LANES, 50, 16, 7])
def test_a_gather_is_a_transposed_selection_and_zeros(count: int, lanes: int) -> None:
    """Against numpy; rows beside the wanted ones and beyond the capacity's end are not touched."""
    rng = np.random.default_rng(count)
    data = rng.standard_normal((30, 3 + count)).astype(np.float32)  # the last column is the last
    places = rng.integers(0, 300, lanes)
    tile = np.full((count + 4) * LANES, 7.0, np.float32)
    gather(tile, 2, count, data, 3, places)
    rows = tile.reshape(-1, LANES)
    np.testing.assert_array_equal(rows[2 : 2 + count, :lanes], data[places % 30, 3:].T)
    assert (rows[2 : 2 + count, lanes:] == 0).all()
    assert (rows[:2] == 7).all()
    assert (rows[2 + count :] == 7).all()


@njit(**COMPILE)
def normalise(x, y, inverse, mean, gain, offset):  # type: ignore[no-untyped-def]
    normalise_rows(x, y, inverse, mean, gain, offset)


@njit(**COMPILE)
def through_normalised(x, dy, dx, inverse, first, second, gain):  # type: ignore[no-untyped-def]
    through_normalised_rows(x, dy, dx, inverse, first, second, gain)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1.0, 100.0]))
def test_layer_norm_and_its_reverse(n: int, seed: int, size: float) -> None:
    """Against torch in float64, sample by sample, also of one feature and of equal ones."""
    rng = np.random.default_rng(seed)
    x = (size * rng.normal(size=(n, LANES)) + rng.normal(size=LANES)).astype(np.float32)
    x[:, 3] = 0.5  # a deviation of 0
    dy = rng.normal(size=(n, LANES)).astype(np.float32)
    gain, offset = (rng.normal(size=n).astype(np.float32) for _ in range(2))

    inputs = torch.from_numpy(x.T.astype(np.float64)).requires_grad_()
    weights = [torch.from_numpy(v.astype(np.float64)) for v in (gain, offset)]
    affine = torch.nn.functional.layer_norm(inputs, (n,), *weights, eps=1e-5)
    (expected,) = torch.autograd.grad(affine, inputs, torch.from_numpy(dy.T.astype(np.float64)))

    values, (y, dx) = x.ravel().copy(), np.full((2, n * LANES), np.nan, np.float32)
    inverse, first, second = (np.full(LANES, np.nan, np.float32) for _ in range(3))
    normalise(values, y, inverse, first, gain, offset)
    through_normalised(values, dy.ravel(), dx, inverse, first, second, gain)
    # Rounding of x, as large as |x| 1e-7, is divided by the deviation (at least sqrt(1e-5)).
    atol = 2e-3 if size < 1.0 else 2e-4
    forward = affine.detach().numpy().T
    np.testing.assert_allclose(y.reshape(n, LANES), np.maximum(forward, 0.0), rtol=1e-4, atol=atol)
    close = atol * float(inverse.max())
    np.testing.assert_allclose(dx.reshape(n, LANES), expected.numpy().T, rtol=1e-3, atol=close)


@njit(**COMPILE)
def shifted_density(noise, log_std, x, total, shift):  # type: ignore[no-untyped-def]
    add_shifted_log_density(noise, log_std, x, total, shift)


@njit(**COMPILE)
def shifted_slopes(up, x, log_std_grad, x_grad, shift, add):  # type: ignore[no-untyped-def]
    shifted_log_density_slopes(up, x, log_std_grad, x_grad, shift, add, add)


@pytest.mark.parametrize("shift", [1e-6, 1e-3, 0.5])
def test_a_shifted_log_density_and_its_slopes(shift: float) -> None:
    """Against torch in float64, far into the tails of the tanh."""
    x = np.linspace(-12, 12, LANES).astype(np.float32)
    rng = np.random.default_rng(0)
    noise, log_std, up, earlier = (rng.normal(size=LANES).astype(np.float32) for _ in range(4))
    inputs = torch.from_numpy(x.astype(np.float64)).requires_grad_()
    slope = 1.0 / torch.cosh(inputs) ** 2
    density = (
        -0.5 * torch.from_numpy(noise.astype(np.float64)) ** 2
        - torch.from_numpy(log_std.astype(np.float64))
        - 0.5 * np.log(2.0 * np.pi)
        - torch.log(slope + shift)
    )
    (expected,) = torch.autograd.grad(density, inputs, torch.from_numpy(up.astype(np.float64)))
    total = earlier.copy()
    shifted_density(noise, log_std, x, total, np.float32(shift))
    np.testing.assert_allclose(total, earlier + density.detach().numpy(), rtol=1e-5, atol=1e-5)
    for add in (False, True):
        of_std, of_x = earlier.copy(), earlier.copy()
        shifted_slopes(up, x, of_std, of_x, np.float32(shift), add)
        base = earlier if add else 0.0
        np.testing.assert_allclose(of_std, base - up, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(of_x, base + expected.numpy(), rtol=1e-5, atol=1e-5)


@njit(**COMPILE)
def clamped(x, y, low, high):  # type: ignore[no-untyped-def]
    clamped_rows(x, y, low, high)


def test_clamped_rows() -> None:
    x, y = np.float32([-2, -1, 0.5, 1, 3]), np.empty(5, np.float32)
    clamped(x, y, np.float32(-1), np.float32(1))
    assert y.tolist() == [-1, -1, 0.5, 1, 1]
