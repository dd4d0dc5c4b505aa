"""One tile through a phase: every operation of a programme on LANES samples at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

from thrifty.engine import programme as op
from thrifty.engine.cache import COMPILE
from thrifty.engine.noise import exp32
from thrifty.engine.panels import dense_gradient
from thrifty.engine.rows import (
    add_log_density,
    add_shifted_log_density,
    bounded_rows,
    clamped_rows,
    gather_rows,
    normal_row,
    normalise_rows,
    sample_rows,
    shifted_log_density_slopes,
    tanh_rows,
    through_normalised_rows,
)
from thrifty.engine.vector import (
    LANES,
    forward_row,
    input_gradient_row,
    row_sum,
    weight_gradient_row,
)

MOST_ROWS = 1 << 18
"""Rows that a tile can have."""
_ROW = LANES * 4  # bytes of a tile row


@intrinsic
def _pointer(typingctx: Any, address: Any) -> Any:
    """An address as a pointer to float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), codegen


@njit(**COMPILE)
def run_tile(
    table,
    base,
    index,
    params,
    grads,
    dense,
    scalars,
    losses,
    totals,
    data,
    first_rows,
    last_rows,
    path,
    path_disc,
    lengths,
    ret,
    disc,
    keys,
    update,
    batch,
    start,
):
    """Pass one tile (samples start .. start + LANES) through a phase's operations.

    ``base`` is the address of the scratch tile.
    """
    tile = carray(_pointer(base), (MOST_ROWS * LANES,))
    lanes = min(LANES, batch - start)
    inv = np.float32(1.0) / np.float32(batch)
    p_params = params.ctypes.data
    p_grads = grads.ctypes.data
    p_dense = dense.ctypes.data
    p_index = index.ctypes.data
    for line in range(table.shape[0]):
        code = table[line, 0]
        a, b, c = table[line, 1], table[line, 2], table[line, 3]
        if code == op.LINEAR:
            out, starts, cols = table[line, 4], table[line, 6], table[line, 7]
            values, bias = p_params + 4 * table[line, 11], table[line, 12]
            x, y = base + a * _ROW, base + b * _ROW
            for r in range(out):
                forward_row(
                    x,
                    y + r * _ROW,
                    values,
                    p_index + 4 * cols,
                    np.int64(index[starts + r]),
                    np.int64(index[starts + r + 1]),
                    params[bias + r],
                    c != 0,
                )
        elif code == op.WEIGHT_GRADIENT:
            out, starts, cols = table[line, 4], table[line, 6], table[line, 7]
            values, bias = p_grads + 4 * table[line, 11], table[line, 12]
            x, dy = base + a * _ROW, base + b * _ROW
            for r in range(out):
                weight_gradient_row(
                    dy + r * _ROW,
                    x,
                    values,
                    p_index + 4 * cols,
                    np.int64(index[starts + r]),
                    np.int64(index[starts + r + 1]),
                )
                grads[bias + r] += row_sum(dy + r * _ROW)
        elif code == op.DENSE_GRADIENT:
            out, inputs, bias = table[line, 4], table[line, 5], table[line, 12]
            values, every = p_dense + 4 * table[line, 13], p_index + 4 * table[line, 14]
            x, dy, panel = base + a * _ROW, base + b * _ROW, base + table[line, 15] * _ROW
            dense_gradient(x, dy, values, every, out, inputs, panel)
            for r in range(out):
                grads[bias + r] += row_sum(dy + r * _ROW)
        elif code == op.INPUT_GRADIENT:
            col_starts, rows, perm = table[line, 8], table[line, 9], table[line, 10]
            values = p_params + 4 * table[line, 11]
            begin, count, add = table[line, 13], table[line, 14], table[line, 15]
            dy, dx = base + a * _ROW, base + b * _ROW
            for k in range(count):
                column = begin + k
                input_gradient_row(
                    dy,
                    dx + k * _ROW,
                    values,
                    p_index + 4 * perm,
                    p_index + 4 * rows,
                    np.int64(index[col_starts + column]),
                    np.int64(index[col_starts + column + 1]),
                    base + (c + k) * _ROW,
                    c >= 0,
                    add != 0,
                )
        elif code == op.GATHER:
            which = table[line, 4]
            source = first_rows if which == 0 else last_rows if which == 1 else path[which - 2]
            gather_rows(tile, a, b, data, c, source[start : start + lanes])
        elif code == op.WINDOW:
            for i in range(lanes):
                tile[a * LANES + i] = ret[start + i]
                tile[b * LANES + i] = disc[start + i]
            for i in range(lanes, LANES):
                tile[a * LANES + i] = np.float32(0.0)
                tile[b * LANES + i] = np.float32(0.0)
        elif code == op.NORMAL:
            shift = table[line, 4] * batch + start
            for k in range(b):
                row = tile[(a + k) * LANES : (a + k + 1) * LANES]
                normal_row(row, keys[c], shift * b + k, b, update)
        elif code == op.PERTURB:
            n = table[line, 4] * LANES
            scale, clip = scalars[table[line, 5]], scalars[table[line, 6]]
            for i in range(n):
                noise = min(max(scale * tile[b * LANES + i], -clip), clip)
                moved = tile[a * LANES + i] + noise
                tile[c * LANES + i] = min(max(moved, np.float32(-1.0)), np.float32(1.0))
        elif code == op.TANH:
            tanh_rows(tile[a * LANES : (a + c) * LANES], tile[b * LANES : (b + c) * LANES])
        elif code == op.TANH_REVERSE:
            n, add = table[line, 4] * LANES, table[line, 5]
            for i in range(n):
                y = tile[a * LANES + i]
                g = tile[b * LANES + i] * (np.float32(1.0) - y * y)
                tile[c * LANES + i] = tile[c * LANES + i] + g if add else g
        elif code == op.MINIMUM:
            for i in range(table[line, 4] * LANES):
                tile[c * LANES + i] = min(tile[a * LANES + i], tile[b * LANES + i])
        elif code == op.MULTIPLY_ADD:
            d = table[line, 4]
            for i in range(table[line, 5] * LANES):
                tile[d * LANES + i] = (
                    tile[a * LANES + i] * tile[b * LANES + i] + tile[c * LANES + i]
                )
        elif code == op.SQUARED_ERROR:
            scale = scalars[table[line, 5]]
            total = np.float32(0.0)
            for i in range(LANES):
                error = tile[a * LANES + i] - tile[b * LANES + i] if i < lanes else np.float32(0.0)
                tile[c * LANES + i] = np.float32(2.0) * scale * inv * error
                total += error * error
            losses[table[line, 4]] += scale * inv * total
        elif code == op.MEAN:
            scale = scalars[table[line, 4]]
            total = np.float32(0.0)
            for i in range(LANES):
                tile[b * LANES + i] = scale * inv if i < lanes else np.float32(0.0)
                total += tile[a * LANES + i] if i < lanes else np.float32(0.0)
            losses[c] += scale * inv * total
            totals[table[line, 5]] += inv * total
        elif code == op.MINIMUM_REVERSE:
            d, n, add = table[line, 4], table[line, 5] * LANES, table[line, 6]
            for i in range(n):
                mine, other = tile[a * LANES + i], tile[b * LANES + i]
                share = np.float32(1.0) if mine < other else np.float32(0.0)
                share = np.float32(0.5) if mine == other else share
                g = share * tile[c * LANES + i]
                tile[d * LANES + i] = tile[d * LANES + i] + g if add else g
        elif code == op.PATH_DISCOUNT:
            for i in range(LANES):
                tile[a * LANES + i] = path_disc[b, start + i] if i < lanes else np.float32(0.0)
        elif code == op.BLEND:
            k = table[line, 4]
            for r in range(c):
                for i in range(lanes):
                    if lengths[start + i] == k + 1:
                        tile[(b + r) * LANES + i] = tile[(a + r) * LANES + i]
        elif code == op.BOUND_LOG_STD:
            low, high = scalars[table[line, 4]], scalars[table[line, 5]]
            half = np.float32(0.5) * (high - low)
            bounded_rows(
                tile[a * LANES : (a + c) * LANES], tile[b * LANES : (b + c) * LANES], low, half
            )
        elif code == op.BOUND_LOG_STD_REVERSE:
            low, high, add = scalars[table[line, 5]], scalars[table[line, 6]], table[line, 7]
            half = np.float32(0.5) * (high - low)
            for i in range(table[line, 4] * LANES):
                t = (tile[a * LANES + i] - low) / half - np.float32(1.0)
                g = tile[b * LANES + i] * half * (np.float32(1.0) - t * t)
                tile[c * LANES + i] = tile[c * LANES + i] + g if add else g
        elif code == op.SAMPLE:
            d, n = table[line, 4], table[line, 5] * LANES
            mean, log_std = tile[a * LANES : a * LANES + n], tile[b * LANES : b * LANES + n]
            noise = tile[c * LANES : c * LANES + n]
            sample_rows(mean, log_std, noise, tile[d * LANES : d * LANES + n])
        elif code == op.SAMPLE_REVERSE:
            d, e, n = table[line, 4], table[line, 5], table[line, 6] * LANES
            add_mean, add_std = table[line, 7], table[line, 8]
            for i in range(n):
                g = tile[a * LANES + i]
                h = g * exp32(tile[b * LANES + i]) * tile[c * LANES + i]
                tile[d * LANES + i] = tile[d * LANES + i] + g if add_mean else g
                tile[e * LANES + i] = tile[e * LANES + i] + h if add_std else h
        elif code == op.LOG_DENSITY:
            d = table[line, 4]
            for i in range(LANES):
                tile[d * LANES + i] = np.float32(0.0)
            for k in range(table[line, 5]):
                add_log_density(
                    tile[(a + k) * LANES : (a + k + 1) * LANES],
                    tile[(b + k) * LANES : (b + k + 1) * LANES],
                    tile[(c + k) * LANES : (c + k + 1) * LANES],
                    tile[d * LANES : (d + 1) * LANES],
                )
        elif code == op.LOG_DENSITY_REVERSE:
            d, n, add_std, add_x = table[line, 4], table[line, 5], table[line, 6], table[line, 7]
            for k in range(n):
                for i in range(LANES):
                    g = tile[a * LANES + i]
                    h = np.float32(2.0) * g * tile[(b + k) * LANES + i]
                    s, x = (c + k) * LANES + i, (d + k) * LANES + i
                    tile[s] = tile[s] - g if add_std else -g
                    tile[x] = tile[x] + h if add_x else h
        elif code == op.SUBTRACT_SCALED:
            scale = scalars[table[line, 4]]
            for i in range(LANES):
                tile[a * LANES + i] -= scale * tile[b * LANES + i] * tile[c * LANES + i]
        elif code == op.GATE:
            for i in range(c * LANES):
                if not tile[a * LANES + i] > 0.0:
                    tile[b * LANES + i] = np.float32(0.0)
        elif code == op.LAYER_NORM:
            d, n, norm = table[line, 3], table[line, 4], table[line, 5]
            normalise_rows(
                tile[a * LANES : (a + n) * LANES],
                tile[b * LANES : (b + n) * LANES],
                tile[d * LANES : (d + 1) * LANES],
                tile[(d + 1) * LANES : (d + 2) * LANES],
                params[norm : norm + n],
                params[norm + n : norm + 2 * n],
            )
        elif code == op.LAYER_NORM_REVERSE:
            d, n, norm = table[line, 4], table[line, 5], table[line, 6]
            if table[line, 7]:
                x, dy = base + a * _ROW, base + b * _ROW
                gains, every = p_grads + 4 * norm, p_index + 4 * table[line, 8]
                for r in range(n):
                    weight_gradient_row(dy + r * _ROW, x, gains, every, r, r + 1)
                    grads[norm + n + r] += row_sum(dy + r * _ROW)
            through_normalised_rows(
                tile[a * LANES : (a + n) * LANES],
                tile[b * LANES : (b + n) * LANES],
                tile[c * LANES : (c + n) * LANES],
                tile[d * LANES : (d + 1) * LANES],
                tile[(d + 1) * LANES : (d + 2) * LANES],
                tile[(d + 2) * LANES : (d + 3) * LANES],
                params[norm : norm + n],
            )
        elif code == op.SCALE:
            factor, add = scalars[table[line, 4]], table[line, 5]
            for i in range(c * LANES):
                g = factor * tile[a * LANES + i]
                tile[b * LANES + i] = tile[b * LANES + i] + g if add else g
        elif code == op.CLAMP:
            low, high = scalars[table[line, 4]], scalars[table[line, 5]]
            clamped_rows(
                tile[a * LANES : (a + c) * LANES], tile[b * LANES : (b + c) * LANES], low, high
            )
        elif code == op.CLAMP_REVERSE:
            low, high, add = scalars[table[line, 5]], scalars[table[line, 6]], table[line, 7]
            for i in range(table[line, 4] * LANES):
                inside = low <= tile[a * LANES + i] <= high
                g = tile[b * LANES + i] if inside else np.float32(0.0)
                tile[c * LANES + i] = tile[c * LANES + i] + g if add else g
        elif code == op.SHIFTED_LOG_DENSITY:
            d, shift = table[line, 4], scalars[table[line, 6]]
            for i in range(LANES):
                tile[d * LANES + i] = np.float32(0.0)
            for k in range(table[line, 5]):
                add_shifted_log_density(
                    tile[(a + k) * LANES : (a + k + 1) * LANES],
                    tile[(b + k) * LANES : (b + k + 1) * LANES],
                    tile[(c + k) * LANES : (c + k + 1) * LANES],
                    tile[d * LANES : (d + 1) * LANES],
                    shift,
                )
        elif code == op.SHIFTED_LOG_DENSITY_REVERSE:
            d, shift = table[line, 4], scalars[table[line, 6]]
            add_std, add_x = table[line, 7], table[line, 8]
            for k in range(table[line, 5]):
                shifted_log_density_slopes(
                    tile[a * LANES : (a + 1) * LANES],
                    tile[(b + k) * LANES : (b + k + 1) * LANES],
                    tile[(c + k) * LANES : (c + k + 1) * LANES],
                    tile[(d + k) * LANES : (d + k + 1) * LANES],
                    shift,
                    add_std != 0,
                    add_x != 0,
                )
