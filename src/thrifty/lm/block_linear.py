"""A linear layer that skips the blocks that do not exist: gathered products of dense matrices.

With blocks of b a side, y = x W^T is one product for every block-row r of W: the columns of x whose
blocks exist are gathered, [N, k b], and multiplied by the row's blocks, [k b, b]. The gradient of x
is the same for the block-columns, that of W one product [b, N] [N, k b] for every block-row. All
are dense products on slices, so a density d costs about d of the dense layer, plus the gathering,
where b is 64 or more; small blocks are slower than dense.

Which blocks exist is data (`BlockLayout`), made of the mask after every evolution step.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thrifty.sparse import places

__all__ = ["BlockLayout", "BlockLinear", "block_linear"]


class BlockLayout:
    """Which blocks of a matrix exist.

    Args:
        mask: bool [out, in], whole blocks.
        block: b; it divides both.

    Attributes:
        block: as given.
        rows: for each block-row the block-columns that exist in it, ascending.
        columns: for each block-column the block-rows, ascending.
    """

    def __init__(self, mask: Tensor, block: int) -> None:
        self.block = block
        found = places(mask, block)
        order = torch.argsort(found[:, 1], stable=True)
        self.rows = _by(found[:, 0], found[:, 1], mask.shape[0] // block)
        self.columns = _by(found[order, 1], found[order, 0], mask.shape[1] // block)


class BlockLinear(nn.Linear):
    """`nn.Linear` that uses a layout where it has one.

    Attributes:
        layout: which blocks exist; None multiplies the whole matrix.
    """

    layout: BlockLayout | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Return input W^T + bias."""
        return block_linear(input, self.weight, self.bias, self.layout)


def block_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, layout: BlockLayout | None
) -> Tensor:
    """Multiply by the blocks that exist.

    Args:
        x: [..., in].
        weight: [out, in], 0 outside of the layout's blocks. Its gradient is 0 there.
        bias: [out], or None.
        layout: which blocks exist; None multiplies the whole matrix.

    Returns:
        x W^T + bias, [..., out].
    """
    if layout is None:
        return F.linear(x, weight, bias)
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    flat: Tensor = _product(x.reshape(-1, x.shape[-1]), weight, layout)
    y = flat.view(*x.shape[:-1], -1)
    return y if bias is None else y + bias.to(y.dtype)


class _Product(torch.autograd.Function):
    """x W^T and its two gradients, [N, in] and [out, in]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, layout: BlockLayout) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layout = layout
        y = x.new_zeros(len(x), len(weight))
        tiles, b = x.unflatten(1, (-1, layout.block)), layout.block
        for row, columns in enumerate(layout.rows):
            if len(columns):
                out = y[:, row * b : (row + 1) * b]
                torch.mm(_gathered(tiles, columns), _strip(weight, row, columns, b).t(), out=out)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        layout: BlockLayout = ctx.layout
        b = layout.block
        dx = dweight = None
        if ctx.needs_input_grad[0]:
            dx = torch.zeros_like(x)
            above = dy.unflatten(1, (-1, b))
            for column, rows in enumerate(layout.columns):
                if len(rows):
                    out = dx[:, column * b : (column + 1) * b]
                    blocks = weight[:, column * b : (column + 1) * b].unflatten(0, (-1, b))
                    torch.mm(_gathered(above, rows), blocks[rows].flatten(0, 1), out=out)
        if ctx.needs_input_grad[1]:
            dweight = torch.zeros_like(weight)
            tiles, grid = x.unflatten(1, (-1, b)), dweight.unflatten(1, (-1, b))
            for row, columns in enumerate(layout.rows):
                if len(columns):
                    strip = dy[:, row * b : (row + 1) * b].t() @ _gathered(tiles, columns)
                    grid[row * b : (row + 1) * b, columns] = strip.unflatten(1, (-1, b))
        return dx, dweight, None


_product: Any = _Product.apply


def _gathered(tiles: Tensor, chosen: Tensor) -> Tensor:
    """[N, blocks, b] -> [N, k b], the chosen blocks beside each other."""
    return tiles.index_select(1, chosen).flatten(1)


def _strip(weight: Tensor, row: int, columns: Tensor, block: int) -> Tensor:
    """The blocks of one block-row that exist, [b, k b]."""
    tiles: Tensor = weight[row * block : (row + 1) * block].unflatten(1, (-1, block))
    return tiles.index_select(1, columns).flatten(1)


def _by(keys: Tensor, values: Tensor, size: int) -> tuple[Tensor, ...]:
    """Divide values by their ascending keys."""
    return tuple(values.split(torch.bincount(keys, minlength=size).tolist()))
