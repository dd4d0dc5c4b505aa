"""Acting on a few observations against NumPy on random widths and masks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thrifty.engine.forward import Perceptron
from thrifty.engine.layout import Arena, LayerIndex


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 20), min_size=2, max_size=5),
    st.sampled_from([0.0, 0.1, 0.6, 1.0]),
    st.integers(0, 5),
)
def test_a_perceptron_is_its_masked_matrices(
    seed: int, widths: list[int], share: float, batch: int
) -> None:
    rng = np.random.default_rng(seed)
    indices = [LayerIndex.of(rng.random((out, into)) < share) for into, out in pairwise(widths)]
    arena = Arena({"first": indices, "second": indices}, targets=("second",))
    arena.params[:] = rng.normal(size=arena.size)
    x = rng.normal(size=(batch, widths[0])).astype(np.float32)
    for network in ("first", "second", "second_target"):
        expected = x
        for number in range(len(indices)):
            weight, bias = arena.read(arena.params, network, number)
            expected = np.maximum(expected, 0) if number else expected
            expected = expected @ weight.T + bias
        ours = Perceptron(arena, network)(x)
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_other_types_sizes_and_strides_are_refused() -> None:
    arena = Arena({"net": [LayerIndex.of(np.ones((2, 3), np.bool_))]}, targets=())
    perceptron = Perceptron(arena, "net")
    right, noise = np.zeros((1, 3), np.float32), np.zeros((1, 2), np.float32)
    for wrong in (
        right.astype(np.float64),
        np.zeros((1, 6), np.float32)[:, ::2],
        right[:, :2].copy(),  # compiled code would read beyond
        np.zeros((1, 4), np.float32),
        right[0],
    ):
        with pytest.raises(AssertionError):
            perceptron(wrong)
        with pytest.raises(AssertionError):
            perceptron.act(wrong, noise, np.float32(0.0))
    for wrong in (noise.astype(np.float64), noise[:, :1], np.zeros((2, 2), np.float32)):
        with pytest.raises(AssertionError):
            perceptron.act(right, wrong, np.float32(0.0))
