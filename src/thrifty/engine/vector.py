"""The inner loops of a sparse layer, as LLVM vector code.

Activations are tile-major: a tile holds LANES samples, and the row of a feature is LANES contiguous
floats, so a link multiplies one weight with LANES activations and never gathers. Each function here
is one row of work with its accumulators in registers:

    forward_row            y[r] = relu?(b + sum_p w_p x[col_p])
    input_gradient_row     dx[c] = sum_p w_perm_p dy[row_p]   (times x[c] > 0 where gated)
    weight_gradient_row    dw_p += <dy[r], x[col_p]>          (sampled dense-dense product)

Everything is passed as addresses: callers own validated, contiguous arrays (see layout.py).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from thrifty.engine.isa import TARGET

LANES = 64
_F32 = ir.FloatType()
_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_VECTOR = ir.VectorType(_F32, TARGET.width)
_FLOAT_BYTES = 4


def splat(builder: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
    """Return a vector of equal floats."""
    width = TARGET.width
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, width), [0] * width)
    return builder.shuffle_vector(one, undefined, zeros)


def multiply_add(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """A * b + c, fused where the target has the instruction (elsewhere it would be a call)."""
    if TARGET.fused:
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        name = f"llvm.fma.v{TARGET.width}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])
    return builder.fadd(builder.fmul(a, b), c)


def float_at(builder: ir.IRBuilder, address: ir.Value, index: ir.Value) -> ir.Value:
    """Load a float by its index."""
    pointer = builder.inttoptr(address, _F32.as_pointer())
    return builder.load(builder.gep(pointer, [index]), align=4)


def int_at(builder: ir.IRBuilder, address: ir.Value, index: ir.Value) -> ir.Value:
    """Load an int32 by its index, as int64."""
    pointer = builder.inttoptr(address, _I32.as_pointer())
    return builder.zext(builder.load(builder.gep(pointer, [index]), align=4), _I64)


def _vector_pointer(builder: ir.IRBuilder, address: ir.Value, byte: int) -> ir.Value:
    place = builder.add(address, ir.Constant(_I64, byte)) if byte else address
    return builder.inttoptr(place, _VECTOR.as_pointer())


def load(builder: ir.IRBuilder, address: ir.Value, lane: int) -> ir.Value:
    """Load the vector that begins at a lane of a row."""
    return builder.load(_vector_pointer(builder, address, lane * _FLOAT_BYTES), align=4)


def store(builder: ir.IRBuilder, value: ir.Value, address: ir.Value, lane: int) -> None:
    """Store a vector that begins at a lane of a row."""
    builder.store(value, _vector_pointer(builder, address, lane * _FLOAT_BYTES), align=4)


def row_address(builder: ir.IRBuilder, base: ir.Value, row: ir.Value) -> ir.Value:
    """Return the address of a row of a tile."""
    return builder.add(base, builder.mul(row, ir.Constant(_I64, LANES * _FLOAT_BYTES)))


def chunks() -> list[list[int]]:
    """First lanes of the vectors that are accumulated together."""
    return [
        list(range(start, start + TARGET.chunk, TARGET.width))
        for start in range(0, LANES, TARGET.chunk)
    ]


def zero() -> ir.Constant:
    """Return a vector of zeros."""
    return ir.Constant(_VECTOR, [0.0] * TARGET.width)


def _positive(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    return builder.fcmp_ordered(">", value, zero())


def _relu(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Return what is not below 0, and so NaN as well: one instruction either way."""
    return builder.select(builder.fcmp_ordered("<", value, zero()), zero(), value)


