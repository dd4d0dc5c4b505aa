"""Products with square blocks, compiled: a panel of columns at a time in registers.

All matrices lie as torch holds them, one row a token. For some tokens and the columns of a panel
the sums stay in registers while the blocks of a block-row pass by: each step loads one row of the
panel and multiplies it by one number of every token,

    y[t, :] = sum over blocks and k of x[t, source b + k] panel[k, :].

With W's blocks transposed that is y = x W^T, with the blocks as they lie and rows and columns
exchanged dx = dy W. The gradient of a block is the same with tokens and outputs exchanged,

    dW[o, :] += sum over t of dy[t, o] x[t, :],

on copies of LANES tokens, block beside block, because rows of a power of two bytes apart would push
each other out of the cache. So is the gradient of a whole dense weight from a tile, whose rows are
features: a panel of the inputs is transposed first.

Callers own validated, contiguous float32 arrays and pass addresses (see sparse_blocks.py).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from thrifty.engine.cache import COMPILE, entry
from thrifty.engine.isa import TARGET
from thrifty.engine.perceptron import floats_at, transpose_square
from thrifty.engine.vector import (
    LANES,
    load,
    multiply_add,
    splat,
    store,
    weight_gradient_row,
    zero,
)

UNIT = 16
"""Blocks have a multiple of this many links a side."""
_SUMS = 16 if TARGET.name == "avx512" else 8
"""Vectors of sums: enough to keep the units busy, and few enough to stay in the registers."""
_WIDEST = 4 if TARGET.name == "avx512" else 2
"""Vectors that a panel is wide at most."""
_TILE_ROW = LANES * 4  # bytes
_ANY = 1 << 31  # length of an array of which only the address is known
_I64 = ir.IntType(64)
_F32 = ir.FloatType()


def _sums(width: int, count: int) -> Any:
    """Make the innermost loop.

    Returns:
        An intrinsic (steps, a, a_step, a_next, b, b_next, c, c_next, begin): with all steps in
        bytes, c[m] (+)= sum over steps k of a[m a_step + k a_next] times the vectors at b + k
        b_next, for m below `count`, from 0 where `begin`.
    """

    @intrinsic
    def sums(
        typingctx: Any,
        steps: Any,
        a: Any,
        a_step: Any,
        a_next: Any,
        b: Any,
        b_next: Any,
        c: Any,
        c_next: Any,
        begin: Any,
    ) -> Any:
        signature = types.void(*[types.int64] * 8, types.boolean)

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            steps, a, a_step, a_next, b, b_next, c, c_next, begin = args

            def times(step: ir.Value, number: int) -> ir.Value:
                return builder.mul(step, ir.Constant(_I64, number))

            lanes = [vector * TARGET.width for vector in range(width)]
            goals = [builder.add(c, times(c_next, m)) for m in range(count)]
            heads = [builder.add(a, times(a_step, m)) for m in range(count)]
            totals = [
                [cgutils.alloca_once(builder, zero().type) for _ in lanes] for _ in range(count)
            ]
            with builder.if_else(begin) as (fresh, kept):
                with fresh:
                    for row in totals:
                        for total in row:
                            builder.store(zero(), total)
                with kept:
                    for goal, row in zip(goals, totals, strict=True):
                        for lane, total in zip(lanes, row, strict=True):
                            builder.store(load(builder, goal, lane), total)
            with cgutils.for_range_slice(
                builder, ir.Constant(_I64, 0), steps, ir.Constant(_I64, 1), _I64
            ) as (k, _):
                panel = builder.add(b, builder.mul(k, b_next))
                vectors = [load(builder, panel, lane) for lane in lanes]
                ahead = builder.mul(k, a_next)
                for head, row in zip(heads, totals, strict=True):
                    pointer = builder.inttoptr(builder.add(head, ahead), _F32.as_pointer())
                    factor = splat(builder, builder.load(pointer, align=4))
                    for value, total in zip(vectors, row, strict=True):
                        builder.store(
                            multiply_add(builder, factor, value, builder.load(total)), total
                        )
            for goal, row in zip(goals, totals, strict=True):
                for lane, total in zip(lanes, row, strict=True):
                    store(builder, builder.load(total), goal, lane)
            return context.get_dummy_value()

        return signature, codegen

    return sums


_sums4, _sums2, _sums1 = (_sums(width, _SUMS // width) for width in (4, 2, 1))
_one4, _one2, _one1 = (_sums(width, 1) for width in (4, 2, 1))


@njit(**COMPILE)
def _panel_width(block):
    """Return how many vectors a panel is wide in a block of that side."""
    width = _WIDEST
    while block % (width * TARGET.width):
        width //= 2
    return width


@njit(**COMPILE)
def _rows(rows, width, steps, a, a_step, a_next, b, b_next, c, c_next, begin):
    """Do the innermost loop for any number of rows of c, one panel of `width` vectors wide."""
    together = _SUMS // width
    m = 0
    while m < rows:
        many = m + together <= rows
        here, goal = a + m * a_step, c + m * c_next
        if width == 4:
            if many:
                _sums4(steps, here, a_step, a_next, b, b_next, goal, c_next, begin)
            else:
                _one4(steps, here, a_step, a_next, b, b_next, goal, c_next, begin)
        elif width == 2:
            if many:
                _sums2(steps, here, a_step, a_next, b, b_next, goal, c_next, begin)
            else:
                _one2(steps, here, a_step, a_next, b, b_next, goal, c_next, begin)
        elif many:
            _sums1(steps, here, a_step, a_next, b, b_next, goal, c_next, begin)
        else:
            _one1(steps, here, a_step, a_next, b, b_next, goal, c_next, begin)
        m += together if many else 1


@njit(**COMPILE)
def _block(rows, block, steps, a, a_step, a_next, b, c, c_next, begin):
    """Do all panels of a block of `block` columns; the rows of b lie beside each other."""
    width = _panel_width(block)
    for column in range(0, block, width * TARGET.width):
        at = column * 4
        _rows(rows, width, steps, a, a_step, a_next, b + at, block * 4, c + at, c_next, begin)


@entry
def product(starts, sources, places, panels, block, x, x_width, y, y_width, tokens):
    """Fill y [tokens, y_width] with x times the blocks that exist, 0 where there are none.

    Args:
        starts: int64 [y_width / b + 1], where the blocks of each block-row begin.
        sources: int64 [n], the block-column of each, a block of x.
        places: int64 [n], where each lies among the panels.
        panels: address of float32 [n, b, b], a row for each column of x.
        block: b.
        x: address of float32 [tokens, x_width].
        x_width: its columns.
        y: address of float32 [tokens, y_width], written.
        y_width: its columns.
        tokens: rows of both.
    """
    filled = carray(floats_at(y), (_ANY,))
    bytes_of_block = block * block * 4
    for first in range(0, tokens, LANES):
        count = min(LANES, tokens - first)
        for row in range(len(starts) - 1):
            goal = y + (first * y_width + row * block) * 4
            if starts[row] == starts[row + 1]:
                for t in range(first, first + count):
                    filled[t * y_width + row * block : t * y_width + (row + 1) * block] = 0.0
            for j in range(starts[row], starts[row + 1]):
                _block(
                    count,
                    block,
                    block,
                    x + (first * x_width + sources[j] * block) * 4,
                    x_width * 4,
                    4,
                    panels + places[j] * bytes_of_block,
                    goal,
                    y_width * 4,
                    j == starts[row],
                )


@njit(**COMPILE)
def _beside(rows, width, block, count, packed):
    """Copy `count` rows, block beside block: [width / b, LANES, b]."""
    source, goal = carray(floats_at(rows), (_ANY,)), carray(floats_at(packed), (_ANY,))
    for t in range(count):
        for column in range(0, width, block):
            at = column * LANES + t * block
            goal[at : at + block] = source[t * width + column : t * width + column + block]


@entry
def gradient(rows, columns, block, dy, y_width, x, x_width, tokens, scratch, d_blocks):
    """Fill the gradients of blocks [n, b, b] from those of the outputs and the inputs.

    Args:
        rows: int64 [n], block-row of each block.
        columns: int64 [n], its block-column.
        block: b.
        dy: address of float32 [tokens, y_width].
        y_width: its columns.
        x: address of float32 [tokens, x_width].
        x_width: its columns.
        tokens: rows of both, at least one.
        scratch: address of float32 [LANES, y_width + x_width].
        d_blocks: address of float32 [n, b, b], written.
    """
    inputs = scratch + LANES * y_width * 4
    for first in range(0, tokens, LANES):
        count = min(LANES, tokens - first)
        _beside(dy + first * y_width * 4, y_width, block, count, scratch)
        _beside(x + first * x_width * 4, x_width, block, count, inputs)
        for j in range(len(rows)):
            _block(
                block,
                block,
                count,
                scratch + rows[j] * block * LANES * 4,
                4,
                block * 4,
                inputs + columns[j] * block * LANES * 4,
                d_blocks + j * block * block * 4,
                block * 4,
                first == 0,
            )


@njit(**COMPILE)
def dense_gradient(x, dy, grads, every, out, inputs, panel):
    """Add to grads[r, c] the sum over a tile's samples of dy[r] x[c].

    Args:
        x: address of `inputs` tile rows.
        dy: address of `out` tile rows.
        grads: address of float32 [out, inputs].
        every: address of int32 0, 1, ..., inputs - 1.
        out: rows of the weight.
        inputs: its columns.
        panel: address of float32 [LANES, LANES], scratch of the caller's. (Compiled code frees an
            array of its own behind the last use of its name, also where the address is still used.)
    """
    column = 0
    while inputs - column >= TARGET.width:
        width = _WIDEST
        while inputs - column < width * TARGET.width:
            width //= 2
        for beside in range(0, width * TARGET.width, TARGET.width):
            source = x + (column + beside) * _TILE_ROW
            for sample in range(0, LANES, TARGET.width):
                goal = panel + sample * _TILE_ROW + beside * 4
                transpose_square(source + sample * 4, _TILE_ROW, goal, _TILE_ROW)
        goal = grads + column * 4
        _rows(out, width, LANES, dy, _TILE_ROW, 4, panel, _TILE_ROW, goal, inputs * 4, False)
        column += width * TARGET.width
    for r in range(out):  # the columns that are left
        row = grads + r * inputs * 4
        weight_gradient_row(dy + r * _TILE_ROW, x, row, every, column, inputs)
