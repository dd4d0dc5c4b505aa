"""One hidden unit of a sparse GRU, forward and backward, as LLVM vector code for a tile of lanes.

    r, z = sigma(W x + U h + b)     n = tanh(W_n x + b_n + r c_n),  c_n = U_n h + b'_n
    h'   = n + z (h - n)

All sums of a unit stay in registers until its state is there, so a step reads inputs and states and
writes states: nothing else is worth its memory traffic. On the way back the unit is computed again
from the two, and its slopes go straight to the gradients of its links and to the slopes of x and h.

Both sigma(x) = 1 / (1 + e^-x) and tanh(x) = (e^2x - 1) / (e^2x + 1) are an exponential and a
division; those of z and n share theirs. Rows are tiles of LANES float32 as in vector.py, and
everything is passed as addresses: callers own validated, contiguous arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from thrifty.engine.isa import TARGET
from thrifty.engine.vector import (
    LANES,
    float_at,
    int_at,
    load,
    multiply_add,
    row_address,
    splat,
    store,
)

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_F32, TARGET.width)
_INTS = ir.VectorType(_I32, TARGET.width)
_TOGETHER = 4 if TARGET.width >= 16 else 2
"""Vectors of each sum in registers at once; four sums are built together."""
_LARGEST = 30.0
"""Arguments are cut here: e^-30 is nothing beside 1, and products of two such stay finite."""
_SERIES = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
    1.0,
    1.0,
)
"""e^r for |r| <= log(2) / 2, highest power first (Cephes)."""
_Vectors = list[ir.Value]


class _Links(NamedTuple):
    """The links of one of the two matrices, and where biases and inputs stand; addresses."""

    values: ir.Value
    cols: ir.Value
    starts: ir.Value
    biases: ir.Value
    source: ir.Value


def _all(number: float) -> ir.Constant:
    return ir.Constant(_VECTOR, [number] * TARGET.width)


def _pieces() -> list[list[int]]:
    """First lanes of the vectors that are in registers at once."""
    size = _TOGETHER * TARGET.width
    return [list(range(start, start + size, TARGET.width)) for start in range(0, LANES, size)]


def _cut(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """X within [-_LARGEST, _LARGEST]; what is not a number stays so."""
    for bound, sign in ((_LARGEST, ">"), (-_LARGEST, "<")):
        x = builder.select(builder.fcmp_ordered(sign, x, _all(bound)), _all(bound), x)
    return x


def _exponential(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """e^x for |x| <= 2 _LARGEST; 1e-7 relative."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR])
    name = f"llvm.floor.v{TARGET.width}f32"
    floor = cgutils.get_or_insert_function(builder.module, kind, name)
    k = builder.call(floor, [multiply_add(builder, x, _all(1.44269504), _all(0.5))])
    # The two parts of log 2 are Cody and Waite's.
    r = multiply_add(builder, k, _all(-0.693359375), x)
    r = multiply_add(builder, k, _all(2.12194440e-4), r)
    total: ir.Value = _all(_SERIES[0])
    for coefficient in _SERIES[1:]:
        total = multiply_add(builder, total, r, _all(coefficient))
    power = builder.add(builder.fptosi(k, _INTS), ir.Constant(_INTS, [127] * TARGET.width))
    power = builder.shl(power, ir.Constant(_INTS, [23] * TARGET.width))
    return builder.fmul(total, builder.bitcast(power, _VECTOR))


def _span(builder: ir.IRBuilder, links: _Links, row: ir.Value) -> tuple[ir.Value, ir.Value]:
    after = builder.add(row, ir.Constant(_I64, 1))
    return int_at(builder, links.starts, row), int_at(builder, links.starts, after)


