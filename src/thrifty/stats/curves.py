"""Evaluation curves of several runs: a common grid, area, final mean, and a band per step.

Legend of shape suffixes: R runs, G grid points, B bootstrap resamples. A run that was cut, or that
began later, holds NaN where it has no data: nothing is extrapolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from thrifty.stats.aggregate import FloatArray, Statistic, iqm

# Numbers held at once while a band is resampled; bounds the memory at about 30 MB.
_NUMBERS_AT_ONCE = 4_000_000


class Curve(NamedTuple):
    """One run's values over strictly increasing positions (steps, or seconds)."""

    positions: npt.ArrayLike
    values: npt.ArrayLike


class Band(NamedTuple):
    """A statistic of several curves at every grid point, with its bootstrap interval."""

    value: FloatArray  # [G]; NaN where no run has data
    low: FloatArray  # [G]; NaN where fewer than two runs have data
    high: FloatArray  # [G]
    runs: npt.NDArray[np.int64]  # [G] number of runs with data


def align(
    curves: Sequence[Curve | tuple[npt.ArrayLike, npt.ArrayLike]],
    grid: npt.ArrayLike | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Put the curves of several runs on one grid, linearly between a run's own points.

    Args:
        curves: per run its positions [E] (strictly increasing) and values [E], finite.
        grid: [G] increasing positions; None takes every position at which some run was evaluated.

    Returns:
        grid [G], and values [R, G] with NaN before a run's first and after its last point.

    Raises:
        ValueError: no curves, an empty one, positions that do not increase, values not finite.

    Example:
        >>> align([([0, 10], [0.0, 1.0]), ([0, 5], [2.0, 2.0])])[1].tolist()
        [[0.0, 0.5, 1.0], [2.0, 2.0, nan]]
    """
    if not curves:
        raise ValueError("there is no curve to align")
    checked = [_curve(positions, values) for positions, values in curves]
    if grid is None:
        grid_G = np.unique(np.concatenate([positions for positions, _ in checked]))
    else:
        grid_G = np.asarray(grid, dtype=np.float64)
    rows = [
        np.interp(grid_G, positions, values, left=np.nan, right=np.nan)
        for positions, values in checked
    ]
    return grid_G, np.stack(rows)


def area(
    positions: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    start: float | None = None,
    stop: float | None = None,
) -> float:
    """Area under a curve (trapezoids), integral of v(x) dx from start to stop.

    Divided by stop - start it is the mean height: how well the run did during training.

    Args:
        positions: [E] strictly increasing.
        values: [E] finite.
        start: left end; None is the first position.
        stop: right end; None is the last position.

    Returns:
        The area, in units of value times position.

    Raises:
        ValueError: an end outside the curve, or start > stop.

    Example:
        >>> area([0, 10, 20], [0.0, 1.0, 1.0])
        15.0
    """
    x, y = _curve(positions, values)
    left = x[0] if start is None else start
    right = x[-1] if stop is None else stop
    if not x[0] <= left <= right <= x[-1]:
        raise ValueError(
            f"the area from {left:g} to {right:g} was asked for, but the curve runs from "
            f"{x[0]:g} to {x[-1]:g}; choose ends inside it"
        )
    inside = x[(x > left) & (x < right)]
    at = np.concatenate([[left], inside, [right]])
    return float(np.trapezoid(np.interp(at, x, y), at))


def final_mean(values: npt.ArrayLike, last: int = 5) -> float:
    """Mean of the last evaluations of a run (of all of them, where there are fewer).

    Args:
        values: [E] evaluation returns in order.
        last: how many evaluations count, at least 1.

    Raises:
        ValueError: no values, or last < 1.

    Example:
        >>> final_mean([0.0, 0.0, 4.0, 6.0], last=2)
        5.0
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError("a final mean needs at least one evaluation")
    if last < 1:
        raise ValueError(f"last must be at least 1, got {last}")
    return float(array[-last:].mean())


def band(
    values_RG: npt.ArrayLike,
    statistic: Statistic = iqm,
    *,
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 1000,
) -> Band:
    """A statistic over runs at every grid point, with a pointwise percentile bootstrap interval.

    Whole curves are resampled. Where some runs have no data, those that have are taken: `runs`
    says how many they are, so that a figure can show where the sample changes.

    Args:
        values_RG: [R, G] curves on one grid; NaN where a run has no data.
        statistic: what is summed up over runs.
        generator: draws the resamples.
        level: nominal coverage of each interval, in (0, 1).
        resamples: number of bootstrap resamples.

    Raises:
        ValueError: wrong shape, or a level outside (0, 1).
    """
    values = np.asarray(values_RG, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] == 0:
        raise ValueError(f"expected curves of shape [runs, grid], got shape {values.shape}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, got {level}; 0.95 is usual")
    grid_points = values.shape[1]
    centre, low, high = (np.full(grid_points, np.nan) for _ in range(3))
    present_RG = np.isfinite(values)
    bounds = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    patterns, which = np.unique(present_RG, axis=1, return_inverse=True)
    for index in range(patterns.shape[1]):
        runs = np.flatnonzero(patterns[:, index])
        columns = np.flatnonzero(which.reshape(-1) == index)
        if runs.size == 0:
            continue
        sample = values[np.ix_(runs, columns)]
        centre[columns] = statistic(sample, axis=0)
        if runs.size == 1:
            continue
        drawn_BR = generator.integers(runs.size, size=(resamples, runs.size))
        width = max(1, _NUMBERS_AT_ONCE // drawn_BR.size)
        for begin in range(0, columns.size, width):
            part = slice(begin, begin + width)
            replicates = statistic(sample[:, part][drawn_BR], axis=1)
            low[columns[part]], high[columns[part]] = np.quantile(replicates, bounds, axis=0)
    return Band(centre, low, high, present_RG.sum(axis=0))


def _curve(positions: npt.ArrayLike, values: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    x = np.asarray(positions, dtype=np.float64)
    y = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or x.size == 0:
        raise ValueError(
            f"a curve needs as many values as positions, got shapes {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a curve must be finite; leave out the points that have no value")
    if (np.diff(x) <= 0).any():
        raise ValueError("the positions of a curve must increase; sort them and drop repeats")
    return x, y
