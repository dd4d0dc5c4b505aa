"""Which links to add: the best k of the candidates by one score, or shares of k by several.

A growth rule maps (state, candidates, k) to a mask of new links. `top(gradient)` is RigL's rule,
`top(random)` SET's. Ties are broken by the lower flat index, so that another implementation can
agree exactly; only the values of a score matter then, not the sorting routine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thrifty.sparse.masks import positions
from thrifty.sparse.scores import LayerState, Score

__all__ = ["GrowthRule", "highest", "split", "top"]

GrowthRule = Callable[[LayerState, Tensor, int], Tensor]
"""(state, candidates: bool, k) -> bool mask of min(k, candidates) candidates."""

Bools = NDArray[np.bool_]

_SAMPLE = 4096
_NAN = "a score is NaN: the loss or a weight has diverged before this step"


def highest(scores: Tensor, among: Tensor, k: int) -> Tensor:
    """Choose the k highest scores among some positions; ties go to the lower flat index.

    Args:
        scores: one number per position, any shape.
        among: bool, same shape: the positions to choose from.
        k: how many, at least 0; if fewer positions are on offer, all of them are chosen.

    Returns:
        Bool mask of the chosen positions, same shape.

    Raises:
        ValueError: a score on offer is NaN.

    Example:
        >>> highest(torch.tensor([1.0, 3.0, 3.0]), torch.tensor([True, True, True]), 1)
        tensor([False,  True, False])
    """
    if scores.device.type == "cpu":
        return torch.from_numpy(_highest_on_cpu(_as_numpy(scores), among.numpy(), k))
    return _highest_anywhere(scores, among, k)


def _highest_anywhere(scores: Tensor, among: Tensor, k: int) -> Tensor:
    """Do what `highest` does, on any device."""
    chosen = torch.zeros_like(among)
    offered = positions(among)
    k = min(k, offered.numel())
    if k <= 0:
        return chosen
    values = scores.flatten().index_select(0, offered)
    least = values.topk(k, sorted=False).values.min()  # NaN counts as the highest and as the least
    if bool(least.isnan()):
        raise ValueError(_NAN)
    # Without a stable sort of everything: all above the k-th value, then its ties from the left.
    reached = positions(values >= least)
    if reached.numel() > k:
        ties = values.index_select(0, reached) == least
        late = positions(ties)[k - reached.numel() :]
        reached = reached[torch.ones_like(ties).index_fill_(0, late, False)]
    chosen.view(-1).index_fill_(0, offered.index_select(0, reached), True)
    return chosen


def _highest_on_cpu(scores: NDArray[Any], among: Bools, k: int) -> Bools:
    """Do what `highest` does, in NumPy, which takes half the time on the CPU."""
    chosen = np.zeros(among.shape, np.bool_)
    flat = scores.reshape(-1)
    offered = _shortlist(flat, among.reshape(-1), k)
    k = min(k, len(offered))
    if k <= 0:
        return chosen
    values = flat[offered]
    least = _top(values, k).min()
    if np.isnan(least):
        raise ValueError(_NAN)
    reached = np.flatnonzero(values >= least)
    if len(reached) > k:
        ties = np.flatnonzero(values[reached] == least)
        reached = np.delete(reached, ties[k - len(reached) :])
    chosen.reshape(-1)[offered[reached]] = True
    return chosen


def _shortlist(scores: NDArray[Any], among: Bools, k: int) -> NDArray[np.int64]:
    """Return flat indices on offer, ascending, among which the k highest scores are.

    Where many are on offer for few places, a sample guesses a bound. All scores that are not below
    it, NaN included, are on the list; if these are fewer than k, everything on offer is.
    """
    size = len(scores)
    if size > max(8 * k, 8 * _SAMPLE):
        stride = size // _SAMPLE | 1  # odd, so that it meets every column of a matrix
        sample = scores[::stride]
        if 2 * np.count_nonzero(among[::stride]) > len(sample):
            rank = 3 * k * len(sample) // (2 * size) + 16
            low = scores < _top(sample, rank).min()
            near = np.flatnonzero(np.greater(among, low, out=low))
            if len(near) >= k:
                return near
    return np.flatnonzero(among)


def _top(values: NDArray[Any], k: int) -> NDArray[Any]:
    """Return the k highest values; NaN is higher than any number."""
    return np.partition(values, len(values) - k)[len(values) - k :]


def _as_numpy(scores: Tensor) -> NDArray[Any]:
    """Return scores as an array; in bfloat16, which NumPy lacks, as equal float32."""
    array: NDArray[Any] = (scores.float() if scores.dtype is torch.bfloat16 else scores).numpy()
    return array


def top(score: Score) -> GrowthRule:
    """Grow the candidates with the highest score.

    Args:
        score: the criterion, for example `gradient`.

    Returns:
        A growth rule: (state, candidates, k) -> bool mask of min(k, candidates) new links.

    Raises:
        ValueError: when growing, a candidate's score is NaN.

    Example:
        >>> state = LayerState("a", torch.zeros(3), torch.tensor([1.0, -5.0, 2.0]), torch.ones(3))
        >>> from thrifty.sparse.scores import gradient
        >>> top(gradient)(state, torch.tensor([True, False, True]), 1)
        tensor([False, False,  True])
    """

    def grow(state: LayerState, candidates: Tensor, k: int) -> Tensor:
        return highest(score(state), candidates, k)

    return grow


def split(*shares: tuple[Score, float]) -> GrowthRule:
    """Divide the new links among several scores by parts, each choosing what is not yet taken.

    k is divided in proportion to the parts by largest remainder (ties to the earlier score). The
    scores choose in the given order.

    Args:
        shares: (score, parts) pairs; parts are at least 0 and not all 0.

    Returns:
        A growth rule: (state, candidates, k) -> bool mask of min(k, candidates) new links.

    Raises:
        ValueError: no pair, a negative part, or all parts 0.

    Example:
        Three quarters by gradient, one quarter at random: split((gradient, 3), (random, 1)).
    """
    scores = [score for score, _ in shares]
    parts = [float(part) for _, part in shares]
    if not shares or not all(part >= 0.0 for part in parts) or not 0.0 < sum(parts) < float("inf"):
        raise ValueError(
            f"split needs parts of at least 0 that are not all 0, got {parts}: "
            "for example split((gradient, 3), (random, 1))"
        )

    def grow(state: LayerState, candidates: Tensor, k: int) -> Tensor:
        taken = torch.zeros_like(candidates)
        for score, share in zip(scores, _largest_remainder(k, parts), strict=True):
            if share:
                taken |= highest(score(state), candidates & ~taken, share)
        return taken

    return grow


def _largest_remainder(k: int, parts: list[float]) -> list[int]:
    exact = [k * part / sum(parts) for part in parts]
    counts = [int(share) for share in exact]
    order = sorted(range(len(parts)), key=lambda i: counts[i] - exact[i])  # stable
    for i in order[: k - sum(counts)]:
        counts[i] += 1
    return counts
