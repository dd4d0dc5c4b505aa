"""Adam and Polyak averaging on flat vectors.

Reference: Kingma and Ba (2015), algorithm 1, in the arithmetic of torch.optim.Adam.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from thrifty.engine.cache import COMPILE, entry
from thrifty.engine.vector import LANES, decay_row

BETA1, BETA2 = 0.9, 0.999


@njit(**COMPILE)
def adam(params, grads, first, second, begin, end, step, rate, beta1, beta2, epsilon):
    """One Adam step on [begin, end) in the arithmetic of torch.optim.Adam; clears gradients."""
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
        m[i], v[i] = mean, square
        p[i] -= size * mean / (np.sqrt(square) / root + eps)
        g[i] = np.float32(0.0)


@entry
def decay(moment, factor, count):
    """Take ``count`` Adam steps of a moment whose gradient is 0: multiply, step by step, in place.

    A power would round once where the steps round each time; this way it does not matter how the
    steps are divided among calls, so a run that stopped to save goes on bit by bit.

    Args:
        moment: float32, flat and contiguous.
        factor: beta, in (0, 1).
        count: steps.
    """
    # From the largest float to below the smallest that is kept; then all is 0.
    enough = np.int64(np.log(1e-76) / np.log(factor)) + 2
    steps = min(count, enough)
    whole = len(moment) // LANES * LANES
    for start in range(0, whole, LANES):
        decay_row(moment.ctypes.data + 4 * start, np.float32(factor), steps)
    rest = np.zeros(LANES, np.float32)
    rest[: len(moment) - whole] = moment[whole:]
    decay_row(rest.ctypes.data, np.float32(factor), steps)
    moment[whole:] = rest[: len(moment) - whole]


@njit(**COMPILE)
def polyak(params, target, online, count, tau):
    """Target += tau (online - target) for ``count`` parameters from two places of one vector."""
    t = np.float32(tau)
    slow, fast = params[target : target + count], params[online : online + count]
    for i in range(count):
        slow[i] += t * (fast[i] - slow[i])
