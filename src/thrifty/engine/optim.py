"""Adam and Polyak averaging on flat vectors.

Reference: Kingma and Ba (2015), algorithm 1, in the arithmetic of torch.optim.Adam.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from thrifty.engine.cache import COMPILE, entry
from thrifty.engine.perceptron import floats_at
from thrifty.engine.vector import LANES, decay_row

BETA1, BETA2 = 0.9, 0.999
_LEAST = np.float32(1e-37)
"""A moment that is smaller becomes 0: processors of some makes compute a hundred times as long with
numbers below 1e-38, and behind a unit that a ReLU keeps shut all moments decay to them."""


@njit(**COMPILE)
def adam(params, grads, first, second, begin, end, step, rate, beta1, beta2, epsilon, clear):
    """One Adam step on [begin, end) in the arithmetic of torch.optim.Adam.

    ``clear`` leaves gradients of 0 behind. Where we differ from torch: moments below 1e-37 are
    kept as 0, which is far below what moves a parameter.
    """
    b1, b2 = np.float32(beta1), np.float32(beta2)
    c1, c2 = np.float32(1.0 - beta1), np.float32(1.0 - beta2)
    size = np.float32(rate / (1.0 - beta1**step))
    root = np.float32(np.sqrt(1.0 - beta2**step))
    eps = np.float32(epsilon)
    # Slices start at 0, so no index can be negative: the loop becomes vector code.
    p, g = params[begin:end], grads[begin:end]
    m, v = first[begin:end], second[begin:end]
    for i in range(len(p)):
        gradient = g[i]
        mean = b1 * m[i] + c1 * gradient
        square = b2 * v[i] + c2 * gradient * gradient
        m[i] = np.float32(0.0) if abs(mean) <= _LEAST else mean  # NaN stays
        v[i] = np.float32(0.0) if square <= _LEAST else square
        p[i] -= size * mean / (np.sqrt(square) / root + eps)
    if clear:
        g[:] = np.float32(0.0)


@entry
def adam_steps(table, steps, rate, beta1, beta2, epsilon):
    """One Adam step of each of some parameters; gradients stay.

    Args:
        table: int64 [n, 5]: addresses of a parameter, its gradient, its two moments, and how many
            numbers each of them is.
        steps: int64 [n], this one included.
    """
    for k in range(table.shape[0]):
        size = table[k, 4]
        params, grads = (
            carray(floats_at(table[k, 0]), (size,)),
            carray(floats_at(table[k, 1]), (size,)),
        )
        first, second = (
            carray(floats_at(table[k, 2]), (size,)),
            carray(floats_at(table[k, 3]), (size,)),
        )
        adam(params, grads, first, second, 0, size, steps[k], rate, beta1, beta2, epsilon, False)


@entry
def decay(moment, factor, count):
    """Take ``count`` Adam steps of a moment whose gradient is 0: multiply, step by step, in place.

    A power would round once where the steps round each time; this way it does not matter how the
    steps are divided among calls, so a run that stopped to save goes on bit by bit.

    Args:
        moment: float32, flat; zeros among others make it slow.
        factor: beta, in (0, 1).
        count: steps.
    """
    # From the largest float to below the smallest that is kept; then all is 0.
    steps = min(count, np.int64(np.log(1e-76) / np.log(factor)) + 2)
    shrunk = np.exp(steps * np.log(factor))
    block = np.empty(LANES, np.float32)
    for start in range(0, len(moment), LANES):
        lanes = min(LANES, len(moment) - start)
        for i in range(LANES):
            block[i] = moment[start + i] if i < lanes else np.float32(1.0)
        smallest = np.float64(np.abs(block).min())
        cut = _LEAST if smallest * shrunk < 2e-37 else np.float32(0.0)
        decay_row(block.ctypes.data, np.float32(factor), steps, cut)
        for i in range(lanes):
            moment[start + i] = block[i]


@njit(**COMPILE)
def polyak(params, target, online, count, tau):
    """Target += tau (online - target) for ``count`` parameters from two places of one vector."""
    t = np.float32(tau)
    slow, fast = params[target : target + count], params[online : online + count]
    for i in range(count):
        slow[i] += t * (fast[i] - slow[i])
