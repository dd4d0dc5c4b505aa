"""Flat optimizer steps against torch's, and moments that decay without a gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from thrifty.engine.cache import COMPILE
from thrifty.engine.optim import BETA1, BETA2, adam, decay, polyak


@njit(**COMPILE)
def adam_step(params, grads, first, second, begin, end, step):  # type: ignore[no-untyped-def]
    adam(params, grads, first, second, begin, end, step, 3e-3, BETA1, BETA2, 1e-8, True)


@njit(**COMPILE)
def polyak_step(params, target, online, count, tau):  # type: ignore[no-untyped-def]
    polyak(params, target, online, count, tau)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_adam_is_torchs(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    begin, end = 2, 2 + size
    params = rng.normal(size=size + 5).astype(np.float32)
    before = params.copy()
    first, second = np.zeros_like(params), np.zeros_like(params)
    weight = torch.nn.Parameter(torch.from_numpy(params[begin:end].copy()))
    optimizer = torch.optim.Adam([weight], lr=3e-3, betas=(BETA1, BETA2))
    for step in range(1, 6):
        grads = (rng.normal(size=size + 5) * 10.0 ** rng.integers(-4, 2)).astype(np.float32)
        weight.grad = torch.from_numpy(grads[begin:end].copy())
        outside = grads.copy()
        adam_step(params, grads, first, second, begin, end, step)
        optimizer.step()
        assert not grads[begin:end].any()  # ready for the next update
        assert np.array_equal(grads[end:], outside[end:])
    np.testing.assert_allclose(params[begin:end], weight.detach().numpy(), rtol=1e-5, atol=1e-6)
    state = optimizer.state[weight]
    np.testing.assert_allclose(first[begin:end], state["exp_avg"].numpy(), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(second[begin:end], state["exp_avg_sq"].numpy(), rtol=1e-5, atol=1e-9)
    assert np.array_equal(params[:begin], before[:begin])
    assert np.array_equal(params[end:], before[end:])


def test_no_moment_is_left_that_is_slow_to_compute_with() -> None:
    """Without a gradient moments shrink by 0.9 and 0.999 a step: from 1 and 1e-36 they are below
    1e-37 after 809 and 2,302 steps (ln 1e-37 / ln 0.9, ln 0.1 / ln 0.999), and then 0.
    """
    smallest = np.finfo(np.float32).tiny
    params, grads = np.zeros((2, 5), np.float32)
    first, second = np.ones(5, np.float32), np.full(5, 1e-36, np.float32)
    first[1], grads[2] = -1.0, np.nan
    for step in range(1, 2_304):
        adam_step(params, grads, first, second, 0, 5, step + 10_000)
        for moment in (first, second):
            assert not ((moment != 0) & (np.abs(moment) < smallest)).any()
        lost = [not moment[[0, 1, 3, 4]].any() for moment in (first, second)]
        assert lost == [step >= 809, step >= 2_302], step
    assert np.isnan([params[2], first[2], second[2]]).all()


def test_polyak_by_hand() -> None:
    params = np.float32([1, 2, 3, 10, 20, 30])
    polyak_step(params, 3, 1, 2, 0.25)
    # 10 + (2 - 10) / 4 and 20 + (3 - 20) / 4; all else stays.
    assert params.tolist() == [1, 2, 3, 8, 15.75, 30]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=150),
    st.sampled_from([BETA1, BETA2]),
    st.integers(0, 4_000),
    st.integers(0, 4_000),
)
def test_moments_decay_bit_by_bit(values: list[float], beta: float, some: int, more: int) -> None:
    moment = np.float32(values)
    at_once, in_parts, by_steps = moment.copy(), moment.copy(), moment.copy()
    decay(at_once, beta, some + more)
    decay(in_parts, beta, some)
    decay(in_parts, beta, more)
    with np.errstate(under="ignore"):
        for _ in range(some + more):
            by_steps *= np.float32(beta)
            by_steps[np.abs(by_steps) <= np.float32(1e-37)] = 0.0
    assert np.array_equal(at_once, in_parts)
    if some + more:  # no step, no cut
        assert np.array_equal(at_once, by_steps)


def test_a_moment_decays_as_in_torch() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([weight], betas=(BETA1, BETA2))
    weight.grad = torch.tensor([1.0, -2.0, 0.0])
    optimizer.step()
    state = optimizer.state[weight]
    first, second = (state[name].numpy().copy() for name in ("exp_avg", "exp_avg_sq"))
    weight.grad.zero_()
    for _ in range(50):
        optimizer.step()
    decay(first, BETA1, 50)
    decay(second, BETA2, 50)
    np.testing.assert_allclose(first, state["exp_avg"].numpy(), rtol=1e-5)
    np.testing.assert_allclose(second, state["exp_avg_sq"].numpy(), rtol=1e-5)
    assert first[0] == pytest.approx(0.1 * 0.9**50, rel=1e-5)
