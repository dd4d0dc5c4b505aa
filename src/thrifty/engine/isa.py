"""Which vector instructions the compiled code uses.

The kernels are emitted for one of three targets: ``avx512`` (16 floats a vector, fused
multiply-add), ``avx2`` (8, fused) and ``generic`` (4, separate multiply and add). The host decides;
the environment variable ``THRIFTY_ISA`` forces a narrower one, and must be set before the engine
(or anything else that uses Numba) is imported for the first time.
"""

from __future__ import annotations

import os
import platform
from typing import NamedTuple

_VARIABLE = "THRIFTY_ISA"


class ISA(NamedTuple):
    """A target of the kernels."""

    name: str
    width: int  # floats in a vector
    chunk: int  # samples whose accumulators fit into registers
    fused: bool  # has a fused multiply-add instruction


TARGETS = {
    "avx512": ISA("avx512", 16, 64, True),
    "avx2": ISA("avx2", 8, 64, True),
    "generic": ISA("generic", 4, 32, False),
}
_NUMBA_CPU = {"avx2": "haswell", "generic": "generic"}


def detect(features: dict[str, bool]) -> str:
    """Return the widest target that a processor with these LLVM features runs."""
    if features.get("avx512f") and features.get("avx512vl") and features.get("fma", True):
        return "avx512"
    if features.get("avx2") and features.get("fma"):
        return "avx2"
    return "generic"


def choose() -> ISA:
    """Return the target, and tell Numba where a narrower one than the host's is forced.

    Raises:
        ValueError: ``THRIFTY_ISA`` names no target, or one that the host does not run.
    """
    import llvmlite.binding as llvm

    here = platform.machine().lower() in ("x86_64", "amd64")
    best = detect(dict(llvm.get_host_cpu_features())) if here else "generic"
    order = list(TARGETS)
    forced = os.environ.get(_VARIABLE, "")
    if not forced:
        return TARGETS[best]
    if forced not in TARGETS:
        raise ValueError(f"{_VARIABLE}={forced!r}: choose one of {', '.join(TARGETS)}")
    if order.index(forced) < order.index(best):
        raise ValueError(f"{_VARIABLE}={forced!r}, but this processor only runs {best}")
    if forced != best:
        os.environ["NUMBA_CPU_NAME"] = _NUMBA_CPU[forced]
        os.environ["NUMBA_CPU_FEATURES"] = ""
        from numba.core import config

        config.reload_config()  # type: ignore[no-untyped-call]
    return TARGETS[forced]


TARGET = choose()
