"""Rows of the tile that are loaded or computed one by one, as functions of their own.

Inside the executor's one large function LLVM does not vectorise such loops (the tile's slots might
overlap, and an index might be negative); on slices it does, which makes them five times faster.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from thrifty.engine.cache import COMPILE
from thrifty.engine.isa import TARGET
from thrifty.engine.noise import exp32, log32, normal32, tanh32
from thrifty.engine.vector import LANES, transpose_block

_WIDTH = TARGET.width
LAYER_NORM_EPSILON = np.float32(1e-5)  # torch.nn.LayerNorm's


@njit(**COMPILE)
def tanh_rows(x, y):
    """Y = tanh(x), element by element."""
    for i in range(len(x)):
        y[i] = tanh32(x[i])


@njit(**COMPILE)
def bounded_rows(x, y, low, half):
    """Y = low + half (tanh(x) + 1)."""
    for i in range(len(x)):
        y[i] = low + half * (tanh32(x[i]) + np.float32(1.0))


@njit(**COMPILE)
def sample_rows(mean, log_std, noise, x):
    """X = mean + exp(log_std) noise."""
    for i in range(len(x)):
        x[i] = mean[i] + exp32(log_std[i]) * noise[i]


@njit(**COMPILE)
def add_log_density(noise, log_std, x, total):
    """Add log N(x) - log(1 - tanh(x)^2) of one action dimension."""
    for i in range(len(total)):
        soft = log32(np.float32(1.0) + exp32(np.float32(-2.0) * abs(x[i])))
        soft += max(np.float32(-2.0) * x[i], np.float32(0.0))
        slope = np.float32(2.0) * (np.float32(0.6931471806) - x[i] - soft)
        total[i] += (
            np.float32(-0.5) * noise[i] * noise[i] - log_std[i] - np.float32(0.9189385332) - slope
        )


@njit(**COMPILE)
def clamped_rows(x, y, low, high):
    """Y = x cut at low and high."""
    for i in range(len(x)):
        y[i] = min(max(x[i], low), high)


@njit(**COMPILE)
def add_shifted_log_density(noise, log_std, x, total, shift):
    """Add log N(x) - log(1 - tanh(x)^2 + shift) of one action dimension."""
    for i in range(len(total)):
        e = exp32(np.float32(-2.0) * abs(x[i]))
        whole = np.float32(1.0) + e
        slope = np.float32(4.0) * e / (whole * whole)  # 1 - tanh(x)^2 without cancellation
        total[i] += (
            np.float32(-0.5) * noise[i] * noise[i]
            - log_std[i]
            - np.float32(0.9189385332)
            - log32(slope + shift)
        )


@njit(**COMPILE)
def shifted_log_density_slopes(upstream, x, log_std_grad, x_grad, shift, add_std, add_x):
    """Gradients of a log density in log_std (-1) and in x, 2 tanh(x) slope / (slope + shift)."""
    for i in range(len(upstream)):
        g = upstream[i]
        e = exp32(np.float32(-2.0) * abs(x[i]))
        whole = np.float32(1.0) + e
        slope = np.float32(4.0) * e / (whole * whole)
        tanh = np.copysign((np.float32(1.0) - e) / whole, x[i])
        h = np.float32(2.0) * g * tanh * slope / (slope + shift)
        log_std_grad[i] = log_std_grad[i] - g if add_std else -g
        x_grad[i] = x_grad[i] + h if add_x else h


@njit(**COMPILE)
def normalise_rows(x, y, inverse, mean, gain, offset):
    """Normalise each sample over its n rows, in place, and write relu(gain x + offset).

    Args:
        x: [n LANES]; becomes (x - mean) / deviation.
        y: [n LANES], written.
        inverse: [LANES], becomes 1 / deviation.
        mean: [LANES], scratch.
        gain: [n].
        offset: [n].
    """
    n = len(gain)
    share = np.float32(1.0) / np.float32(n)
    mean[:] = np.float32(0.0)
    inverse[:] = np.float32(0.0)
    for r in range(n):
        row = x[r * LANES : (r + 1) * LANES]
        for i in range(LANES):
            mean[i] += row[i]
    for i in range(LANES):
        mean[i] *= share
    for r in range(n):
        row = x[r * LANES : (r + 1) * LANES]
        for i in range(LANES):
            centred = row[i] - mean[i]
            row[i] = centred
            inverse[i] += centred * centred
    for i in range(LANES):
        inverse[i] = np.float32(1.0) / np.sqrt(inverse[i] * share + LAYER_NORM_EPSILON)
    for r in range(n):
        row, out = x[r * LANES : (r + 1) * LANES], y[r * LANES : (r + 1) * LANES]
        g, b = gain[r], offset[r]
        for i in range(LANES):
            value = row[i] * inverse[i]
            row[i] = value
            out[i] = max(g * value + b, np.float32(0.0))


@njit(**COMPILE)
def through_normalised_rows(x, dy, dx, inverse, first, second, gain):
    """Lead a gradient back through the normalisation of each sample.

    dx = (g - mean g - x mean(g x)) / deviation with g = gain dy, means over rows.

    Args:
        x: normalised values [n LANES].
        dy: gradient behind gain and offset, [n LANES].
        dx: [n LANES], written.
        inverse: [LANES], 1 / deviation.
        first: [LANES], scratch.
        second: [LANES], scratch.
        gain: [n].
    """
    n = len(gain)
    share = np.float32(1.0) / np.float32(n)
    first[:] = np.float32(0.0)
    second[:] = np.float32(0.0)
    for r in range(n):
        value, upstream = x[r * LANES : (r + 1) * LANES], dy[r * LANES : (r + 1) * LANES]
        for i in range(LANES):
            g = gain[r] * upstream[i]
            first[i] += g
            second[i] += g * value[i]
    for i in range(LANES):
        first[i] *= share
        second[i] *= share
    for r in range(n):
        value, upstream = x[r * LANES : (r + 1) * LANES], dy[r * LANES : (r + 1) * LANES]
        out = dx[r * LANES : (r + 1) * LANES]
        for i in range(LANES):
            out[i] = inverse[i] * (gain[r] * upstream[i] - first[i] - value[i] * second[i])


@njit(**COMPILE)
def normal_row(y, key, first, stride, update):
    """Standard normals of elements first, first + stride, ..."""
    for i in range(len(y)):
        y[i] = normal32(key, first + i * stride, update)


@njit(**COMPILE)
def gather_rows(tile, row, count, data, column, places):
    """Load ``count`` columns of some replay rows into tile rows; samples beyond them are 0.

    Samples and features change places in square blocks held in registers; the last block of a row
    overlaps the one before it where the width does not divide their number.
    """
    capacity, width = data.shape
    address = np.empty(_WIDTH, np.int64)
    source, into = data.ctypes.data, tile.ctypes.data
    lanes, done = len(places), 0
    while count >= _WIDTH and done + _WIDTH <= lanes:
        for i in range(_WIDTH):
            address[i] = source + 4 * ((places[done + i] % capacity) * width + column)
        k = 0
        while True:
            transpose_block(address.ctypes.data, into + 4 * ((row + k) * LANES + done))
            step = min(_WIDTH, count - _WIDTH - k)
            if step <= 0:
                break
            for i in range(_WIDTH):
                address[i] += 4 * step
            k += step
        done += _WIDTH
    for i in range(done, lanes):
        place = places[i] % capacity
        for k in range(count):
            tile[(row + k) * LANES + i] = data[place, column + k]
    for i in range(lanes, LANES):
        for k in range(count):
            tile[(row + k) * LANES + i] = np.float32(0.0)
