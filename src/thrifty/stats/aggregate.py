"""Aggregates over runs and their bootstrap intervals.

Interquartile mean and stratified percentile bootstrap as in Agarwal, Schwarzer, Castro, Courville
and Bellemare, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021
(arXiv 2108.13264), section 4.

Where we differ: one run gives no interval (its bounds are NaN) instead of one of width zero, and
nothing here draws from global randomness: the generator is an argument.

Beware of few runs. The percentile bootstrap is too narrow for them: of nominal 95 % intervals of
the IQM of normal data, 50 % hold the truth with 2 runs and 75 % with 3 (the interval is then the
range of the runs: 1 - 2 / 2^R), about 90 % with 5, 94 % with 10; of the mean 84 % and 89 %
(simulated in the tests).

Legend of shape suffixes: R runs, T tasks, B bootstrap resamples.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


class Statistic(Protocol):
    """A number that sums up the values along one axis."""

    def __call__(self, values: npt.ArrayLike, axis: int | None = None) -> FloatArray:
        """The statistic along the axis; None takes all values as one sample."""
        ...


class Interval(NamedTuple):
    """An estimate and the bounds of its interval; the bounds are NaN where they are not defined."""

    value: float
    low: float
    high: float

    @property
    def defined(self) -> bool:
        """Whether there are bounds (at least two runs)."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))


def iqm(values: npt.ArrayLike, axis: int | None = None) -> FloatArray:
    """Interquartile mean: the mean of what is left without the lowest and the highest quarter.

    With n sorted values, floor(n/4) are cut from each end: fewer than 4 values give their mean. A
    NaN among them gives NaN, as for the mean, and is not cut as if it were the highest.

    Args:
        values: any shape.
        axis: the axis that is summed up; None takes all values as one sample.

    Returns:
        Array without that axis (0-d for None).

    Raises:
        ValueError: no values.

    Example:
        >>> float(iqm([1.0, 2.0, 3.0, 100.0]))
        2.5

    Reference:
        Agarwal et al. 2021, section 4.3.
    """
    array = _sample(values, axis)
    along = -1 if axis is None else axis
    n = array.shape[along]
    cut = n // 4
    ordered = np.sort(array, axis=along)  # NaN last
    kept = np.take(ordered, np.arange(cut, n - cut), axis=along)
    unknown = np.isnan(np.take(ordered, -1, axis=along))
    return np.asarray(np.where(unknown, np.nan, kept.mean(axis=along)))


def mean(values: npt.ArrayLike, axis: int | None = None) -> FloatArray:
    """Arithmetic mean.

    Args:
        values: any shape.
        axis: the axis that is summed up; None takes all values as one sample.

    Raises:
        ValueError: no values.
    """
    return np.asarray(_sample(values, axis).mean(axis=-1 if axis is None else axis))


def median(values: npt.ArrayLike, axis: int | None = None) -> FloatArray:
    """Median; of an even number of values the mean of the middle two.

    Args:
        values: any shape.
        axis: the axis that is summed up; None takes all values as one sample.

    Raises:
        ValueError: no values.
    """
    return np.asarray(np.median(_sample(values, axis), axis=-1 if axis is None else axis))


def optimality_gap(target: float = 1.0) -> Statistic:
    """Return the statistic: mean shortfall of scores below a target, mean of max(target - x, 0).

    Scores above the target do not make up for others below it; smaller is better.

    Args:
        target: the score that is wished for; 1 for scores normalised to a reference.

    Example:
        >>> float(optimality_gap(1.0)([0.5, 0.75, 3.0]))
        0.25

    Reference:
        Agarwal et al. 2021, section 4.3.
    """

    def gap(values: npt.ArrayLike, axis: int | None = None) -> FloatArray:
        array = _sample(values, axis)
        return np.asarray(np.maximum(target - array, 0.0).mean(axis=-1 if axis is None else axis))

    return gap


