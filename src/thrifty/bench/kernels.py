"""The three products of a sparse layer beside dense ones, by layer size and sparsity.

forward Y = W X + b with ReLU, input gradient dX = W' dY with the gate, weight gradient dW at the
links only; 256 samples, one thread, uniformly random masks, timed in turn with ``torch.mm`` of the
same sizes in float32 and bfloat16. Useful GFLOP/s count the links only, twice per sample. Each
side has its own best layout of activations, and nobody pays for bringing them into it.

No mark: the kernels answer to the updates (``bench td3``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from thrifty.bench.cases import BATCH, one_core
from thrifty.bench.schema import Row
from thrifty.bench.timing import Seconds, interleave, summarise
from thrifty.bench.updates import against
from thrifty.engine import vector
from thrifty.engine.layout import LayerIndex
from thrifty.engine.vector import LANES

LAYERS = ((17, 256), (365, 256), (256, 256), (1024, 1024))
"""(inputs, outputs)."""
SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.97)
METRIC = "useful_gflops_per_second"
SPARSE, DENSE, DENSE_BF16 = "thrifty kernel", "torch.mm", "torch.mm, bf16"
PRODUCTS = ("forward", "input gradient", "weight gradient")
TILES = BATCH // LANES
_FLOPS_OF_A_SAMPLE = 5e8  # dense operations that a sample makes at least
# Known to Numba alone, with other arguments than to a type checker.
forward_row: Any = vector.forward_row
input_gradient_row: Any = vector.input_gradient_row
weight_gradient_row: Any = vector.weight_gradient_row
_COMPILE: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract", "nsz"}}


def measure(
    *,
    rounds: int = 30,
    layers: tuple[tuple[int, int], ...] = LAYERS,
    sparsities: tuple[float, ...] = SPARSITIES,
) -> list[Row]:
    """Measure all sizes; takes about two minutes.

    Args:
        rounds: samples of each.
        layers: (inputs, outputs).
        sparsities: shares of zero weights.

    Returns:
        Rows in useful GFLOP/s (with the ratio of those), and in microseconds per product (with the
        ratio of times, below 1 where the sparse product is faster).
    """
    rows: list[Row] = []
    with one_core():
        for inputs, outputs in layers:
            for product in PRODUCTS:
                rows += _measure(inputs, outputs, product, sparsities, rounds)
    return rows


class SparseLayer:
    """A layer with random links, its activations in tiles, and its three products.

    Args:
        inputs: I.
        outputs: O.
        sparsity: share of zero weights.
    """

    def __init__(self, inputs: int, outputs: int, sparsity: float) -> None:
        rng = np.random.default_rng(0)
        self.mask = rng.random((outputs, inputs)) >= sparsity
        self.index = LayerIndex.of(self.mask)
        self.weight = (rng.standard_normal((outputs, inputs)) * self.mask).astype(np.float32)
        self.values = self.weight[self.mask]
        self.bias = rng.standard_normal(outputs).astype(np.float32)
        shape = (TILES, -1, LANES)
        self.x, self.dy, self.y, self.dx = (
            _on_a_cache_line(rng.standard_normal(BATCH * size)).reshape(shape)
            for size in (inputs, outputs, outputs, inputs)
        )
        self.gradient = np.zeros_like(self.values)

    def forward(self) -> None:
        """Compute y from x."""
        at = self.index
        _forward(self.x, self.y, self.values, self.bias, at.starts, at.cols)

    def input_gradient(self) -> None:
        """Compute dx from dy, gated by x."""
        at = self.index
        _input_gradient(self.dy, self.dx, self.x, self.values, at.col_starts, at.perm, at.rows)

    def weight_gradient(self) -> None:
        """Add the links' gradients."""
        _weight_gradient(self.dy, self.x, self.gradient, self.index.starts, self.index.cols)


