"""The compiled random numbers against their NumPy reference, and the reference by known values."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from thrifty.engine import noise

COMPILE = {"error_model": "numpy", "fastmath": {"contract"}}


@njit(**COMPILE)
def words_of(key, element, update):
    return noise.philox(key, element, update)


@njit(**COMPILE)
def fill_normals(out, key, update):
    for i in range(len(out)):
        out[i] = noise.normal32(key, i, update)


@njit(**COMPILE)
def fill_indices(out, key, update, below):
    for i in range(len(out)):
        out[i] = noise.index32(key, i, update, below)


@njit(**COMPILE)
def apply_functions(x, tanh, exp, log):
    for i in range(len(x)):
        tanh[i] = noise.tanh32(x[i])
        exp[i] = noise.exp32(x[i])
        log[i] = noise.log32(exp[i])


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0), 0, (0xFF1DAE59, 0x6CD10DF2)),
        ((0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFF, (0x2C3F628B, 0xAB4FD7AD)),
        ((0x243F6A88, 0x85A308D3), 0x13198A2E, (0xDD7CE038, 0xF62A4C12)),
    ],
)
def test_the_generator_gives_the_published_words(
    counter: tuple[int, int], key: int, answer: tuple[int, int]
) -> None:
    """Known answers of Philox 2x32-10 (Random123's kat_vectors): all bits 0, all 1, those of pi."""
    assert tuple(map(int, words_of(key, *counter))) == answer
    if counter[0] == 0:  # the reference counts from there
        left, right = noise.words(key, counter[1], 1)
        assert (int(left[0]), int(right[0])) == answer


def test_the_reference_draws_the_same_words() -> None:
    for key, update in ((5, 7), (0xFFFFFFFF, 0xFFFFFFFF), (noise.key_of(1, 2), 123_456)):
        left, right = noise.words(key, update, 300)
        compiled = [words_of(key, element, update) for element in range(300)]
        assert compiled == list(zip(left.tolist(), right.tolist(), strict=True))


def test_normals_and_indices_are_the_reference() -> None:
    key = noise.key_of(3, 1)
    out = np.zeros(5_000, np.float32)
    fill_normals(out, key, 11)
    assert np.abs(out - noise.normals(key, 11, 5_000)).max() < 4e-6
    for below in (1, 7, 100_000):
        drawn = np.zeros(5_000, np.int64)
        fill_indices(drawn, key, 11, below)
        assert np.array_equal(drawn, noise.indices(key, 11, 5_000, below))
        assert (drawn.min() >= 0, drawn.max() < below) == (True, True)


def test_normals_are_normal() -> None:
    draws = np.concatenate(
        [noise.normals(noise.key_of(0, 1), update, 10_000) for update in range(20)]
    )
    # 200,000 draws: standard errors 0.0022 of the mean, 0.0016 of the deviation, 0.011 of kurtosis.
    assert abs(draws.mean()) < 0.01
    assert abs(draws.std() - 1.0) < 0.008
    assert abs((draws.astype(np.float64) ** 4).mean() - 3.0) < 0.06


def test_streams_seeds_and_updates_differ() -> None:
    base = noise.normals(noise.key_of(0, 0), 0, 100)
    for key, update in ((noise.key_of(0, 1), 0), (noise.key_of(1, 0), 0), (noise.key_of(0, 0), 1)):
        assert not np.array_equal(base, noise.normals(key, update, 100))


def test_elementary_functions() -> None:
    x = np.linspace(-20, 20, 40_001).astype(np.float32)
    tanh, exp, log = (np.zeros_like(x) for _ in range(3))
    apply_functions(x, tanh, exp, log)
    exact = x.astype(np.float64)
    assert np.abs(tanh - np.tanh(exact)).max() < 3e-7
    assert np.abs(exp / np.exp(exact) - 1).max() < 3e-7
    assert np.abs(log - exact).max() == pytest.approx(0.0, abs=3e-6)
