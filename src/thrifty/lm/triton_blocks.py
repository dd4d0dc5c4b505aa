"""Products with a matrix of blocks as Triton kernels, for CUDA, whose builds of torch bring Triton.

With tiles of M tokens, blocks of b a side and the layout as data (index arrays, so a new topology
compiles nothing):

    y = x W^T     dense = sparse dense: a program for each tile and block-row sums over its blocks
    dx = dy W     the same with rows and columns exchanged, blocks as they lie
    dW            sparse = dense dense: a program for each block that exists sums over all tokens

Sums are float32, also where the tensors are bfloat16; float32 products are exact, not TF32.
Tested on Triton's interpreter (TRITON_INTERPRET=1) on the CPU, which knows float32 and float16 but
no bfloat16; the same test runs on a GPU, with bfloat16, where there is one. Not measured there yet.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from thrifty.lm.gathered_blocks import flat_places
from thrifty.sparse import places

__all__ = ["TritonBlocks"]

_TILE = 64
"""Tokens of a tile."""

AVAILABLE = importlib.util.find_spec("triton") is not None
"""Whether Triton is installed."""

if AVAILABLE:
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator]
    def _product(  # type: ignore[no-untyped-def]
        x, values, y, starts, sources, order, tokens, x_width, y_width,
        B: tl.constexpr, M: tl.constexpr, TURNED: tl.constexpr,
    ):  # fmt: skip
        """Fill a tile of y [M, B]: the sum over blocks of x tiles times blocks, turned for W^T."""
        row = tl.program_id(1)
        token = (tl.program_id(0) * M + tl.arange(0, M)).to(tl.int64)  # tokens x head are many
        inside = token[:, None] < tokens
        k = tl.arange(0, B)
        total = tl.zeros((M, B), dtype=tl.float32)
        for j in range(tl.load(starts + row), tl.load(starts + row + 1)):
            column = tl.load(sources + j) * B + k
            tile = tl.load(x + token[:, None] * x_width + column[None, :], mask=inside, other=0.0)
            corner = values + tl.load(order + j) * B * B
            at = k[None, :] * B + k[:, None] if TURNED else k[:, None] * B + k[None, :]
            total = tl.dot(tile, tl.load(corner + at), total, input_precision="ieee")
        goal = y + token[:, None] * y_width + row * B + k[None, :]
        tl.store(goal, total.to(y.dtype.element_ty), mask=inside)

    @triton.jit  # type: ignore[untyped-decorator]
    def _gradient(  # type: ignore[no-untyped-def]
        dy, x, d_values, rows, columns, tokens, y_width, x_width, B: tl.constexpr, M: tl.constexpr
    ):
        """Fill the gradient of one block [B, B]: the sum over tokens of dy' x."""
        j = tl.program_id(0)
        k = tl.arange(0, B)
        above = tl.load(rows + j) * B + k
        below = tl.load(columns + j) * B + k
        total = tl.zeros((B, B), dtype=tl.float32)
        for first in range(0, tokens, M):
            token = (first + tl.arange(0, M)).to(tl.int64)
            up = tl.load(
                dy + token[None, :] * y_width + above[:, None],
                mask=token[None, :] < tokens,
                other=0.0,
            )
            tile = tl.load(
                x + token[:, None] * x_width + below[None, :],
                mask=token[:, None] < tokens,
                other=0.0,
            )
            total = tl.dot(up, tile, total, input_precision="ieee")
        goal = d_values + j * B * B + k[:, None] * B + k[None, :]
        tl.store(goal, total.to(d_values.dtype.element_ty))


class TritonBlocks:
    """Which blocks of a matrix exist; multiplies by them.

    Args:
        mask: bool [out, in], whole blocks, where the products are to run.
        block: b; a power of two of at least 16 that divides both.

    Attributes:
        shape: (out, in).
        flat: place of every value in the flattened matrix, int64 [n b b], in the order of
            `GatheredBlocks`.

    Raises:
        ImportError: Triton is not installed.
        ValueError: a block size that no kernel has.
    """

    def __init__(self, mask: Tensor, block: int) -> None:
        if not AVAILABLE:
            raise ImportError("triton is not installed: pip install triton")
        if block < 16 or block & (block - 1):
            raise ValueError(f"blocks on a GPU are a power of two from 16 on, got {block}")
        out, inputs = mask.shape
        self.block, self.shape = block, (out, inputs)
        found = places(mask, block)
        self.flat = flat_places(found, inputs, block)
        rows, columns = found[:, 0], found[:, 1]
        by_column = torch.argsort(columns, stable=True)
        every = torch.arange(len(found), device=mask.device)
        self.forward = (_starts(rows, out // block), *_ints(columns, every))
        self.backward = (_starts(columns, inputs // block), *_ints(rows[by_column], by_column))
        self.places = _ints(rows, columns)

    def product(self, x: Tensor, values: Tensor) -> Tensor:
        """Return x W^T, [..., out].

        Args:
            x: [..., in].
            values: of the blocks, [n b b], in the order of `flat`.
        """
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, values = x.to(dtype), values.to(dtype)
        y: Tensor = _apply(x.contiguous(), values, self)
        return y


class _Blocks(torch.autograd.Function):
    """x W^T and its two gradients, [..., in] and [n b b]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, form: TritonBlocks) -> Tensor:
        ctx.save_for_backward(x, values)
        ctx.form = form
        return _multiply(x, values, form.forward, form.shape[0], form.block, turned=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, values = ctx.saved_tensors
        form: TritonBlocks = ctx.form
        b, (out, inputs) = form.block, form.shape
        dy = gradients[0].contiguous()
        dx = d_values = None
        if ctx.needs_input_grad[0]:
            dx = _multiply(dy, values, form.backward, inputs, b, turned=False)
        if ctx.needs_input_grad[1]:
            d_values = torch.empty_like(values)
            if len(values):
                _gradient[(len(values) // (b * b),)](
                    dy, x, d_values, *form.places, x.numel() // inputs, out, inputs, B=b, M=_TILE
                )
        return dx, d_values, None


_apply: Any = _Blocks.apply


def _multiply(
    x: Tensor, values: Tensor, layout: tuple[Tensor, ...], width: int, block: int, *, turned: bool
) -> Tensor:
    tokens = x.numel() // x.shape[-1]
    y = x.new_empty(*x.shape[:-1], width)
    _product[(-(-tokens // _TILE), width // block)](
        x, values, y, *layout, tokens, x.shape[-1], width, B=block, M=_TILE, TURNED=turned
    )
    return y


def _ints(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.to(torch.int32).contiguous() for tensor in tensors)


def _starts(ascending: Tensor, size: int) -> Tensor:
    """Return where the blocks of each of `size` rows (or columns) begin, and where all end."""
    counts = torch.bincount(ascending, minlength=size)
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0)).to(torch.int32)
