"""Products with a matrix of blocks as gathered dense products: any device, any precision.

With blocks of b a side, y = x W^T is one product for every block-row r of W: the columns of x whose
blocks exist are gathered, [N, k b], and multiplied by the row's blocks, [k b, b]. The gradient of x
is the same for the block-columns, that of W one product [b, N] [N, k b] for every block-row. All
are dense products on slices, so a density d costs about d of the dense layer, plus the gathering,
where b is 64 or more; small blocks are slower than dense. It is also the page to hold beside
`thrifty.engine.sparse_blocks`, which does the same without gathering.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thrifty.sparse import places

__all__ = ["GatheredBlocks"]


class GatheredBlocks:
    """Which blocks of a matrix exist; multiplies by them.

    Args:
        mask: bool [out, in], whole blocks.
        block: b; it divides both.

    Attributes:
        shape: (out, in).
        flat: place of every value in the flattened matrix, int64 [n b b]: block after block by
            block-row, then block-column, each as its rows lie.
        rows: for each block-row the block-columns that exist in it, ascending.
        columns: for each block-column the block-rows, ascending.
    """

    def __init__(self, mask: Tensor, block: int) -> None:
        self.block, self.shape = block, (mask.shape[0], mask.shape[1])
        found = places(mask, block)
        self.flat = flat_places(found, self.shape[1], block)
        order = torch.argsort(found[:, 1], stable=True)
        self.rows = _by(found[:, 0], found[:, 1], mask.shape[0] // block)
        self.columns = _by(found[order, 1], found[order, 0], mask.shape[1] // block)
        self.order = _by(found[order, 1], order, mask.shape[1] // block)

    def product(self, x: Tensor, values: Tensor) -> Tensor:
        """Return x W^T, [..., out].

        Args:
            x: [..., in].
            values: of the blocks, [n b b], in the order of `flat`.
        """
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, values = x.to(dtype), values.to(dtype)
        blocks = values.view(-1, self.block, self.block)
        flat: Tensor = _product(x.reshape(-1, x.shape[-1]), blocks, self)
        return flat.view(*x.shape[:-1], -1)


def flat_places(found: Tensor, inputs: int, block: int) -> Tensor:
    """Return where the values of blocks lie in the flattened matrix, int64 [n b b].

    Args:
        found: (block-row, block-column) of each block, [n, 2].
        inputs: columns of the matrix.
        block: b.
    """
    within = torch.arange(block, device=found.device)
    corner = found[:, 0] * block * inputs + found[:, 1] * block
    return (corner[:, None, None] + within[:, None] * inputs + within).flatten()


class _Product(torch.autograd.Function):
    """x W^T and its two gradients, [N, in] and [n, b, b]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, blocks: Tensor, form: GatheredBlocks) -> Tensor:
        ctx.save_for_backward(x, blocks)
        ctx.form = form
        b, at = form.block, 0
        y = x.new_zeros(len(x), form.shape[0])
        tiles = x.unflatten(1, (-1, b))
        for row, columns in enumerate(form.rows):
            if len(columns):
                chosen = blocks[at : at + len(columns)]
                at += len(columns)
                strip = chosen.transpose(1, 2).flatten(0, 1)  # [k b, b]
                torch.mm(_gathered(tiles, columns), strip, out=y[:, row * b : (row + 1) * b])
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, blocks = ctx.saved_tensors
        form: GatheredBlocks = ctx.form
        b, at = form.block, 0
        dx = dblocks = None
        if ctx.needs_input_grad[0]:
            dx = torch.zeros_like(x)
            above = dy.unflatten(1, (-1, b))
            for column, (rows, order) in enumerate(zip(form.columns, form.order, strict=True)):
                if len(rows):
                    out = dx[:, column * b : (column + 1) * b]
                    torch.mm(_gathered(above, rows), blocks[order].flatten(0, 1), out=out)
        if ctx.needs_input_grad[1]:
            dblocks = torch.empty_like(blocks)
            tiles = x.unflatten(1, (-1, b))
            for row, columns in enumerate(form.rows):
                if len(columns):
                    strip = dy[:, row * b : (row + 1) * b].t() @ _gathered(tiles, columns)
                    dblocks[at : at + len(columns)] = strip.unflatten(1, (-1, b)).transpose(0, 1)
                    at += len(columns)
        return dx, dblocks, None


_product: Any = _Product.apply


def _gathered(tiles: Tensor, chosen: Tensor) -> Tensor:
    """[N, blocks, b] -> [N, k b], the chosen blocks beside each other."""
    return tiles.index_select(1, chosen).flatten(1)


def _by(keys: Tensor, values: Tensor, size: int) -> tuple[Tensor, ...]:
    """Divide values by their ascending keys."""
    return tuple(values.split(torch.bincount(keys, minlength=size).tolist()))
