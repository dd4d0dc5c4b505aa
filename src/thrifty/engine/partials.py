"""Gradients of weights summed over many tiles: partial sums of vectors, added up once at the end.

A sum over the lanes of a tile costs more than the products where a row has few links. Here every
link and every bias has WIDTH partial sums, to which each tile adds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from thrifty.engine.cache import COMPILE
from thrifty.engine.isa import TARGET
from thrifty.engine.perceptron import COLS, OUT, ROW_BYTES, STARTS, VALUES, floats_at, ints_at
from thrifty.engine.vector import (
    LANES,
    chunks,
    int_at,
    load,
    multiply_add,
    row_address,
    store,
)

WIDTH = TARGET.width
"""Partial sums of a number."""
SUM_BYTES = WIDTH * 4
"""Bytes of the partial sums of a number."""
_ANY = 1 << 31
_I64 = ir.IntType(64)


@intrinsic
def weight_partials_row(
    typingctx: Any, dy: Any, x: Any, partials: Any, cols: Any, start: Any, stop: Any
) -> Any:
    """Add dy x[cols[p]] to the WIDTH partial sums of each p in [start, stop); addresses.

    For sums over many tiles: what :func:`weight_gradient_row` adds up within each, a caller of this
    one adds up at the end.
    """
    signature = types.void(
        types.int64, types.int64, types.int64, types.int64, types.int64, types.int64
    )

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        dy, x, partials, cols, start, stop = args
        size = ir.Constant(_I64, SUM_BYTES)
        for lanes in chunks():
            upstream = [load(builder, dy, lane) for lane in lanes]
            with cgutils.for_range_slice(builder, start, stop, ir.Constant(_I64, 1), _I64) as (
                p,
                _,
            ):
                source = row_address(builder, x, int_at(builder, cols, p))
                place = builder.add(partials, builder.mul(p, size))
                total = load(builder, place, 0)
                for lane, value in zip(lanes, upstream, strict=True):
                    total = multiply_add(builder, value, load(builder, source, lane), total)
                store(builder, total, place, 0)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def row_partials(typingctx: Any, row: Any, partials: Any) -> Any:
    """Add the LANES floats at an address to WIDTH partial sums at another."""
    signature = types.void(types.int64, types.int64)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        row, partials = args
        total = load(builder, partials, 0)
        for lane in range(0, LANES, WIDTH):
            total = builder.fadd(total, load(builder, row, lane))
        store(builder, total, partials, 0)
        return context.get_dummy_value()

    return signature, codegen


@njit(**COMPILE)
def links_of(line):
    """Return how many links a layer has."""
    return np.int64(carray(ints_at(line[STARTS]), (_ANY,))[line[OUT]])


@njit(**COMPILE)
def add_layer(line, dy, x, links, biases):
    """Add a tile to the partial sums of a layer.

    Args:
        line: of the layer in a table.
        dy: address of a tile of slopes of outputs.
        x: address of a tile of inputs.
        links: address of the sums of all links of the flat values.
        biases: address of the sums of this layer's biases.
    """
    starts = carray(ints_at(line[STARTS]), (_ANY,))
    for r in range(line[OUT]):
        row = dy + r * ROW_BYTES
        begin, end = np.int64(starts[r]), np.int64(starts[r + 1])
        weight_partials_row(row, x, links + line[VALUES] * SUM_BYTES, line[COLS], begin, end)
        row_partials(row, biases + r * SUM_BYTES)


@njit(**COMPILE)
def add_up(partials, count, sums):
    """Fill ``count`` floats at an address with the sums of what stands at another."""
    parts, goal = carray(floats_at(partials), (_ANY,)), carray(floats_at(sums), (_ANY,))
    for p in range(count):
        total = np.float32(0.0)
        for k in range(WIDTH):
            total += parts[p * WIDTH + k]
        goal[p] = total
