"""Which links of one layer stay and which come, at one evolution step.

With n links before, n' after and drop fraction zeta (Evci et al. 2020, algorithm 1):

    keep  min(n - floor(zeta n), n') links of highest drop score
    grow  n' - kept links by the growth rule among everything that is not kept.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from thrifty.sparse.blocks import expanded, grown_with_floor, kept_with_floor, on_grid
from thrifty.sparse.growth import GrowthRule, highest
from thrifty.sparse.masks import count
from thrifty.sparse.scores import LayerState, Score

__all__: list[str] = []  # for the modules of this room


class Exchange(NamedTuple):
    """What stays and what comes, of the shape of the layer.

    Attributes:
        kept: bool, links that stay.
        grown: bool, links that are added; disjoint from `kept`.
    """

    kept: Tensor
    grown: Tensor


def exchange(
    state: LayerState,
    n_after: int,
    fraction: float,
    drop: Score,
    grow: GrowthRule,
    *,
    block: int = 1,
) -> Exchange:
    """Decide about one layer, or one group of layers ranked together.

    Args:
        state: before.
        n_after: links wanted afterwards; with blocks a multiple of block^2.
        fraction: zeta, in [0, 1].
        drop: the lowest scores go.
        grow: chooses what comes.
        block: links move in square blocks of this many a side; no block-row falls empty, and no
            block-column where n_after is enough.

    Returns:
        What stays and what comes.

    Raises:
        ValueError: the growth rule returns too few or forbidden links, or a score cannot be taken.

    Example:
        >>> import torch
        >>> from thrifty.sparse.growth import top
        >>> from thrifty.sparse.scores import gradient, magnitude
        >>> weight, grad = torch.tensor([3.0, 1.0, 0.0]), torch.tensor([0.0, 1.0, 2.0])
        >>> state = LayerState("a", weight, grad, weight > 0)
        >>> exchange(state, 2, 0.5, magnitude, top(gradient)).grown  # 1 of 2 goes, 1 comes
        tensor([False, False,  True])
    """
    if block > 1:
        state = on_grid(state, block)
        n_after //= block * block
    n_before = count(state.mask)
    n_kept = min(n_before - math.floor(n_before * fraction), n_after)
    if block > 1:
        kept = kept_with_floor(drop(state), state.mask, n_kept, n_after)
        wanted = n_after - count(kept)
        grown = grown_with_floor(state, kept, wanted, grow)
    else:
        kept = highest(drop(state), state.mask, n_kept)
        wanted = n_after - n_kept
        grown = grow(state, ~kept, wanted)
    n_grown, n_wrong = count(grown), count(grown & kept)
    if n_wrong or n_grown != wanted:
        raise ValueError(
            f"the growth rule must choose {wanted} of the candidates of {state.name}, it chose "
            f"{n_grown - n_wrong} and {n_wrong} links that are no candidates"
        )
    if block > 1:
        return Exchange(expanded(kept, block), expanded(grown, block))
    return Exchange(kept, grown)
