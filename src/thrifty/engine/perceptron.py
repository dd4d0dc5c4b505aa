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
_ROW = LANES * 4  # bytes of a tile row
_BLOCK = TARGET.width
_ANY = 1 << 31  # length of an array of which only the address is known


@intrinsic
def _floats(typingctx: Any, address: Any) -> Any:
    """An address as a pointer to float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), codegen


@intrinsic
def _ints(typingctx: Any, address: Any) -> Any:
    """An address as a pointer to int32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.int32)(types.int64), codegen


@intrinsic
def _transpose_block(
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
    source, goal = carray(_floats(rows), (_ANY,)), carray(_floats(tile), (_ANY,))
    for lane in range(0, whole, _BLOCK):
        column = 0
        while column < width:
            # The last block may overlap the one before, which writes some floats twice.
            column = min(column, width - _BLOCK)
            from_row = rows + (lane * width + column) * 4
            _transpose_block(from_row, width * 4, tile + column * _ROW + lane * 4, _ROW)
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
    source, goal = carray(_floats(tile), (_ANY,)), carray(_floats(rows), (_ANY,))
    for lane in range(0, whole, _BLOCK):
        column = 0
        while column < width:
            column = min(column, width - _BLOCK)
            to_row = rows + (lane * width + column) * 4
            _transpose_block(tile + column * _ROW + lane * 4, _ROW, to_row, width * 4)
            column += _BLOCK
    for lane in range(whole, lanes):
        for column in range(width):
            goal[lane * width + column] = source[column * LANES + lane]


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
    bias = carray(_floats(biases), (_ANY,))
    inputs, outputs = table[0, INPUTS], table[layers - 1, OUT]
    for first in range(0, batch, LANES):
        lanes = min(LANES, batch - first)
        at = tiles + (first // LANES) * step
        to_tile(x + first * inputs * 4, at, inputs, lanes)
        for layer in range(layers):
            out = table[layer, OUT]
            starts = carray(_ints(table[layer, STARTS]), (_ANY,))
            above = at + table[layer, INPUTS] * _ROW
            place = table[layer, BIAS]
            for r in range(out):
                forward_row(
                    at,
                    above + r * _ROW,
                    values + table[layer, VALUES] * 4,
                    table[layer, COLS],
                    np.int64(starts[r]),
                    np.int64(starts[r + 1]),
                    bias[place + r] if place >= 0 else np.float32(0.0),
                    table[layer, RELU] != 0,
                )
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
    d_bias = carray(_floats(d_biases), (_ANY,))
    inputs, outputs = table[0, INPUTS], table[layers - 1, OUT]
    height = 0
    for layer in range(layers - 1):
        height += table[layer, INPUTS]
    other = scratch + width * _ROW
    for first in range(0, batch, LANES):
        lanes = min(LANES, batch - first)
        upper, lower = scratch, other
        to_tile(dy + first * outputs * 4, upper, outputs, lanes)
        at = tiles + (first // LANES) * step + height * _ROW
        for back in range(layers):
            layer = layers - 1 - back
            if wanted:
                starts = carray(_ints(table[layer, STARTS]), (_ANY,))
                place = table[layer, BIAS]
                for r in range(table[layer, OUT]):
                    weight_gradient_row(
                        upper + r * _ROW,
                        at,
                        d_values + table[layer, VALUES] * 4,
                        table[layer, COLS],
                        np.int64(starts[r]),
                        np.int64(starts[r + 1]),
                    )
                    if place >= 0:
                        d_bias[place + r] += row_sum(upper + r * _ROW)
            if layer > 0 or dx != 0:
                col_starts = carray(_ints(table[layer, COL_STARTS]), (_ANY,))
                gated = layer > 0 and table[layer - 1, RELU] != 0
                for c in range(table[layer, INPUTS]):
                    input_gradient_row(
                        upper,
                        lower + c * _ROW,
                        values + table[layer, VALUES] * 4,
                        table[layer, PERM],
                        table[layer, ROWS],
                        np.int64(col_starts[c]),
                        np.int64(col_starts[c + 1]),
                        at + c * _ROW,
                        gated,
                        False,
                    )
                upper, lower = lower, upper
            if layer > 0:
                at -= table[layer - 1, INPUTS] * _ROW
        if dx != 0:
            from_tile(upper, dx + first * inputs * 4, inputs, lanes)
