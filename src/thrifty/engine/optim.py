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
    for i in range(begin, end):
        g = grads[i]
        m = b1 * first[i] + c1 * g
        v = b2 * second[i] + c2 * g * g
        first[i], second[i] = m, v
        params[i] -= size * m / (np.sqrt(v) / root + eps)
        grads[i] = np.float32(0.0)


@njit(**COMPILE)
def polyak(params, target, online, count, tau):
    """Target += tau (online - target) for ``count`` parameters from two places of one vector."""
    t = np.float32(tau)
    for i in range(count):
        params[target + i] += t * (params[online + i] - params[target + i])
