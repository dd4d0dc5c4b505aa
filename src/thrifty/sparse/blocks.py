"""Links cut in square blocks of b a side, which hardware can skip; b = 1 is single links.

A layer is then a grid of blocks: its weight stands for the blocks' Frobenius norms, its gradient
likewise, its mask for the blocks that exist. Scores and growth rules see that grid as if it were a
layer (`LayerState.block` tells), so every criterion works on blocks as it does on links.

Every block-row keeps at least one block, and every block-column where the budget allows, so that
no group of neurons falls silent. `in_blocks` makes any allocation hand out whole blocks with these
floors; a budget below the floors is refused with the least density that can be had.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from thrifty.sparse.allocate import Allocation
from thrifty.sparse.growth import GrowthRule, highest
from thrifty.sparse.masks import count, positions
from thrifty.sparse.scores import LayerState

__all__ = ["block_subset", "in_blocks", "places"]


def norms(tensor: Tensor, block: int) -> Tensor:
    """Return the Frobenius norm of every block.

    Args:
        tensor: [out, in], both multiples of `block`.
        block: b.

    Returns:
        [out / b, in / b].

    Example:
        >>> norms(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), 2)
        tensor([[5.]])
    """
    tiles: Tensor = tensor.unflatten(1, (-1, block)).unflatten(0, (-1, block))
    return tiles.square().sum((1, 3)).sqrt()


def coarse(mask: Tensor, block: int) -> Tensor:
    """Return which blocks of a mask of whole blocks exist.

    Args:
        mask: bool [out, in], constant in each block.
        block: b.

    Returns:
        Bool [out / b, in / b].
    """
    return mask[::block, ::block].contiguous()


def expanded(blocks: Tensor, block: int) -> Tensor:
    """Undo `coarse`: each entry becomes a square of b a side."""
    return blocks.repeat_interleave(block, 0).repeat_interleave(block, 1)


def on_grid(state: LayerState, block: int) -> LayerState:
    """Return the state of a layer's grid of blocks.

    Args:
        state: of one layer, a matrix.
        block: b.
    """
    grad = None if state.grad is None else norms(state.grad, block)
    return LayerState(
        state.name,
        norms(state.weight, block),
        grad,
        coarse(state.mask, block),
        block,
        state.generator,
    )


def kept_with_floor(scores: Tensor, mask: Tensor, k: int, most: int | None = None) -> Tensor:
    """Keep the k highest blocks, but so that no row falls empty, and no column if that can be.

    The best of each row and of each column left out stay; where these are too many, as few as
    cover all that the mask covers. Where these are too many as well, only so many stay that what
    grows can cover the rest (`grown_with_floor`), or, below one for each row and column, the best
    of each row.

    Args:
        scores: one number per block.
        mask: bool, the blocks that exist; at least one in each row.
        k: how many to keep.
        most: blocks after growth, at least the rows; more than k may stay, up to these, for the
            sake of rows and columns. Default k, or the rows where that is less.

    Returns:
        Bool mask of the kept blocks.

    Example:
        >>> scores = torch.tensor([[4.0, 1.0], [3.0, 2.0]])
        >>> kept_with_floor(scores, torch.ones(2, 2, dtype=torch.bool), 2)
        tensor([[ True, False],
                [False,  True]])
    """
    most = max(k, mask.shape[0]) if most is None else most
    available = scores.masked_fill(~mask, -math.inf)
    rows = _best(available, mask, 1)
    held = rows | (_best(available, mask, 0) & ~rows.any(0))
    room = count(~mask.any(0))  # for one in each column that is empty now
    if count(held) + room > most:
        pairs = _pairs(available, mask)
        held = _covered(pairs & mask, pairs & mask, available, mask)
        if count(held) + room > most:
            held = _covered(pairs & mask, pairs, available, mask)
            room = max(mask.shape) - count(held)
    if count(held) + room > most:
        held, room = rows, 0
    return held | highest(scores, mask & ~held, min(k, most - room) - count(held))


def grown_with_floor(state: LayerState, kept: Tensor, k: int, grow: GrowthRule) -> Tensor:
    """Let k blocks grow, in empty rows and columns first where these can all be filled.

    Args:
        state: of the grid, before.
        kept: bool, the blocks that stay.
        k: how many grow.
        grow: chooses among candidates.

    Returns:
        Bool mask of the new blocks.
    """
    grown = torch.zeros_like(kept)
    while True:
        rows, columns = (~(kept | grown).any(dim) for dim in (1, 0))
        needed = max(count(rows), count(columns))
        if not 0 < needed <= k - count(grown):
            return grown | grow(state, ~(kept | grown), k - count(grown))
        everything = torch.ones_like(kept)
        across = rows[:, None] if rows.any() else everything
        grown |= grow(state, across & (columns if columns.any() else everything), 1)


def _best(available: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Return the best block of each row (dim 1) or column (dim 0) that has one."""
    return torch.zeros_like(mask).scatter_(dim, available.argmax(dim, keepdim=True), True) & mask


