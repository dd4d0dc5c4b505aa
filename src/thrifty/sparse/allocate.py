"""How many links each layer keeps: uniform, Erdos-Renyi (ER) and Erdos-Renyi-kernel (ERK).

An allocation maps the shapes of the layers and one global sparsity S to a number of links (nnz)
per layer. The density of layer l is d_l = eps * r_l with a raw ratio r_l of its shape, where eps
makes the densities use up the budget: sum_l d_l n_l = (1 - S) N. Layers whose density would pass
1 are kept full and eps is solved again for the others (water filling).

ER is from Mocanu et al. (2018, SET), ERK from Evci et al. (2020, RigL); RLx2 (Tan et al. 2023)
uses ER. Where we differ: public code floors the number of zeros of every layer, so that the
total drifts by up to one link per layer; here the total is exactly round((1 - S) N), handed out
by largest remainder, and every layer is within one link of its real-valued share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch

__all__ = ["Allocation", "check_sparsity", "er", "erk", "uniform"]

Allocation = Callable[[Mapping[str, torch.Size], float], dict[str, int]]
"""(shapes by layer name, sparsity in [0, 1)) -> links (nnz) by layer name."""


def check_sparsity(sparsity: float) -> float:
    """Return `sparsity` as a float if it is a fraction of zeros in [0, 1).

    Args:
        sparsity: fraction of links that are cut.

    Returns:
        The same number.

    Raises:
        ValueError: it is not in [0, 1), or not a number.
    """
    value = float(sparsity)
    if not 0.0 <= value < 1.0:
        raise ValueError(
            f"sparsity must lie in [0, 1), got {sparsity}: it is the fraction of links that are "
            "cut, for example 0.9"
        )
    return value


def uniform(shapes: Mapping[str, torch.Size], sparsity: float) -> dict[str, int]:
    """Give every layer the same density 1 - S.

    Args:
        shapes: shape of each layer's weight, [out, in, ...], by name.
        sparsity: fraction of all links to cut, in [0, 1).

    Returns:
        Links per layer, by name; the total is exactly round((1 - S) N).

    Raises:
        ValueError: `sparsity` is not in [0, 1).

    Example:
        >>> uniform({"a": torch.Size([4, 5]), "b": torch.Size([2, 5])}, 0.5)
        {'a': 10, 'b': 5}
    """
    return _allocate(shapes, sparsity, lambda shape: 1.0)


def er(shapes: Mapping[str, torch.Size], sparsity: float) -> dict[str, int]:
    """Give each layer a density proportional to (in + out) / (in * out).

    d_l = eps * (I_l + O_l) / (I_l O_l), capped at 1; a kernel's extent does not enter.

    Args:
        shapes: shape of each layer's weight, [out, in, ...], by name.
        sparsity: fraction of all links to cut, in [0, 1).

    Returns:
        Links per layer, by name; the total is exactly round((1 - S) N).

    Raises:
        ValueError: `sparsity` is not in [0, 1).

    Example:
        >>> er({"a": torch.Size([10, 10]), "b": torch.Size([2, 10])}, 0.5)
        {'a': 40, 'b': 20}

    Reference:
        Mocanu et al. 2018, "Scalable training of artificial neural networks with adaptive sparse
        connectivity inspired by network science", Nature Communications, equation 3.
    """
    return _allocate(shapes, sparsity, lambda shape: sum(shape[:2]) / math.prod(shape[:2]))


def erk(shapes: Mapping[str, torch.Size], sparsity: float) -> dict[str, int]:
    """Give each layer a density proportional to the sum over the product of all its dimensions.

    d_l = eps * (I + O + K_1 + ...) / (I * O * K_1 * ...), capped at 1; equal to `er` on matrices.

    Args:
        shapes: shape of each layer's weight, [out, in, kernel...], by name.
        sparsity: fraction of all links to cut, in [0, 1).

    Returns:
        Links per layer, by name; the total is exactly round((1 - S) N).

    Raises:
        ValueError: `sparsity` is not in [0, 1).

    Example:
        >>> erk({"a": torch.Size([10, 10]), "b": torch.Size([2, 10])}, 0.5)
        {'a': 40, 'b': 20}

    Reference:
        Evci et al. 2020, "Rigging the lottery: making all tickets winners", section 3.
    """
    return _allocate(shapes, sparsity, lambda shape: sum(shape) / math.prod(shape))


def _allocate(
    shapes: Mapping[str, torch.Size], sparsity: float, ratio: Callable[[torch.Size], float]
) -> dict[str, int]:
    density = 1.0 - check_sparsity(sparsity)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    if any(size == 0 for size in sizes.values()):
        raise ValueError("a layer without links cannot be allocated to: leave it out with `where`")
    raw = {name: ratio(shape) * sizes[name] for name, shape in shapes.items()}
    shares = _fill(sizes, raw, density * sum(sizes.values()))
    return _round(shares, sizes, round(density * sum(sizes.values())))


def _fill(sizes: dict[str, int], raw: dict[str, float], budget: float) -> dict[str, float]:
    """Share `budget` in proportion to `raw`, no layer above its size (water filling)."""
    full: set[str] = set()
    while True:
        open_names = [name for name in sizes if name not in full]
        left = budget - sum(sizes[name] for name in full)
        total_raw = sum(raw[name] for name in open_names)
        shares = {name: left * raw[name] / total_raw for name in open_names}
        over = [name for name in open_names if shares[name] > sizes[name]]
        if not over:
            return {name: shares.get(name, float(sizes[name])) for name in sizes}
        full.update(over)  # what they cannot hold only raises the others: none ever comes back


def _round(shares: dict[str, float], sizes: dict[str, int], total: int) -> dict[str, int]:
    """Round to integers of the given total by largest remainder; ties go to the earlier layer."""
    nnz = {name: min(math.floor(share), sizes[name]) for name, share in shares.items()}
    order = sorted(shares, key=lambda name: nnz[name] - shares[name])  # stable: earlier first
    left = total - sum(nnz.values())
    for name in order:
        if left > 0 and nnz[name] < sizes[name]:
            nnz[name] += 1
            left -= 1
    for name in reversed(order):  # only ever needed where a float sum rounded upwards
        if left < 0 and nnz[name] > 0:
            nnz[name] -= 1
            left += 1
    assert left == 0, "a budget could not be handed out"
    return nnz
