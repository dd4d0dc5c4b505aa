"""The slot of ``queueing.py`` compiled: one pass over all environments, flows, hops and packets.

The same arithmetic as ``queueing.advance``, which is the page to read; a test holds one to the
other on the same random numbers.
"""

from __future__ import annotations

import math

import numba

from thrifty.engine.cache import COMPILE, entry

_DIRECT = 400  # packets up to which the first probability of a binomial cannot underflow
_WIDTH = 12.0  # standard deviations below the mean where larger ones start; the rest is < 1e-30


@numba.njit(**COMPILE)
def _first(n, p):
    """Where the inversion starts, and the probability there."""
    q = 1.0 - p
    if n <= _DIRECT:
        return 0, q**n
    start = int(n * p - _WIDTH * math.sqrt(n * p * q) - 1.0)
    if start <= 0:
        start = 0
    logarithm = math.lgamma(n + 1.0) - math.lgamma(start + 1.0) - math.lgamma(n - start + 1.0)
    logarithm += start * math.log(p) + (n - start) * math.log1p(-p)
    return start, math.exp(logarithm)


@numba.njit(**COMPILE)
def _binomial(u, n, p):
    """The smallest s with P(S <= s) > u, from the less likely of success and failure."""
    if n == 0 or p <= 0.0:
        return 0
    if p >= 1.0:
        return n
    if p <= 0.5:
        s, mass = _first(n, p)
        odds = p / (1.0 - p)
        below = mass
        while below <= u and s < n:
            mass *= odds * (n - s) / (s + 1.0)
            s += 1
            below += mass
        return s
    f, mass = _first(n, 1.0 - p)
    odds = (1.0 - p) / p
    below = mass
    while below < 1.0 - u and f < n:
        mass *= odds * (n - f) / (f + 1.0)
        f += 1
        below += mass
    return n - f


def _advance(queue, energy, chance, uniforms, arrivals, attempts, success, result, spent, delays):
    """Play one slot in place.

    Args:
        queue: packets [M, F, H, K], changed.
        energy, chance, uniforms: of the cells [M, F, H, K].
        arrivals: [M, F].
        attempts: [F].
        success: packets that got through [M, F, H, K], written.
        result: delivered and missed [2, M, F], written.
        spent: energy [M, F, H], written.
        delays: deliveries by slots taken minus 1 [M, F, K], added to.
    """
    environments, flows, hops, most = queue.shape
    for m in range(environments):
        for f in range(flows):
            delivered = 0
            missed = 0
            for h in range(hops - 1, -1, -1):
                last = h == hops - 1
                cost = 0.0
                for j in range(most):
                    n = queue[m, f, h, j]
                    got = 0
                    if n > 0:
                        cost += energy[m, f, h, j] * n
                        got = _binomial(uniforms[m, f, h, j], n, chance[m, f, h, j])
                        if last:
                            delivered += got
                            delays[m, f, attempts[f] - 1 - j] += got
                        elif j > 0:
                            queue[m, f, h + 1, j - 1] += got
                        else:
                            missed += got
                        if j > 0:
                            queue[m, f, h, j - 1] = n - got
                        else:
                            missed += n - got
                    elif j > 0:
                        queue[m, f, h, j - 1] = 0
                    success[m, f, h, j] = got
                queue[m, f, h, most - 1] = 0
                spent[m, f, h] = cost
            queue[m, f, 0, attempts[f] - 1] = arrivals[m, f]
            result[0, m, f] = delivered
            result[1, m, f] = missed


def _move(state, uniforms, cumulative, matrix):
    """Move every chain one slot, in place.

    Args:
        state: [M, F, H], changed.
        uniforms: [M, F, H].
        cumulative: summed rows of the matrices [R, F or 1, H or 1, C, C].
        matrix: which of the R moves each environment [M].
    """
    environments, flows, hops = state.shape
    _, own_flows, own_hops, _, states = cumulative.shape
    for m in range(environments):
        for f in range(flows):
            for h in range(hops):
                row = cumulative[matrix[m], f % own_flows, h % own_hops, state[m, f, h]]
                u = uniforms[m, f, h]
                new = 0
                while new < states - 1 and row[new] <= u:
                    new += 1
                state[m, f, h] = new


advance = entry(_advance)
move = entry(_move)
