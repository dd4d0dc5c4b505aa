"""Statements about whole distributions of scores: performance profiles, probability of improvement.

As in Agarwal, Schwarzer, Castro, Courville and Bellemare, "Deep Reinforcement Learning at the Edge
of the Statistical Precipice", NeurIPS 2021 (arXiv 2108.13264), sections 4.2 and 4.3.

Where we differ: bounds are NaN for a single run, and the generator is an argument.

Legend of shape suffixes: R runs, T tasks, G thresholds, B bootstrap resamples.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thrifty.stats.aggregate import FloatArray, Interval, percentile_interval, scores_of
from thrifty.stats.curves import Band

_NUMBERS_AT_ONCE = 4_000_000  # held while resampling; bounds the memory at about 30 MB


def performance_profile(
    scores_RT: npt.ArrayLike,
    thresholds_G: npt.ArrayLike,
    *,
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
) -> Band:
    """Fraction of all runs whose score lies above each threshold, with its pointwise interval.

    F(tau) = 1/(R T) sum_rt 1[score_rt > tau]; runs are resampled within each task.

    Args:
        scores_RT: [R, T] finite scores, comparable between tasks (normalised).
        thresholds_G: [G] the thresholds tau.
        generator: draws the resamples.
        level: nominal coverage of each interval, in (0, 1).
        resamples: number of bootstrap resamples.

    Returns:
        The fractions [G] with their bounds; `runs` is R at every threshold.

    Raises:
        ValueError: wrong shape, a value that is not finite, a level outside (0, 1).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> performance_profile([0.2, 0.6], [0.0, 0.5, 1.0], generator=rng).value.tolist()
        [1.0, 0.5, 0.0]

    Reference:
        Agarwal et al. 2021, section 4.2 (run-score distribution).
    """
    scores = scores_of(scores_RT)
    thresholds = np.asarray(thresholds_G, dtype=np.float64)
    if thresholds.ndim != 1:
        raise ValueError(f"thresholds must be a list of numbers, got shape {thresholds.shape}")
    runs, tasks = scores.shape
    above_RTG = scores[:, :, None] > thresholds
    value = above_RTG.mean(axis=(0, 1))
    counts = np.full(thresholds.size, runs)
    if runs == 1:
        undefined = np.full(thresholds.size, np.nan)
        return Band(value, undefined, undefined, counts)
    # A resample of runs is how often each counts; drawn anew within every task.
    weights_BRT = _weights(generator, resamples, runs, tasks)
    replicates_BG = np.einsum("brt,rtg->bg", weights_BRT, above_RTG.astype(np.float64)) / tasks
    low, high = percentile_interval(replicates_BG, level)
    return Band(value, low, high, counts)


def probability_of_improvement(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Probability that a run of `first` scores above a run of `second` on a task drawn at random.

    P = 1/T sum_t 1/(R R') sum_rr' (1[x_rt > y_r't] + 1/2 1[x_rt = y_r't]), the Mann-Whitney
    statistic of each task, averaged. It says how often, not by how much.

    Args:
        first: [R] or [R, T] finite scores; each task in its own unit.
        second: [R'] or [R', T] finite scores, the same tasks in the same order.
        generator: draws the resamples, of both groups and within each task.
        level: nominal coverage, in (0, 1).
        resamples: number of bootstrap resamples.

    Returns:
        The probability and its interval; bounds are NaN where a group has a single run.

    Raises:
        ValueError: shapes that do not fit, a value that is not finite, a level outside (0, 1).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> probability_of_improvement([1.0, 3.0], [2.0, 0.0], generator=rng).value
        0.75

    Reference:
        Agarwal et al. 2021, section 4.3.
    """
    x, y = scores_of(first), scores_of(second)
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"the groups have {x.shape[1]} and {y.shape[1]} tasks; compare them on the same tasks"
        )
    wins_RST = (np.sign(x[:, None] - y[None]) + 1.0) / 2.0
    value = float(wins_RST.mean())
    if min(len(x), len(y)) == 1:
        return Interval(value, np.nan, np.nan)
    tasks = x.shape[1]
    replicates = []
    at_once = max(1, _NUMBERS_AT_ONCE // (wins_RST.size + x.size + y.size))
    for begin in range(0, resamples, at_once):
        size = min(at_once, resamples - begin)
        weights_BRT = _weights(generator, size, len(x), tasks)
        weights_BST = _weights(generator, size, len(y), tasks)
        expected_BST = np.einsum("brt,rst->bst", weights_BRT, wins_RST)
        replicates.append((expected_BST * weights_BST).sum(axis=(1, 2)) / tasks)
    low, high = percentile_interval(np.concatenate(replicates), level)
    return Interval(value, float(low), float(high))


def _weights(generator: np.random.Generator, resamples: int, runs: int, tasks: int) -> FloatArray:
    """Shares [B, R, T] of the runs in stratified resamples; over R they sum to 1."""
    uniform = np.full(runs, 1.0 / runs)
    drawn_BTR = generator.multinomial(runs, uniform, size=(resamples, tasks))
    return np.asarray(drawn_BTR.transpose(0, 2, 1) / runs)
