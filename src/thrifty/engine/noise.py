"""Counter-based random numbers: a pure function of (seed, stream, update, element).

Nothing is stored and nothing is consumed in order, so a resumed run, another tiling or the
readable reference draw exactly the numbers that the compiled update draws. The generator is
Philox 2x32 with ten rounds; normals come from the Box-Muller transform.

    counter = (element, update), key = mix(seed, stream)   ->   two uniform 32-bit words

Reference: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types, uint32, uint64
from numba.extending import intrinsic
from numpy.typing import NDArray

_MULTIPLIER = 0xD256D193
_WEYL = 0x9E3779B9
_ROUNDS = 10
_STEP = np.float32(2.0**-24)  # uniforms are (k + 1/2) / 2**24, never 0 or 1
_HALF_STEP = np.float32(2.0**-25)


def key_of(seed: int, stream: int) -> int:
    """Return the 32-bit key of a stream: independent keys for distinct (seed, stream)."""
    return int(np.random.SeedSequence([seed, stream]).generate_state(1, np.uint32)[0])


def words(key: int, update: int, count: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return two arrays of uniform 32-bit words for elements 0 .. count - 1 (the reference).

    Args:
        key: from :func:`key_of`.
        update: number of the update.
        count: elements.
    """
    left = np.arange(count, dtype=np.uint64)
    right = np.full(count, update & 0xFFFFFFFF, np.uint64)
    mask = np.uint64(0xFFFFFFFF)
    for round_ in range(_ROUNDS):
        round_key = np.uint64((key + round_ * _WEYL) & 0xFFFFFFFF)
        product = left * np.uint64(_MULTIPLIER)
        left, right = (product >> np.uint64(32)) ^ round_key ^ right, product & mask
    return left.astype(np.uint32), right.astype(np.uint32)


def normals(key: int, update: int, count: int) -> NDArray[np.float32]:
    """Return standard normals for elements 0 .. count - 1 (the reference)."""
    first, second = words(key, update, count)
    u = (first >> np.uint32(8)).astype(np.float64) * 2.0**-24 + 2.0**-25
    v = (second >> np.uint32(8)).astype(np.float64) * 2.0**-24 + 2.0**-25
    return (np.sqrt(-2.0 * np.log(u)) * np.cos(2.0 * np.pi * v)).astype(np.float32)


def indices(key: int, update: int, count: int, below: int) -> NDArray[np.int64]:
    """Return uniform integers in [0, below) for elements 0 .. count - 1 (the reference)."""
    first, _ = words(key, update, count)
    return ((first.astype(np.uint64) * np.uint64(below)) >> np.uint64(32)).astype(np.int64)


# ---------------------------------------------------------------- compiled twins


@intrinsic
def _bits(typingctx: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.uint32))

    return types.uint32(types.float32), codegen


@intrinsic
def _float(typingctx: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.uint32), codegen


@njit(inline="always")
def philox(key: int, element: int, update: int) -> tuple[int, int]:
    """Two 32-bit words of one counter."""
    left, right = uint32(element), uint32(update)
    round_key = uint32(key)
    for _ in range(_ROUNDS):
        product = uint64(left) * uint64(_MULTIPLIER)
        left = uint32(uint32(product >> uint64(32)) ^ round_key ^ right)
        right = uint32(product)
        round_key = uint32(round_key + uint32(_WEYL))
    return left, right


@njit(inline="always", fastmath={"contract"}, error_model="numpy")
def log32(x: float) -> float:
    """Natural logarithm of a positive normal float32, by exponent and polynomial; 1e-7 relative."""
    bits = _bits(x)
    exponent = np.int32(bits >> uint32(23)) - np.int32(127)
    mantissa = _float(uint32((bits & uint32(0x7FFFFF)) | uint32(0x3F800000)))  # [1, 2)
    big = mantissa > np.float32(1.41421356)
    mantissa = mantissa * np.float32(0.5) if big else mantissa
    exponent = exponent + np.int32(1) if big else exponent
    t = (mantissa - np.float32(1.0)) / (mantissa + np.float32(1.0))  # |t| <= 0.1716
    s = t * t
    series = np.float32(2.0 / 9.0)
    series = series * s + np.float32(2.0 / 7.0)
    series = series * s + np.float32(2.0 / 5.0)
    series = series * s + np.float32(2.0 / 3.0)
    series = series * s + np.float32(2.0)
    return series * t + np.float32(exponent) * np.float32(0.69314718056)


@njit(inline="always", fastmath={"contract"}, error_model="numpy")
def cos_turns(v: float) -> float:
    """cos(2 pi v) for v in [0, 1)."""
    # Fold to a sine of an angle in [-pi/2, pi/2]: cos(2 pi v) = sin(pi/2 - 2 pi |v - 1/2| ...).
    w = abs(v - np.float32(0.5))  # [0, 1/2]; cos(2 pi v) = -cos(2 pi w)
    y = (w - np.float32(0.25)) * np.float32(6.283185307)  # [-pi/2, pi/2]; = sin(y)
    s = y * y
    p = np.float32(-2.50521084e-8)
    p = p * s + np.float32(2.75573192e-6)
    p = p * s + np.float32(-1.98412698e-4)
    p = p * s + np.float32(8.33333333e-3)
    p = p * s + np.float32(-1.66666667e-1)
    return y + y * s * p


@njit(inline="always", fastmath={"contract"}, error_model="numpy")
def exp32(x: float) -> float:
    """Exponential of a float32 in [-87, 88], cut outside; 1e-7 relative."""
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    k = np.float32(np.floor(x * np.float32(1.44269504) + np.float32(0.5)))
    r = x - k * np.float32(0.693359375)
    r = r - k * np.float32(-2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    y = p * r * r + r + np.float32(1.0)
    return y * _float(uint32(np.int32(k) + np.int32(127)) << uint32(23))


@njit(inline="always", fastmath={"contract"}, error_model="numpy")
def tanh32(x: float) -> float:
    """Hyperbolic tangent of a float32; absolute error below 2e-7."""
    small = abs(x) < np.float32(0.02)
    e = exp32(np.float32(2.0) * min(max(x, np.float32(-10.0)), np.float32(10.0)))
    far = np.float32(1.0) - np.float32(2.0) / (e + np.float32(1.0))
    s = x * x
    near = x * (np.float32(1.0) + s * (np.float32(-1.0 / 3.0) + s * np.float32(2.0 / 15.0)))
    return near if small else far


@njit(inline="always", fastmath={"contract"}, error_model="numpy")
def normal32(key: int, element: int, update: int) -> float:
    """One standard normal."""
    first, second = philox(key, element, update)
    u = np.float32(first >> uint32(8)) * _STEP + _HALF_STEP
    v = np.float32(second >> uint32(8)) * _STEP + _HALF_STEP
    return np.float32(np.sqrt(np.float32(-2.0) * log32(u))) * cos_turns(v)


@njit(inline="always")
def index32(key: int, element: int, update: int, below: int) -> int:
    """One uniform integer in [0, below)."""
    first, _ = philox(key, element, update)
    return np.int64((uint64(first) * uint64(below)) >> uint64(32))
