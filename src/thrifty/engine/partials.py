"""Gradients of weights summed over many tiles: partial sums of vectors, added up once at the end.

A sum over the lanes of a tile costs more than the products where a row has few links. Here every
link and every bias has WIDTH partial sums, to which each tile adds.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from thrifty.engine.cache import COMPILE
from thrifty.engine.isa import TARGET
from thrifty.engine.perceptron import COLS, OUT, ROW_BYTES, STARTS, VALUES, floats_at, ints_at
from thrifty.engine.vector import row_partials, weight_partials_row

WIDTH = TARGET.width
"""Partial sums of a number."""
SUM_BYTES = WIDTH * 4
"""Bytes of the partial sums of a number."""
_ANY = 1 << 31


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
