"""Adam and Polyak averaging on flat vectors.

Reference: Kingma and Ba (2015), algorithm 1, in the arithmetic of torch.optim.Adam.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from thrifty.engine.cache import COMPILE


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


@njit(**COMPILE)
def polyak(params, target, online, count, tau):
    """Target += tau (online - target) for ``count`` parameters from two places of one vector."""
    t = np.float32(tau)
    slow, fast = params[target : target + count], params[online : online + count]
    for i in range(count):
        slow[i] += t * (fast[i] - slow[i])
