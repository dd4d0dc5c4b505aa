"""A board on which a thread posts work for others, in compiled code that waits without sleeping.

A piece of work lasts a tenth of a millisecond, less than it takes to wake a thread. So helpers look
at the board for a while before they leave (:data:`PATIENCE`), and nobody depends on them: whoever
posts work takes back what no helper has taken. Who did a part cannot be seen in the results, for
every part has sums of its own.

A board is int64 [parts, COLUMNS], a line for each part; its columns lie apart, so that two threads
do not write to one cache line.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from thrifty.engine.cache import COMPILE

TURN, TAKEN, DONE, AWAKE, WORK = range(0, 80, 16)
"""Columns: the number of the work posted last, taken last and done last by a helper; whether a
helper looks; and from the last one on, what the work is."""
COLUMNS = 96
PATIENCE = 50_000
"""Looks at the board, some 50 ns each, before a helper leaves."""
_I64 = ir.IntType(64)
_PAUSES = platform.machine().lower() in ("x86_64", "amd64")


@intrinsic
def seen(typingctx: Any, address: Any) -> Any:
    """Return the number at an address; what its writer wrote before it is visible, too."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], _I64.as_pointer())
        return builder.load_atomic(pointer, ordering="acquire", align=8)

    return types.int64(types.int64), codegen


@intrinsic
def show(typingctx: Any, address: Any, number: Any) -> Any:
    """Write a number to an address, after all that was written before."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], _I64.as_pointer())
        builder.store_atomic(args[1], pointer, ordering="release", align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def _exchanged(typingctx: Any, address: Any, old: Any, new: Any) -> Any:
    """Put a new number where the old one is; return whether it was there."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], _I64.as_pointer())
        pair = builder.cmpxchg(pointer, args[1], args[2], "acq_rel", "acquire")
        return builder.extract_value(pair, 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def pause(typingctx: Any) -> Any:
    """Let a moment pass, without giving up the processor."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        if _PAUSES:
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@njit(**COMPILE)
def take(line, turn):
    """Return whether the caller is the first to take a piece of work; ``line`` is an address."""
    return _exchanged(line + 8 * TAKEN, turn - 1, turn)
