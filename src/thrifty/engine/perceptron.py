"""A whole perceptron forward and backward, one compiled call each, for the torch modules.

A perceptron is a table with one line a layer (columns below; addresses of its index arrays, places
of its values in flat vectors). A tile of LANES samples passes through all layers before the next,
its activations below one another: inputs, first hidden layer, ..., outputs. Rows of samples, as
torch holds them, are turned into tiles and back in blocks of registers.

Callers own validated, contiguous float32 arrays and pass addresses (see modules.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from thrifty.engine.cache import COMPILE, entry
from thrifty.engine.isa import TARGET
from thrifty.engine.vector import (
    LANES,
    forward_row,
    input_gradient_row,
    row_sum,
    weight_gradient_row,
)

OUT, INPUTS, RELU, STARTS, COLS, COL_STARTS, ROWS, PERM, VALUES, BIAS = range(10)
"""Columns of a table: widths, whether ReLU follows, five addresses, the layer's first value in the
flat values and its first bias in the flat biases (-1: none)."""
COLUMNS = 10
ROW_BYTES = LANES * 4
"""Bytes of a tile row."""
_BLOCK = TARGET.width
_ANY = 1 << 31  # length of an array of which only the address is known


@intrinsic
def floats_at(typingctx: Any, address: Any) -> Any:
    """An address as a pointer to float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), codegen


@intrinsic
def ints_at(typingctx: Any, address: Any) -> Any:
    """An address as a pointer to int32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.int32)(types.int64), codegen


@intrinsic
def transpose_square(
    typingctx: Any, source: Any, source_step: Any, goal: Any, goal_step: Any
) -> Any:
    """Transpose a square block of _BLOCK floats a side between addresses; steps in bytes."""
    signature = types.void(types.int64, types.int64, types.int64, types.int64)
    vector = ir.VectorType(ir.FloatType(), _BLOCK)
    i32, i64 = ir.IntType(32), ir.IntType(64)

    def place(builder: ir.IRBuilder, base: ir.Value, step: ir.Value, row: int) -> ir.Value:
        address = builder.add(base, builder.mul(step, ir.Constant(i64, row)))
        return builder.inttoptr(address, vector.as_pointer())

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        source, source_step, goal, goal_step = args
        rows = [
            builder.load(place(builder, source, source_step, k), align=4) for k in range(_BLOCK)
        ]
        # Swap the off-diagonal quarters of ever smaller squares: bit by bit of row and column.
        half = _BLOCK // 2
        while half:
            low = [k if not k & half else _BLOCK + k - half for k in range(_BLOCK)]
            high = [k + half if not k & half else _BLOCK + k for k in range(_BLOCK)]
            for k in range(_BLOCK):
                if not k & half:
                    a, b = rows[k], rows[k + half]
                    for row, picks in ((k, low), (k + half, high)):
                        mask = ir.Constant(ir.VectorType(i32, _BLOCK), picks)
                        rows[row] = builder.shuffle_vector(a, b, mask)
            half //= 2
        for k, row in enumerate(rows):
            builder.store(row, place(builder, goal, goal_step, k), align=4)
        return context.get_dummy_value()

    return signature, codegen


@njit(**COMPILE)
def to_tile(rows, tile, width, lanes):
    """Copy ``lanes`` rows of ``width`` floats into a tile [width, LANES]; the rest becomes 0."""
    whole = lanes - lanes % _BLOCK
    if width < _BLOCK:
        whole = 0
    source, goal = carray(floats_at(rows), (_ANY,)), carray(floats_at(tile), (_ANY,))
    for lane in range(0, whole, _BLOCK):
        column = 0
        while column < width:
            # The last block may overlap the one before, which writes some floats twice.
            column = min(column, width - _BLOCK)
            from_row = rows + (lane * width + column) * 4
            transpose_square(from_row, width * 4, tile + column * ROW_BYTES + lane * 4, ROW_BYTES)
            column += _BLOCK
    for column in range(width):
        for lane in range(whole, lanes):
            goal[column * LANES + lane] = source[lane * width + column]
        for lane in range(lanes, LANES):
            goal[column * LANES + lane] = np.float32(0.0)


@njit(**COMPILE)
def from_tile(tile, rows, width, lanes):
    """Copy the first ``lanes`` samples of a tile [width, LANES] into rows of ``width`` floats."""
    whole = lanes - lanes % _BLOCK
    if width < _BLOCK:
        whole = 0
    source, goal = carray(floats_at(tile), (_ANY,)), carray(floats_at(rows), (_ANY,))
    for lane in range(0, whole, _BLOCK):
        column = 0
        while column < width:
            column = min(column, width - _BLOCK)
            to_row = rows + (lane * width + column) * 4
            transpose_square(tile + column * ROW_BYTES + lane * 4, ROW_BYTES, to_row, width * 4)
            column += _BLOCK
    for lane in range(whole, lanes):
        for column in range(width):
            goal[lane * width + column] = source[column * LANES + lane]


@njit(**COMPILE)
def linear(line, values, biases, x, y):
    """Fill the rows of y with those of a layer's outputs, ReLU included.

    Args:
        line: of the layer in a table, int64 [COLUMNS].
        values: address of the flat link values; ``biases`` likewise.
        x: address of a tile of inputs.
        y: address of a tile of outputs, written.
    """
    starts = carray(ints_at(line[STARTS]), (_ANY,))
    bias = carray(floats_at(biases), (_ANY,))
    place = line[BIAS]
    for r in range(line[OUT]):
        forward_row(
            x,
            y + r * ROW_BYTES,
            values + line[VALUES] * 4,
            line[COLS],
            np.int64(starts[r]),
            np.int64(starts[r + 1]),
            bias[place + r] if place >= 0 else np.float32(0.0),
            line[RELU] != 0,
        )


@njit(**COMPILE)
def weight_gradient(line, dy, x, d_values, d_biases):
    """Add the gradients of a layer's values and biases, from tiles of inputs and of d outputs."""
    starts = carray(ints_at(line[STARTS]), (_ANY,))
    d_bias = carray(floats_at(d_biases), (_ANY,))
    place = line[BIAS]
    for r in range(line[OUT]):
        weight_gradient_row(
            dy + r * ROW_BYTES,
            x,
            d_values + line[VALUES] * 4,
            line[COLS],
            np.int64(starts[r]),
            np.int64(starts[r + 1]),
        )
        if place >= 0:
            d_bias[place + r] += row_sum(dy + r * ROW_BYTES)


