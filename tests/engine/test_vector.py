"""The kernels against NumPy on random masks, with empty rows and columns and full layers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numba.core.runtime import _nrt_python, rtsys

from thrifty.engine import isa
from thrifty.engine.isa import TARGET, TARGETS
from thrifty.engine.layout import LayerIndex
from thrifty.engine.panels import dense_gradient
from thrifty.engine.vector import (
    LANES,
    forward_row,
    input_gradient_row,
    row_sum,
    weight_gradient_row,
)

ROW = 4 * LANES


@njit
def forward(x, y, values, starts, cols, bias, relu):
    for r in range(len(bias)):
        forward_row(
            x.ctypes.data,
            y.ctypes.data + r * ROW,
            values.ctypes.data,
            cols.ctypes.data,
            np.int64(starts[r]),
            np.int64(starts[r + 1]),
            bias[r],
            relu,
        )


@njit
def input_gradient(dy, dx, values, perm, rows, starts, gate, gated, add):
    for c in range(len(starts) - 1):
        input_gradient_row(
            dy.ctypes.data,
            dx.ctypes.data + c * ROW,
            values.ctypes.data,
            perm.ctypes.data,
            rows.ctypes.data,
            np.int64(starts[c]),
            np.int64(starts[c + 1]),
            gate.ctypes.data + c * ROW,
            gated,
            add,
        )


@njit
def weight_gradient(dy, x, grads, starts, cols):
    for r in range(len(starts) - 1):
        weight_gradient_row(
            dy.ctypes.data + r * ROW,
            x.ctypes.data,
            grads.ctypes.data,
            cols.ctypes.data,
            np.int64(starts[r]),
            np.int64(starts[r + 1]),
        )


@njit
def row_sums(x, out):
    for r in range(len(out)):
        out[r] = row_sum(x.ctypes.data + r * ROW)


@st.composite
def layers(draw):
    out, inputs = draw(st.integers(1, 9)), draw(st.integers(1, 23))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = rng.random((out, inputs)) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    if draw(st.booleans()):
        mask[0] = False  # an empty row
    if draw(st.booleans()):
        mask[:, 0] = False  # an empty column
    return rng, mask


@settings(max_examples=40)
@given(layers(), st.booleans(), st.booleans(), st.booleans())
def test_a_layer_is_its_masked_matrix(layer, relu, gated, add):
    rng, mask = layer

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    out, inputs = mask.shape
    index = LayerIndex.of(mask)
    weight, bias = normal(out, inputs) * mask, normal(out)
    values = weight[mask]
    x, dy, earlier = normal(inputs, LANES), normal(out, LANES), normal(inputs, LANES)
    close = {"rtol": 1e-5, "atol": 1e-4}

    y = np.full((out, LANES), np.nan, np.float32)
    forward(x, y, values, index.starts, index.cols, bias, relu)
    expected = weight @ x + bias[:, None]
    np.testing.assert_allclose(y, np.maximum(expected, 0) if relu else expected, **close)

    dx = earlier.copy()
    input_gradient(dy, dx, values, index.perm, index.rows, index.col_starts, x, gated, add)
    flow = (weight.T @ dy) * ((x > 0) if gated else 1)
    np.testing.assert_allclose(dx, flow + (earlier if add else 0), **close)

    grads = normal(len(values))
    before = grads.copy()
    weight_gradient(dy, x, grads, index.starts, index.cols)
    np.testing.assert_allclose(grads, before + (dy @ x.T)[mask], **close)

    sums = np.zeros(out, np.float32)
    row_sums(dy, sums)
    np.testing.assert_allclose(sums, dy.sum(axis=1), **close)


@njit
def gradient_of_everything(x, dy, grads, every, out, inputs, panel):
    dense_gradient(x, dy, grads, every, out, inputs, panel)


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 150), st.integers(0, 2**32 - 1))
def test_a_dense_gradient_is_a_product(out: int, inputs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, dy = (rng.normal(size=(n, LANES)).astype(np.float32) for n in (inputs, out))
    space = rng.normal(size=out * inputs + 16).astype(np.float32)
    before, every = space.copy(), np.arange(inputs, dtype=np.int32)
    panel = np.full((LANES, LANES), np.nan, np.float32)
    addresses = [array.ctypes.data for array in (x, dy, space, every)]
    gradient_of_everything(*addresses, out, inputs, panel.ctypes.data)
    expected = before[: out * inputs].reshape(out, inputs) + dy @ x.T
    grads = space[: out * inputs].reshape(out, inputs)
    np.testing.assert_allclose(grads, expected, rtol=1e-5, atol=1e-4)
    assert np.array_equal(space[out * inputs :], before[out * inputs :])


@pytest.fixture
def counted() -> Iterator[Callable[[], int]]:
    """How many blocks of memory compiled code has taken so far."""
    on = bool(_nrt_python.memsys_stats_enabled())
    _nrt_python.memsys_enable_stats()
    yield lambda: rtsys.get_allocation_stats().alloc
    if not on:
        _nrt_python.memsys_disable_stats()


def test_a_dense_gradient_takes_no_memory(counted: Callable[[], int]) -> None:
    """Memory of its own would be freed while its address is still in use: after the last line that
    names the array.
    """
    x, dy, grads = (np.ones((n, LANES), np.float32) for n in (40, 3, 3))
    every, panel = np.arange(40, dtype=np.int32), np.empty((LANES, LANES), np.float32)
    addresses = [array.ctypes.data for array in (x, dy, grads, every)]
    gradient_of_everything(*addresses, 3, 40, panel.ctypes.data)  # compiled
    before = counted()
    gradient_of_everything(*addresses, 3, 40, panel.ctypes.data)
    assert counted() == before
    row_sums(x, grads[0, :1])  # arrays cost some: the count does count
    assert counted() > before


@pytest.mark.parametrize("name", list(TARGETS))
def test_every_target_is_right(name: str) -> None:
    order = list(TARGETS)
    if order.index(name) < order.index(TARGET.name):
        pytest.skip(f"this processor only runs {TARGET.name}")
    blocks = Path(__file__).with_name("test_panels.py")
    with_rows = Path(__file__).with_name("test_rows.py")
    passes(
        name,
        f"{Path(__file__)}::test_a_layer_is_its_masked_matrix",
        f"{Path(__file__)}::test_a_dense_gradient_is_a_product",
        f"{Path(__file__)}::test_a_dense_gradient_takes_no_memory",
        f"{blocks}::test_blocks_are_their_masked_matrix",
        f"{with_rows}::test_a_gather_is_a_transposed_selection_and_zeros",
    )


def passes(name: str, *tests: str) -> None:
    """Run tests in a process of their own, on a forced target."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        env={**os.environ, "THRIFTY_ISA": name},
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", list(TARGETS)[1:])
def test_whole_updates_are_right_on_every_target(name: str) -> None:
    order = list(TARGETS)
    if order.index(name) <= order.index(TARGET.name):
        pytest.skip("what the other tests run on, or beyond this processor")
    tests = Path(__file__).parents[1]
    passes(
        name,
        f"{tests / 'control' / 'test_fused.py'}::test_td3",
        f"{tests / 'control' / 'test_fused.py'}::test_sac",
        f"{tests / 'engine' / 'test_modules.py'}::"
        "test_outputs_and_gradients_are_those_of_the_masked_model",
        f"{tests / 'engine' / 'test_optim.py'}::test_moments_decay_bit_by_bit",
        f"{tests / 'engine' / 'test_forward.py'}",
    )


@pytest.mark.parametrize(
    ("features", "target"),
    [
        ({"avx512f": True, "avx512vl": True, "avx2": True, "fma": True}, "avx512"),
        ({"avx512f": True, "avx512vl": False, "avx2": True, "fma": True}, "avx2"),
        ({"avx2": True, "fma": False}, "generic"),  # a call for each product would be slow
        ({"avx": True, "fma": False}, "generic"),
        ({"sse2": True}, "generic"),
        ({}, "generic"),
    ],
)
def test_the_processor_decides(features: dict[str, bool], target: str) -> None:
    assert isa.detect(features) == target


def test_other_machines_have_the_generic_target_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    for forced in ("", "generic"):
        monkeypatch.setenv("THRIFTY_ISA", forced)
        assert isa.choose().name == "generic"
    monkeypatch.setenv("THRIFTY_ISA", "avx2")
    with pytest.raises(ValueError, match="THRIFTY_ISA='avx2', but this processor only runs gen"):
        isa.choose()


def test_an_unknown_target_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import thrifty.engine.isa"],
        env={**os.environ, "THRIFTY_ISA": "avx1024"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "THRIFTY_ISA='avx1024': choose one of avx512, avx2, generic" in done.stderr