def _pairs(available: Tensor, mask: Tensor) -> Tensor:
    """Give as many rows as possible a column to themselves.

    An assignment problem: of the blocks that exist as many as possible, of these the highest in
    rank, and of those that do not exist no more than are needed.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and seldom needed

    cells = mask.numel()
    rank = available.flatten().argsort(stable=True).argsort().view_as(mask)
    price = (cells - rank).masked_fill(~mask, cells * (min(mask.shape) + 1))
    found = linear_sum_assignment(price.cpu().numpy())
    pairs = torch.zeros_like(mask)
    pairs[tuple(torch.from_numpy(axis).to(mask.device) for axis in found)] = True
    return pairs


def _covered(blocks: Tensor, counted: Tensor, available: Tensor, mask: Tensor) -> Tensor:
    """Add the best block of every row and then column in which nothing is counted."""
    for dim in (1, 0):
        more = _best(available, mask, dim) & ~counted.any(dim, keepdim=True)
        blocks, counted = blocks | more, counted | more
    return blocks


def in_blocks(allocate: Allocation, block: int) -> Allocation:
    """Make an allocation hand out whole blocks.

    Args:
        allocate: divides a budget among layers, for example `er`; it is given the grids.
        block: b, at least 1; 1 returns the allocation as it is.

    Returns:
        An allocation whose counts are links, multiples of b^2, at least one block in each
        block-row, and one in each block-column where the whole budget allows it. The total is the
        budget rounded to whole blocks. It raises ValueError where b divides a layer not, or the
        budget is below the floors.

    Example:
        >>> from thrifty.sparse.allocate import er
        >>> in_blocks(er, 2)({"a": torch.Size([8, 4]), "b": torch.Size([4, 4])}, 0.5)
        {'a': 16, 'b': 8}
    """
    if block < 1:
        raise ValueError(f"a block has at least 1 link a side, got {block}")
    if block == 1:
        return allocate

    def allocate_blocks(shapes: Mapping[str, torch.Size], sparsity: float) -> dict[str, int]:
        grids = {name: _grid(name, shape, block) for name, shape in shapes.items()}
        total = sum(math.prod(grid) for grid in grids.values())
        budget = round((1.0 - sparsity) * total)
        rows = {name: grid[0] for name, grid in grids.items()}
        both = {name: max(grid) for name, grid in grids.items()}
        if budget < sum(rows.values()):
            least = sum(rows.values()) / total
            raise ValueError(
                f"blocks of {block} a side need a density of at least {least:.4f} here, one block "
                f"in every block-row, and {1.0 - sparsity:.4f} was asked for: take smaller blocks "
                "or more links"
            )
        floors = both if budget >= sum(both.values()) else rows
        blocks: dict[str, int] = {}
        while True:  # layers that fall below their floor get it, the others share the rest
            others = {name: grid for name, grid in grids.items() if name not in blocks}
            left = budget - sum(blocks.values())
            size = sum(math.prod(grid) for grid in others.values())
            shares = allocate(others, max(0.0, 1.0 - left / size)) if others else {}
            below = {name: floors[name] for name in others if shares[name] < floors[name]}
            if not below:
                blocks |= shares
                return {name: blocks[name] * block * block for name in shapes}
            blocks |= below

    return allocate_blocks


def block_subset(block: int) -> _BlockSubset:
    """Return a first topology of whole blocks, at random, that keeps the weights' values.

    Args:
        block: b.

    Returns:
        For `sparsify(initial=...)`: (weight, nnz, generator) -> mask with a block in each
        block-row, and in each block-column where there are enough.
    """
    return _BlockSubset(block)


class _BlockSubset:
    """(weight, nnz, generator) -> mask; a class so that it can be copied to other processes."""

    def __init__(self, block: int) -> None:
        self._block = block

    def __call__(self, weight: Tensor, nnz: int, generator: torch.Generator) -> Tensor:
        rows, columns = _grid("the weight", weight.shape, self._block)
        blocks = nnz // self._block**2
        scores = torch.rand(rows, columns, generator=generator)
        chosen = kept_with_floor(scores, torch.ones(rows, columns, dtype=torch.bool), blocks)
        return expanded(chosen, self._block).to(weight.device)


def places(mask: Tensor, block: int) -> Tensor:
    """Return the blocks of a mask that exist, as pairs (row, column) [n, 2], row by row.

    Args:
        mask: bool [out, in].
        block: b.
    """
    grid = coarse(mask, block)
    flat = positions(grid)
    return torch.stack([flat // grid.shape[1], flat % grid.shape[1]], 1)


def _grid(name: str, shape: torch.Size, block: int) -> torch.Size:
    if len(shape) != 2 or shape[0] % block or shape[1] % block:
        raise ValueError(
            f"blocks of {block} a side do not divide {name} of shape {tuple(shape)}: choose one "
            "that divides both, or pad it"
        )
    return torch.Size([shape[0] // block, shape[1] // block])