def _sum(
    builder: ir.IRBuilder, parts: Sequence[tuple[_Links, ir.Value]], lanes: Sequence[int]
) -> _Vectors:
    """Sum biases and links' products of one row in each of some matrices."""
    totals = [cgutils.alloca_once(builder, _VECTOR) for _ in lanes]
    biases = [splat(builder, float_at(builder, links.biases, row)) for links, row in parts]
    first = biases[0] if len(biases) == 1 else builder.fadd(*biases)
    for total in totals:
        builder.store(first, total)
    for links, row in parts:
        start, stop = _span(builder, links, row)
        with cgutils.for_range_slice(builder, start, stop, ir.Constant(_I64, 1), _I64) as (p, _):
            weight = splat(builder, float_at(builder, links.values, p))
            x = row_address(builder, links.source, int_at(builder, links.cols, p))
            for lane, total in zip(lanes, totals, strict=True):
                value = multiply_add(builder, weight, load(builder, x, lane), builder.load(total))
                builder.store(value, total)
    return [builder.load(total) for total in totals]


class _Unit(NamedTuple):
    """What a unit computes, one vector after the other."""

    r: _Vectors
    z: _Vectors
    n: _Vectors
    c: _Vectors
    h: _Vectors
    following: _Vectors


def _rows(builder: ir.IRBuilder, unit: ir.Value, hidden: ir.Value) -> list[ir.Value]:
    """The rows of a unit's gates r, z, n in either matrix."""
    return [unit, builder.add(unit, hidden), builder.add(builder.add(unit, hidden), hidden)]


def _compute(
    builder: ir.IRBuilder,
    unit: ir.Value,
    hidden: ir.Value,
    of_x: _Links,
    of_h: _Links,
    lanes: Sequence[int],
) -> _Unit:
    reset, update, new = _rows(builder, unit, hidden)
    sum_r = _sum(builder, [(of_x, reset), (of_h, reset)], lanes)
    sum_z = _sum(builder, [(of_x, update), (of_h, update)], lanes)
    sum_n, c = _sum(builder, [(of_x, new)], lanes), _sum(builder, [(of_h, new)], lanes)
    own = row_address(builder, of_h.source, unit)
    one = _all(1.0)
    done = _Unit([], [], [], c, [], [])
    for k, lane in enumerate(lanes):
        h = load(builder, own, lane)
        e_r = _exponential(builder, _cut(builder, builder.fneg(sum_r[k])))
        r = builder.fdiv(one, builder.fadd(one, e_r))
        x_n = _cut(builder, multiply_add(builder, r, c[k], sum_n[k]))
        e_n = _exponential(builder, builder.fadd(x_n, x_n))
        e_z = _exponential(builder, _cut(builder, builder.fneg(sum_z[k])))
        of_z, of_n = builder.fadd(one, e_z), builder.fadd(one, e_n)
        both = builder.fdiv(one, builder.fmul(of_z, of_n))
        z = builder.fmul(both, of_n)
        n = builder.fmul(builder.fmul(both, of_z), builder.fsub(e_n, one))
        done.r.append(r)
        done.z.append(z)
        done.n.append(n)
        done.h.append(h)
        done.following.append(multiply_add(builder, z, builder.fsub(h, n), n))
    return done


_ADDRESS = types.int64
_OF_LINKS = [_ADDRESS] * 4