@intrinsic
def forward_row(
    typingctx: Any,
    x: Any,
    y: Any,
    values: Any,
    cols: Any,
    start: Any,
    stop: Any,
    bias: Any,
    relu: Any,
) -> Any:
    """y[0:LANES] = relu?(bias + sum over p in [start, stop) of values[p] x[cols[p]]); addresses."""
    signature = types.void(
        types.int64,
        types.int64,
        types.int64,
        types.int64,
        types.int64,
        types.int64,
        types.float32,
        types.boolean,
    )

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        x, y, values, cols, start, stop, bias, relu = args
        for lanes in chunks():
            first = splat(builder, bias)
            sums = [cgutils.alloca_once(builder, _VECTOR) for _ in lanes]
            for total in sums:
                builder.store(first, total)
            with cgutils.for_range_slice(builder, start, stop, ir.Constant(_I64, 1), _I64) as (
                p,
                _,
            ):
                weight = splat(builder, float_at(builder, values, p))
                source = row_address(builder, x, int_at(builder, cols, p))
                for lane, total in zip(lanes, sums, strict=True):
                    value = load(builder, source, lane)
                    builder.store(multiply_add(builder, weight, value, builder.load(total)), total)
            with builder.if_else(relu) as (with_relu, without):
                with with_relu:
                    for lane, total in zip(lanes, sums, strict=True):
                        store(builder, _relu(builder, builder.load(total)), y, lane)
                with without:
                    for lane, total in zip(lanes, sums, strict=True):
                        store(builder, builder.load(total), y, lane)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def input_gradient_row(
    typingctx: Any,
    dy: Any,
    dx: Any,
    values: Any,
    perm: Any,
    rows: Any,
    start: Any,
    stop: Any,
    gate: Any,
    gated: Any,
    add: Any,
) -> Any:
    """dx[0:LANES] (+)= (gate > 0?) sum over p of values[perm[p]] dy[rows[p]]; addresses."""
    signature = types.void(
        types.int64,
        types.int64,
        types.int64,
        types.int64,
        types.int64,
        types.int64,
        types.int64,
        types.int64,
        types.boolean,
        types.boolean,
    )

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        dy, dx, values, perm, rows, start, stop, gate, gated, add = args
        for lanes in chunks():
            sums = [cgutils.alloca_once(builder, _VECTOR) for _ in lanes]
            for total in sums:
                builder.store(zero(), total)
            with cgutils.for_range_slice(builder, start, stop, ir.Constant(_I64, 1), _I64) as (
                p,
                _,
            ):
                weight = splat(builder, float_at(builder, values, int_at(builder, perm, p)))
                source = row_address(builder, dy, int_at(builder, rows, p))
                for lane, total in zip(lanes, sums, strict=True):
                    value = load(builder, source, lane)
                    builder.store(multiply_add(builder, weight, value, builder.load(total)), total)
            with builder.if_then(gated):
                for lane, total in zip(lanes, sums, strict=True):
                    open_ = _positive(builder, load(builder, gate, lane))
                    builder.store(builder.select(open_, builder.load(total), zero()), total)
            with builder.if_then(add):
                for lane, total in zip(lanes, sums, strict=True):
                    builder.store(builder.fadd(builder.load(total), load(builder, dx, lane)), total)
            for lane, total in zip(lanes, sums, strict=True):
                store(builder, builder.load(total), dx, lane)
        return context.get_dummy_value()

    return signature, codegen


def _horizontal(builder: ir.IRBuilder, vectors: list[ir.Value]) -> ir.Value:
    """Sum each of several vectors; returns a vector of as many sums (a power of two, <= width)."""
    count, width = len(vectors), TARGET.width
    # Every step halves the floats that each sum is spread over, and packs two vectors into one
    # while there are several.
    parts, spread = vectors, width
    while spread > 1:
        half = spread // 2
        packed = []
        pairs = (
            list(zip(parts[0::2], parts[1::2], strict=True))
            if len(parts) > 1
            else [(parts[0], None)]
        )
        for a, b in pairs:
            size = len_of(a)
            groups = size // spread
            low = [g * spread + i for g in range(groups) for i in range(half)]
            if b is not None:
                low = low + [size + k for k in low]
            high = [k + half for k in low]
            second = b if b is not None else ir.Constant(a.type, ir.Undefined)
            packed.append(
                builder.fadd(_shuffle(builder, a, second, low), _shuffle(builder, a, second, high))
            )
        parts, spread = packed, half
    assert len(parts) == 1
    assert len_of(parts[0]) == count
    return parts[0]


def len_of(vector: ir.Value) -> int:
    """Return the number of floats in a vector value."""
    return int(vector.type.count)


def _shuffle(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, picks: list[int]) -> ir.Value:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(picks)), picks))