@njit(**COMPILE)
def input_gradient(line, values, dy, dx, gate, gated, add):
    """Fill the rows of dx, or add to them, with W' dy; 0 where ``gated`` and the gate is shut."""
    col_starts = carray(ints_at(line[COL_STARTS]), (_ANY,))
    for c in range(line[INPUTS]):
        input_gradient_row(
            dy,
            dx + c * ROW_BYTES,
            values + line[VALUES] * 4,
            line[PERM],
            line[ROWS],
            np.int64(col_starts[c]),
            np.int64(col_starts[c + 1]),
            gate + c * ROW_BYTES,
            gated,
            add,
        )


@entry
def forward(table, values, biases, x, y, batch, tiles, step):
    """Fill y with perceptron(x); the activations of each tile stay in ``tiles``.

    Args:
        table: int64 [layers, COLUMNS].
        values: address of the flat link values; ``biases`` likewise.
        x: address of rows of samples [batch, inputs].
        y: address of rows of samples [batch, outputs], written.
        batch: samples.
        tiles: address of the first tile's activations.
        step: bytes from one tile to the next; 0 where they are not needed afterwards.
    """
    layers = table.shape[0]
    inputs, outputs = table[0, INPUTS], table[layers - 1, OUT]
    for first in range(0, batch, LANES):
        lanes = min(LANES, batch - first)
        at = tiles + (first // LANES) * step
        to_tile(x + first * inputs * 4, at, inputs, lanes)
        for layer in range(layers):
            above = at + table[layer, INPUTS] * ROW_BYTES
            linear(table[layer], values, biases, at, above)
            at = above
        from_tile(at, y + first * outputs * 4, outputs, lanes)


@entry
def backward(table, values, dy, batch, tiles, step, scratch, width, wanted, d_values, d_biases, dx):
    """Gradients of the flat values and biases, and of the inputs, from those of the outputs.

    Args:
        table: int64 [layers, COLUMNS].
        values: address of the flat link values.
        dy: address of rows of samples [batch, outputs].
        batch: samples.
        tiles: address of the first tile's activations, as ``forward`` left them.
        step: bytes from one tile to the next.
        scratch: address of two tiles of ``width`` rows.
        width: of the widest layer.
        wanted: whether the next two are; arrays without elements have no address to tell it.
        d_values: address of the values' gradient, zeros at first.
        d_biases: address of the biases' gradient, zeros at first.
        dx: address of rows of samples [batch, inputs], written; 0: not wanted.
    """
    layers = table.shape[0]
    inputs, outputs = table[0, INPUTS], table[layers - 1, OUT]
    height = 0
    for layer in range(layers - 1):
        height += table[layer, INPUTS]
    other = scratch + width * ROW_BYTES
    for first in range(0, batch, LANES):
        lanes = min(LANES, batch - first)
        upper, lower = scratch, other
        to_tile(dy + first * outputs * 4, upper, outputs, lanes)
        at = tiles + (first // LANES) * step + height * ROW_BYTES
        for back in range(layers):
            layer = layers - 1 - back
            if wanted:
                weight_gradient(table[layer], upper, at, d_values, d_biases)
            if layer > 0 or dx != 0:
                gated = layer > 0 and table[layer - 1, RELU] != 0
                input_gradient(table[layer], values, upper, lower, at, gated, False)
                upper, lower = lower, upper
            if layer > 0:
                at -= table[layer - 1, INPUTS] * ROW_BYTES
        if dx != 0:
            from_tile(upper, dx + first * inputs * 4, inputs, lanes)