@intrinsic
def gru_unit(
    typingctx: Any,
    unit: Any, hidden: Any,
    x_values: Any, x_cols: Any, x_starts: Any, x_biases: Any,
    h_values: Any, h_cols: Any, h_starts: Any, h_biases: Any,
    x: Any, h: Any, following: Any,
) -> Any:  # fmt: skip
    """Compute row ``unit`` of the tile ``following`` from the tiles x and h."""
    signature = types.void(*[types.int64] * 2, *_OF_LINKS, *_OF_LINKS, *[_ADDRESS] * 3)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        unit, hidden, *rest = args
        of_x, of_h = _Links(*rest[:4], rest[8]), _Links(*rest[4:8], rest[9])
        out = row_address(builder, rest[10], unit)
        for lanes in _pieces():
            done = _compute(builder, unit, hidden, of_x, of_h, lanes)
            for lane, value in zip(lanes, done.following, strict=True):
                store(builder, value, out, lane)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def gru_unit_back(
    typingctx: Any,
    unit: Any, hidden: Any,
    x_values: Any, x_cols: Any, x_starts: Any, x_biases: Any,
    h_values: Any, h_cols: Any, h_starts: Any, h_biases: Any,
    x: Any, h: Any, following: Any, slope: Any,
    of_x: Any, of_h: Any, x_links: Any, h_links: Any, bias_sums: Any, again: Any,
) -> Any:  # fmt: skip
    """Compute ``following`` again, and pass its slope on, all of row ``unit``.

    ``of_x`` and ``of_h`` are tiles of slopes to which this unit adds; ``x_links`` and ``h_links``
    the partial sums of the matrices' links (TARGET.width a link), ``bias_sums`` those of the gates'
    biases and ``again`` those of U_n's (TARGET.width each).
    """
    signature = types.void(*[types.int64] * 2, *_OF_LINKS, *_OF_LINKS, *[_ADDRESS] * 10)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        unit, hidden, *rest = args
        links_x, links_h = _Links(*rest[:4], rest[8]), _Links(*rest[4:8], rest[9])
        following, slope, of_x, of_h, x_sums, h_sums, bias_sums, again = rest[10:]
        rows = _rows(builder, unit, hidden)
        out, slope_row = (row_address(builder, base, unit) for base in (following, slope))
        own = row_address(builder, of_h, unit)
        one = _all(1.0)
        for lanes in _pieces():
            done = _compute(builder, unit, hidden, links_x, links_h, lanes)
            d_r, d_z, d_n, d_c = ([] for _ in range(4))  # type: ignore[var-annotated]
            for k, lane in enumerate(lanes):
                r, z, n = done.r[k], done.z[k], done.n[k]
                store(builder, done.following[k], out, lane)
                g = load(builder, slope_row, lane)
                kept = multiply_add(builder, g, z, load(builder, own, lane))
                store(builder, kept, own, lane)
                rest_z = builder.fsub(one, z)
                bent = builder.fsub(one, builder.fmul(n, n))
                of_n = builder.fmul(builder.fmul(g, rest_z), bent)
                rising = builder.fmul(r, builder.fsub(one, r))
                d_r.append(builder.fmul(builder.fmul(of_n, done.c[k]), rising))
                far = builder.fsub(done.h[k], n)
                d_z.append(builder.fmul(builder.fmul(g, far), builder.fmul(z, rest_z)))
                d_n.append(of_n)
                d_c.append(builder.fmul(of_n, r))
            for row, slopes in zip(rows, (d_r, d_z, d_n), strict=True):
                _pass_on(builder, links_x, row, slopes, of_x, x_sums, lanes)
                _fold(builder, slopes, bias_sums, row)
            for row, slopes in zip(rows, (d_r, d_z, d_c), strict=True):
                _pass_on(builder, links_h, row, slopes, of_h, h_sums, lanes)
            _fold(builder, d_c, again, unit)
        return context.get_dummy_value()

    return signature, codegen


def _pass_on(
    builder: ir.IRBuilder,
    links: _Links,
    row: ir.Value,
    slopes: _Vectors,
    into: ir.Value,
    sums: ir.Value,
    lanes: Sequence[int],
) -> None:
    """Add a row's slopes to those of its inputs, and its products to its links' partial sums."""
    start, stop = _span(builder, links, row)
    size = ir.Constant(_I64, TARGET.width * 4)
    with cgutils.for_range_slice(builder, start, stop, ir.Constant(_I64, 1), _I64) as (p, _):
        column = int_at(builder, links.cols, p)
        weight = splat(builder, float_at(builder, links.values, p))
        x, goal = (row_address(builder, base, column) for base in (links.source, into))
        place = builder.add(sums, builder.mul(p, size))
        total = load(builder, place, 0)
        for lane, value in zip(lanes, slopes, strict=True):
            total = multiply_add(builder, value, load(builder, x, lane), total)
            more = multiply_add(builder, weight, value, load(builder, goal, lane))
            store(builder, more, goal, lane)
        store(builder, total, place, 0)


def _fold(builder: ir.IRBuilder, slopes: _Vectors, sums: ir.Value, row: ir.Value) -> None:
    """Add the vectors of a row to its partial sums."""
    size = ir.Constant(_I64, TARGET.width * 4)
    place = builder.add(sums, builder.mul(row, size))
    total = load(builder, place, 0)
    for value in slopes:
        total = builder.fadd(total, value)
    store(builder, total, place, 0)