@intrinsic
def weight_gradient_row(
    typingctx: Any, dy: Any, x: Any, grads: Any, cols: Any, start: Any, stop: Any
) -> Any:
    """grads[p] += sum over lanes of dy[lane] x[cols[p]][lane], p in [start, stop); addresses."""
    signature = types.void(
        types.int64, types.int64, types.int64, types.int64, types.int64, types.int64
    )
    together = 4

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        dy, x, grads, cols, start, stop = args
        for lanes in chunks():
            upstream = [load(builder, dy, lane) for lane in lanes]

            def products(
                p: ir.Value, lanes: list[int] = lanes, upstream: Any = upstream
            ) -> ir.Value:
                source = row_address(builder, x, int_at(builder, cols, p))
                total = builder.fmul(upstream[0], load(builder, source, lanes[0]))
                for lane, value in zip(lanes[1:], upstream[1:], strict=True):
                    total = multiply_add(builder, value, load(builder, source, lane), total)
                return total

            length = builder.sub(stop, start)
            whole = builder.sub(stop, builder.srem(length, ir.Constant(_I64, together)))
            with cgutils.for_range_slice(
                builder, start, whole, ir.Constant(_I64, together), _I64
            ) as (p, _):
                sums = _horizontal(
                    builder,
                    [products(builder.add(p, ir.Constant(_I64, k))) for k in range(together)],
                )
                pointer = builder.inttoptr(
                    builder.add(grads, builder.mul(p, ir.Constant(_I64, _FLOAT_BYTES))),
                    sums.type.as_pointer(),
                )
                builder.store(builder.fadd(builder.load(pointer, align=4), sums), pointer, align=4)
            with cgutils.for_range_slice(builder, whole, stop, ir.Constant(_I64, 1), _I64) as (
                p,
                _,
            ):
                total = _horizontal(builder, [products(p)])
                single = builder.extract_element(total, ir.Constant(_I32, 0))
                place = builder.gep(builder.inttoptr(grads, _F32.as_pointer()), [p])
                builder.store(builder.fadd(builder.load(place, align=4), single), place, align=4)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def row_sum(typingctx: Any, row: Any) -> Any:
    """Sum of the LANES floats at an address."""
    signature = types.float32(types.int64)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        lanes = range(0, LANES, TARGET.width)
        parts = [load(builder, args[0], lane) for lane in lanes]
        while len(parts) > 1:
            parts = [builder.fadd(a, b) for a, b in zip(parts[0::2], parts[1::2], strict=True)]
        return builder.extract_element(_horizontal(builder, parts), ir.Constant(_I32, 0))

    return signature, codegen


@intrinsic
def decay_row(typingctx: Any, x: Any, factor: Any, count: Any, least: Any) -> Any:
    """Multiply the LANES floats at an address by a factor, ``count`` times one after the other.

    What falls to ``least`` or below it becomes 0 at once; not looked at where ``least`` is 0.
    """
    signature = types.void(types.int64, types.float32, types.int64, types.float32)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        x, factor, count, least = args
        rate, most = splat(builder, factor), splat(builder, builder.fneg(least))
        bound = splat(builder, least)

        def multiply(lanes: list[int], cut: bool) -> None:
            values = [cgutils.alloca_once(builder, _VECTOR) for _ in lanes]
            for lane, value in zip(lanes, values, strict=True):
                builder.store(load(builder, x, lane), value)
            with cgutils.for_range(builder, count):
                for value in values:
                    product = builder.fmul(rate, builder.load(value))
                    if cut:
                        above = builder.fcmp_ordered(">", product, bound)
                        below = builder.fcmp_ordered("<", product, most)
                        product = builder.select(builder.or_(above, below), product, zero())
                    builder.store(product, value)
            for lane, value in zip(lanes, values, strict=True):
                store(builder, builder.load(value), x, lane)

        cuts = builder.fcmp_ordered(">", least, ir.Constant(_F32, 0.0))
        with builder.if_else(cuts) as (with_cut, without):
            with with_cut:
                for lanes in chunks():
                    multiply(lanes, True)
            with without:
                for lanes in chunks():
                    multiply(lanes, False)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def transpose_block(typingctx: Any, sources: Any, into: Any) -> Any:
    """Transpose a square block of TARGET.width: from as many addresses to as many tile rows.

    ``sources`` is the address of int64 addresses; float k of source i becomes lane i of tile row k.
    Halves, quarters, ... that stand off the diagonal change places, log2(width) times.
    """
    signature = types.void(types.int64, types.int64)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        sources, into = args
        width = TARGET.width
        addresses = builder.inttoptr(sources, _I64.as_pointer())
        block = [
            load(builder, builder.load(builder.gep(addresses, [ir.Constant(_I64, i)])), 0)
            for i in range(width)
        ]
        half = width // 2
        while half:
            low = [k if not k & half else width + k - half for k in range(width)]
            high = [k + half if not k & half else width + k for k in range(width)]
            for i in range(width):
                if not i & half:
                    upper, lower = block[i], block[i + half]
                    block[i] = _shuffle(builder, upper, lower, low)
                    block[i + half] = _shuffle(builder, upper, lower, high)
            half //= 2
        for k, vector in enumerate(block):
            store(builder, vector, into, k * LANES)
        return context.get_dummy_value()

    return signature, codegen