def _on_a_cache_line(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Copy numbers to where the engine has its tiles: at an address that 64 divides."""
    room = np.empty(len(values) + 16, np.float32)
    begin = (-room.ctypes.data % 64) // 4
    room[begin : begin + len(values)] = values
    return room[begin : begin + len(values)]


def _forward_of(x: Any, y: Any, values: Any, bias: Any, starts: Any, cols: Any) -> None:
    for t in range(len(x)):
        source, into = x[t].ctypes.data, y[t].ctypes.data
        for r in range(len(bias)):
            forward_row(
                source,
                into + r * LANES * 4,
                values.ctypes.data,
                cols.ctypes.data,
                np.int64(starts[r]),
                np.int64(starts[r + 1]),
                bias[r],
                True,
            )


def _input_gradient_of(
    dy: Any, dx: Any, x: Any, values: Any, starts: Any, perm: Any, rows: Any
) -> None:
    for t in range(len(dy)):
        source, into, gate = dy[t].ctypes.data, dx[t].ctypes.data, x[t].ctypes.data
        for c in range(len(starts) - 1):
            input_gradient_row(
                source,
                into + c * LANES * 4,
                values.ctypes.data,
                perm.ctypes.data,
                rows.ctypes.data,
                np.int64(starts[c]),
                np.int64(starts[c + 1]),
                gate + c * LANES * 4,
                True,
                False,
            )


def _weight_gradient_of(dy: Any, x: Any, gradient: Any, starts: Any, cols: Any) -> None:
    for t in range(len(x)):
        above, source = dy[t].ctypes.data, x[t].ctypes.data
        for r in range(len(starts) - 1):
            weight_gradient_row(
                above + r * LANES * 4,
                source,
                gradient.ctypes.data,
                cols.ctypes.data,
                np.int64(starts[r]),
                np.int64(starts[r + 1]),
            )


_forward: Any = njit(**_COMPILE)(_forward_of)
_input_gradient: Any = njit(**_COMPILE)(_input_gradient_of)
_weight_gradient: Any = njit(**_COMPILE)(_weight_gradient_of)


def _repeated(call: Callable[[], object], times: int) -> Callable[[], None]:
    def sample() -> None:
        for _ in range(times):
            call()

    return sample


def _dense(inputs: int, outputs: int, product: str, dtype: torch.dtype) -> Callable[[], object]:
    """The dense product into a buffer, samples in rows; no bias, no ReLU."""
    x, dy = torch.randn(BATCH, inputs).to(dtype), torch.randn(BATCH, outputs).to(dtype)
    weight = torch.randn(outputs, inputs).to(dtype)
    a, b = {
        "forward": (x, weight.t()),
        "input gradient": (dy, weight),
        "weight gradient": (dy.t(), x),
    }[product]
    out = torch.empty(len(a), b.shape[1], dtype=dtype)
    return lambda: torch.mm(a, b, out=out)


def _measure(
    inputs: int, outputs: int, product: str, sparsities: tuple[float, ...], rounds: int
) -> list[Row]:
    flops = 2.0 * BATCH * inputs * outputs
    times = max(1, round(_FLOPS_OF_A_SAMPLE / flops))
    layers = {sparsity: SparseLayer(inputs, outputs, sparsity) for sparsity in sparsities}
    actions: dict[str, Callable[[], None]] = {
        DENSE: _repeated(_dense(inputs, outputs, product, torch.float32), times),
        DENSE_BF16: _repeated(_dense(inputs, outputs, product, torch.bfloat16), times),
    }
    for sparsity, layer in layers.items():
        call = getattr(layer, product.replace(" ", "_"))
        actions[f"{SPARSE} {sparsity}"] = _repeated(call, times)
    samples = interleave(actions, rounds=rounds)
    case = f"{inputs}->{outputs}, {product}"
    rows: list[Row] = []
    for name in (DENSE, DENSE_BF16):
        rows += _rows(case, name, samples[name] / times, flops, 0.0)
    for sparsity, layer in layers.items():
        useful = 2.0 * BATCH * layer.index.nnz
        seconds = samples[f"{SPARSE} {sparsity}"] / times
        rows += _rows(case, SPARSE, seconds, useful, sparsity)
    return against(rows, SPARSE, [DENSE, DENSE_BF16])


def _rows(
    case: str, implementation: str, seconds: Seconds, flops: float, sparsity: float
) -> list[Row]:
    return [
        Row(
            case=case,
            implementation=implementation,
            sparsity=sparsity,
            metric=metric,
            statistic=statistic,
            value=value,
            unit=unit,
        )
        for statistic, taken in summarise(seconds).items()
        for metric, value, unit in (
            (METRIC, flops / taken / 1e9, "GFLOP/s"),
            ("time per product", taken * 1e6, "us"),
        )
    ]
