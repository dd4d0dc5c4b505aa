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
