"""Minibatches drawn from the replay inside compiled code: rows, windows, returns, discounts.

The compiled twin of :mod:`thrifty.rl.transitions`: same windows, same returns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from thrifty.engine.cache import COMPILE
from thrifty.engine.noise import index32, indices


def rows_drawn(
    key: int, update: int, count: int, first: int, total: int, valid: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return the row numbers that :func:`draw_rows` draws, int64 [count] (the reference).

    Args:
        key: from :func:`~thrifty.engine.noise.key_of`.
        update: number of the update.
        count: of rows.
        first: oldest live row number.
        total: end of the row numbers; at least one row is valid.
        valid: [capacity], above 0 where a row may be drawn.
    """
    rows = np.zeros(count, np.int64)
    missing = np.ones(count, np.bool_)
    tries = 0
    while missing.any():
        tries += 1
        drawn = first + indices(key, update, tries * count, total - first)[-count:]
        rows[missing] = drawn[missing]
        missing &= valid[rows % len(valid)] <= 0.0
    return rows


@intrinsic
def _prefetch(typingctx: Any, address: Any) -> Any:
    """Ask for a cache line that will be read soon; any address is allowed."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(
            ir.VoidType(), [byte, ir.IntType(32), ir.IntType(32), ir.IntType(32)]
        )
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        read, keep, data = (ir.Constant(ir.IntType(32), number) for number in (0, 3, 1))
        builder.call(ask, [builder.inttoptr(args[0], byte), read, keep, data])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@njit(**COMPILE)
def draw_rows(out, key, update, first, total, data, valid_column):
    """Fill [B] with row numbers of uniformly drawn live, valid transitions.

    All rows are asked for before the first is read: a replay is larger than any cache.
    """
    capacity, width = data.shape
    base = data.ctypes.data
    for b in range(len(out)):
        row = first + index32(key, b, update, total - first)
        out[b] = row
        begin = base + 4 * width * (row % capacity)
        for line in range(begin & -64, begin + 4 * width, 64):
            _prefetch(line)
    for b in range(len(out)):
        element, row = b, out[b]
        while not data[row % capacity, valid_column] > 0.0:
            element += len(out)
            row = first + index32(key, element, update, total - first)
        out[b] = row


@njit(**COMPILE)
def windows(
    rows,
    last,
    path,
    path_disc,
    lengths,
    ret,
    disc,
    data,
    total,
    step,
    n_step,
    discount,
    reward,
    terminated,
    ended,
):
    """Follow each window from its first row: where it ends, its return and its discounts, [B]."""
    capacity = data.shape[0]
    for b in range(len(rows)):
        row = rows[b]
        weight = np.float32(1.0)
        value = np.float32(0.0)
        gamma = np.float32(discount)
        length = 0
        over = False
        for k in range(n_step):
            path[k, b] = row
            path_disc[k, b] = np.float32(0.0)
            if over:
                continue
            place = row % capacity
            value += weight * data[place, reward]
            weight *= gamma
            path_disc[k, b] = np.float32(0.0) if data[place, terminated] > 0.0 else weight
            length += 1
            if data[place, ended] > 0.0 or row + step >= total:
                over = True
            elif k + 1 < n_step:
                row += step
        place = row % capacity
        last[b] = row
        lengths[b] = length
        ret[b] = value
        disc[b] = np.float32(0.0) if data[place, terminated] > 0.0 else weight