def bootstrap_interval(
    values_R: npt.ArrayLike,
    statistic: Statistic = iqm,
    *,
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Percentile bootstrap interval of one statistic of independent runs.

    Args:
        values_R: [R] one finite number per run.
        statistic: what is estimated.
        generator: draws the resamples; the same generator state gives the same interval.
        level: nominal coverage, in (0, 1).
        resamples: number of bootstrap resamples.

    Returns:
        The statistic and its interval; bounds are NaN for a single run.

    Raises:
        ValueError: wrong shape, a value that is not finite, a level outside (0, 1).

    Example:
        >>> bootstrap_interval([1.0, 2.0, 3.0], mean, generator=np.random.default_rng(0)).value
        2.0

    Reference:
        Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 1979.
    """
    values = np.asarray(values_R, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"expected one number per run, got an array of shape {values.shape}")
    return stratified_interval(
        values[:, None], statistic, generator=generator, level=level, resamples=resamples
    )


def stratified_interval(
    scores_RT: npt.ArrayLike,
    statistic: Statistic = iqm,
    *,
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Stratified bootstrap interval of one statistic over all runs and tasks.

    Runs are drawn with replacement within each task on its own, so every resample holds every task
    equally often; the statistic takes the R*T numbers of a resample as one sample.

    Args:
        scores_RT: [R, T] finite scores, comparable between tasks (normalised).
        statistic: what is estimated.
        generator: draws the resamples.
        level: nominal coverage, in (0, 1).
        resamples: number of bootstrap resamples.

    Returns:
        The statistic and its interval; bounds are NaN for a single run.

    Raises:
        ValueError: wrong shape, a value that is not finite, a level outside (0, 1).

    Reference:
        Agarwal et al. 2021, section 4.1.
    """
    scores = scores_of(scores_RT)
    return _interval(
        float(statistic(scores)), _replicates(scores, statistic, generator, resamples), level
    )


def difference_interval(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    statistic: Statistic = iqm,
    *,
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Bootstrap interval of statistic(first) - statistic(second) of two independent groups of runs.

    Both groups are resampled on their own, stratified over tasks where there are any.

    Args:
        first: [R] or [R, T] finite scores.
        second: [R'] or [R', T] finite scores, the same tasks in the same order.
        statistic: what is compared.
        generator: draws the resamples.
        level: nominal coverage, in (0, 1).
        resamples: number of bootstrap resamples.

    Returns:
        The difference and its interval; bounds are NaN where a group has a single run.

    Raises:
        ValueError: shapes that do not fit, a value that is not finite, a level outside (0, 1).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> difference_interval([3.0, 4.0], [1.0, 1.0], mean, generator=rng).value
        2.5
    """
    a, b = scores_of(first), scores_of(second)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"the groups have {a.shape[1]} and {b.shape[1]} tasks; compare them on the same tasks"
        )
    value = float(statistic(a)) - float(statistic(b))
    replicates_a = _replicates(a, statistic, generator, resamples)
    replicates_b = _replicates(b, statistic, generator, resamples)
    return _interval(value, replicates_a - replicates_b, level)


def _sample(values: npt.ArrayLike, axis: int | None) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if axis is None:
        array = array.reshape(-1)
    if array.size == 0:
        raise ValueError("a statistic needs at least one value")
    return array


def scores_of(values: npt.ArrayLike) -> FloatArray:
    """Return [R] or [R, T] numbers as a checked [R, T] array.

    Raises:
        ValueError: another shape, no values, or one that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"expected scores of shape [runs, tasks], got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("scores must be finite; leave out the runs that have no score")
    return array


def _replicates(
    scores_RT: FloatArray, statistic: Statistic, generator: np.random.Generator, resamples: int
) -> FloatArray:
    """The statistic of each resample, [B]; NaN for a single run, which holds no spread."""
    runs, tasks = scores_RT.shape
    if runs == 1:
        return np.full(resamples, np.nan)
    drawn_BRT = generator.integers(runs, size=(resamples, runs, tasks))
    resampled_BRT = scores_RT[drawn_BRT, np.arange(tasks)]
    return statistic(resampled_BRT.reshape(resamples, runs * tasks), axis=1)


def _interval(value: float, replicates_B: FloatArray, level: float) -> Interval:
    low, high = percentile_interval(replicates_B, level)
    return Interval(value, float(low), float(high))


def percentile_interval(replicates: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Return the bounds of the middle `level` of bootstrap replicates, along the first axis.

    Raises:
        ValueError: a level outside (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, got {level}; 0.95 is usual")
    low, high = np.quantile(replicates, [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0)
    return low, high
