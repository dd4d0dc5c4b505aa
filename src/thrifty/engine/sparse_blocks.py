"""A matrix of square blocks as one torch operation on our kernels: x W^T and its two gradients.

Float32 on the CPU, once differentiable; tokens are shared by the threads that torch has. Which
blocks exist is data, made from a mask.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thrifty.engine import crew, panels
from thrifty.engine.links import KIND, asked, is_plain
from thrifty.engine.vector import LANES

__all__ = ["UNIT", "Blocks"]

UNIT = panels.UNIT
"""Blocks have a multiple of this many links a side."""
_Places = NDArray[np.int64]


class Blocks:
    """Which blocks of a matrix exist; multiplies by them.

    Args:
        mask: bool [out, in], whole blocks, on the CPU.
        block: b, a multiple of 16 that divides both.

    Attributes:
        shape: (out, in).
        block: as given.
        flat: place of every value in the flattened matrix, int64 [n b b]: block after block by
            block-row, then block-column, each as its rows lie.

    Raises:
        ValueError: a block size that does not fit.

    Example:
        >>> blocks = Blocks(torch.eye(2, dtype=torch.bool).repeat_interleave(16, 0)
        ...     .repeat_interleave(16, 1), 16)
        >>> blocks.product(torch.ones(1, 32), torch.ones(2 * 16 * 16))[0, :3].tolist()
        [16.0, 16.0, 16.0]
    """

    def __init__(self, mask: Tensor, block: int) -> None:
        out, inputs = mask.shape
        if block < UNIT or block % UNIT or out % block or inputs % block:
            raise ValueError(
                f"blocks of the engine have a multiple of {UNIT} links a side and divide the "
                f"matrix: {block} a side do not fit {out} x {inputs}"
            )
        self.shape, self.block = (out, inputs), block
        grid = mask.numpy()[::block, ::block]
        self.rows, self.columns = (axis.astype(np.int64) for axis in np.nonzero(grid))
        count = len(self.rows)
        by_column = np.argsort(self.columns, kind="stable").astype(np.int64)
        # For y = x W^T the blocks by block-row; for dx = dy W by block-column.
        self.forward = (_starts(self.rows, out // block), self.columns, np.arange(count))
        self.backward = (
            _starts(self.columns, inputs // block),
            self.rows[by_column],
            by_column,
        )
        within = torch.arange(block)
        corner = torch.from_numpy(self.rows * block * inputs + self.columns * block)
        self.flat = (corner[:, None, None] + within[:, None] * inputs + within).flatten()

    def product(self, x: Tensor, values: Tensor) -> Tensor:
        """Return x W^T, [..., out].

        Args:
            x: float32 on the CPU, [..., in].
            values: of the blocks, [n b b], in the order of `flat`.

        Raises:
            ValueError: another kind of tensor.
        """
        x = x.contiguous()
        if not (is_plain(x) and is_plain(values)):
            raise ValueError(
                f"blocks of the engine are float32 on the CPU, got {x.dtype} on {x.device} and "
                f"{values.dtype} on {values.device}"
            )
        if x.shape[-1] != self.shape[1] or values.shape != self.flat.shape:
            raise ValueError(
                f"these blocks take [..., {self.shape[1]}] and {len(self.flat)} values, got "
                f"{tuple(x.shape)} and {tuple(values.shape)}"
            )
        y: Tensor = _product(x, values, self)
        return y


def _starts(sorted_by: _Places, size: int) -> _Places:
    """Return where the blocks of each of `size` rows (or columns) begin, and where all end."""
    counts = np.bincount(sorted_by, minlength=size)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


class _Product(torch.autograd.Function):
    """x W^T and its two gradients, [..., in] and [n b b]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, form: Blocks) -> Tensor:
        ctx.save_for_backward(x, values)
        ctx.form = form
        b = form.block
        turned = values.view(-1, b, b).transpose(1, 2).contiguous()
        y = torch.empty(*x.shape[:-1], form.shape[0], **KIND)
        _multiply(form.forward, turned, b, x, y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        if torch.is_grad_enabled():
            raise ValueError("sparse blocks have no second derivatives: drop create_graph")
        form: Blocks = ctx.form
        x, values = ctx.saved_tensors
        dy = gradients[0].contiguous()
        of_x, of_values = asked(ctx, ctx.needs_input_grad[:2])
        dx = None
        if of_x:
            dx = torch.empty_like(x)
            _multiply(form.backward, values, form.block, dy, dx)
        return dx, _gradient(form, dy, x) if of_values else None, None


_product: Any = _Product.apply


def _multiply(
    blocks: tuple[_Places, _Places, _Places], panel: Tensor, block: int, x: Tensor, y: Tensor
) -> None:
    """Fill y with x times the panels of the blocks, by all threads."""
    x_width, y_width = x.shape[-1], y.shape[-1]

    def part(begin: int, end: int) -> None:
        panels.product(
            *blocks,
            panel.data_ptr(),
            block,
            x.data_ptr() + begin * x_width * 4,
            x_width,
            y.data_ptr() + begin * y_width * 4,
            y_width,
            end - begin,
        )

    shares = crew.parts(x.numel() // x_width, LANES, torch.get_num_threads())
    crew.run([partial(part, begin, end) for begin, end in shares])


def _gradient(form: Blocks, dy: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the values; each thread adds up its own, summed in their order."""
    out, inputs = form.shape
    shares = crew.parts(x.numel() // inputs, LANES, torch.get_num_threads())
    sums = [torch.zeros(len(form.flat), **KIND) for _ in shares]

    def part(number: int) -> None:
        begin, end = shares[number]
        scratch = torch.empty(LANES, out + inputs, **KIND)
        panels.gradient(
            form.rows,
            form.columns,
            form.block,
            dy.data_ptr() + begin * out * 4,
            out,
            x.data_ptr() + begin * inputs * 4,
            inputs,
            end - begin,
            scratch.data_ptr(),
            sums[number].data_ptr(),
        )

    crew.run([partial(part, number) for number in range(len(shares))])
    return crew.summed(sums)
