"""Profiles, probability of improvement, optimality gap: by hand, by law, and against rliable."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thrifty.stats import (
    iqm,
    mean,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)

# Inputs by a formula; what rliable says of them stands below.
X_RT = np.array([[((7 * r + 3 * t) % 11) / 10 + 0.13 * t for t in range(3)] for r in range(5)])
Y_RT = np.array([[((5 * r + 4 * t) % 13) / 12 for t in range(3)] for r in range(7)])
THRESHOLDS = np.linspace(0.0, 1.2, 7)

# rliable 1.2.0 with arch 7.2.0, numpy 2.4.6, scipy 1.17.1, pandas 2.3.3 on Python 3.11.7:
# metrics.aggregate_iqm(x), metrics.aggregate_optimality_gap(x, gamma), metrics.aggregate_mean(x),
# metrics.probability_of_improvement(x, y), library.run_score_deviation(x, tau).
RLIABLE_IQM = 0.6555555555555556
RLIABLE_GAP = {1.0: 0.3646666666666667, 0.5: 0.07466666666666666}
RLIABLE_MEAN = 0.6566666666666666
RLIABLE_IMPROVEMENT = 0.6285714285714286
RLIABLE_PROFILE = [14 / 15, 14 / 15, 11 / 15, 8 / 15, 5 / 15, 4 / 15, 0.0]
# library.get_interval_estimates with RandomState(0), 50,000 resamples (2,000 of improvement), and
# library.create_performance_profile with 20,000: the same percentile bootstrap from other draws.
RLIABLE_INTERVALS = {
    "iqm": (0.46666666666666656, 0.8666666666666667),
    "gap": (0.21933333333333338, 0.512),
    "mean": (0.49666666666666665, 0.8166666666666668),
    "improvement": (0.42857142857142855, 0.8142857142857144),
}
RLIABLE_BAND = (
    [0.8, 0.8, 8 / 15, 4 / 15, 2 / 15, 1 / 15, 0.0],
    [1.0, 1.0, 14 / 15, 0.8, 0.6, 7 / 15, 0.0],
)

finite = st.floats(-10, 10, allow_nan=False).map(lambda value: round(value, 2))
scores = arrays(np.float64, st.tuples(st.integers(1, 5), st.just(2)), elements=finite)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_values_are_rliables() -> None:
    assert float(iqm(X_RT)) == pytest.approx(RLIABLE_IQM, abs=1e-12)
    for target, gap in RLIABLE_GAP.items():
        assert float(optimality_gap(target)(X_RT)) == pytest.approx(gap, abs=1e-12)
    assert float(mean(X_RT)) == pytest.approx(RLIABLE_MEAN, abs=1e-12)
    better = probability_of_improvement(X_RT, Y_RT, generator=rng())
    assert better.value == pytest.approx(RLIABLE_IMPROVEMENT, abs=1e-12)
    profile = performance_profile(X_RT, THRESHOLDS, generator=rng())
    np.testing.assert_allclose(profile.value, RLIABLE_PROFILE, atol=1e-12)
    assert profile.runs.tolist() == [5] * 7


def test_the_intervals_are_rliables_up_to_the_draws() -> None:
    # Bounds are quantiles of draws; over 20 generators ours move by less than .02.
    many = 20_000
    for name, statistic in (("iqm", iqm), ("gap", optimality_gap()), ("mean", mean)):
        ours = stratified_interval(X_RT, statistic, generator=rng(), resamples=many)
        assert ours[1:] == pytest.approx(RLIABLE_INTERVALS[name], abs=0.02)
    better = probability_of_improvement(X_RT, Y_RT, generator=rng(), resamples=many)
    assert better[1:] == pytest.approx(RLIABLE_INTERVALS["improvement"], abs=0.02)
    profile = performance_profile(X_RT, THRESHOLDS, generator=rng(), resamples=many)
    np.testing.assert_allclose([profile.low, profile.high], RLIABLE_BAND, atol=1e-12)


def test_by_hand() -> None:
    # Pairs of task 1: 3 > 2, 3 > 1, 1 < 2, 1 = 1: 2.5 of 4. Task 2: 0 < 5 four times: 0.
    x, y = [[3.0, 0.0], [1.0, 0.0]], [[2.0, 5.0], [1.0, 5.0]]
    assert probability_of_improvement(x, y, generator=rng()).value == 2.5 / 8
    # Strictly above: of 1, 2, 2, 4 three above 1, one above 2, none above 4.
    profile = performance_profile([[1.0, 2.0], [2.0, 4.0]], [0.0, 1.0, 2.0, 4.0], generator=rng())
    assert profile.value.tolist() == [1.0, 0.75, 0.25, 0.0]
    # Shortfalls below 2: 1, 0, 0, 0; along the runs 0.5 and 0.
    assert float(optimality_gap(2.0)([[1.0, 2.0], [2.0, 4.0]])) == 0.25
    assert optimality_gap(2.0)([[1.0, 2.0], [2.0, 4.0]], axis=0).tolist() == [0.5, 0.0]


def test_the_bands_bounds_are_those_of_all_resamples() -> None:
    # Two runs, one task, scores 0 and 1: a resample has 0, 1 or 2 runs above 1/2 with
    # probability 1/4, 1/2, 1/4, so the 95 % bounds are 0 and 1, and those of 40 % both 1/2.
    wide = performance_profile([0.0, 1.0], [0.5], generator=rng(), resamples=4000)
    assert (wide.low.tolist(), wide.high.tolist()) == ([0.0], [1.0])
    narrow = performance_profile([0.0, 1.0], [0.5], generator=rng(), resamples=4000, level=0.4)
    assert (narrow.low.tolist(), narrow.high.tolist()) == ([0.5], [0.5])
    # The same two runs against a single pair in the middle: the statistic is the same share.
    better = probability_of_improvement(
        [0.0, 1.0], [0.5, 0.5], generator=rng(), resamples=4000, level=0.4
    )
    assert better == (0.5, 0.5, 0.5)


@given(scores, scores)
@settings(deadline=None, max_examples=40)
def test_improvement_over_each_other_sums_to_one(x: np.ndarray, y: np.ndarray) -> None:
    one = probability_of_improvement(x, y, generator=rng(), resamples=20)
    two = probability_of_improvement(y, x, generator=rng(), resamples=20)
    assert one.value + two.value == pytest.approx(1.0, abs=1e-12)
    # The definition, pair by pair.
    pairs = [
        (a > b) + (a == b) / 2
        for task in range(2)
        for a, b in itertools.product(x[:, task], y[:, task])
    ]
    assert one.value == pytest.approx(np.mean(pairs), abs=1e-12)
    # Any increasing map of a task's unit leaves it as it is.
    assert probability_of_improvement(3 * x + 1, 3 * y + 1, generator=rng()).value == one.value
    if one.defined:
        assert -1e-12 <= one.low <= one.high <= 1 + 1e-12
    assert one.defined == (min(len(x), len(y)) > 1)


@given(scores)
@settings(deadline=None, max_examples=40)
def test_the_area_under_a_profile_is_the_optimality_gap(x: np.ndarray) -> None:
    # Integral over [low, target] of (1 - F) = mean of max(target - x, 0) for low <= all scores.
    target = 10.0
    grid = np.unique(np.concatenate([[-10.0, target], x.ravel()]))
    profile = performance_profile(x, grid, generator=rng(), resamples=10)
    area = float(((1.0 - profile.value)[:-1] * np.diff(grid)).sum())  # F is constant between
    assert area == pytest.approx(float(optimality_gap(target)(x)), abs=1e-9)
    assert (np.diff(profile.value) <= 0).all()


def test_a_single_run_has_no_interval() -> None:
    profile = performance_profile([[0.5, 1.0]], [0.0, 0.7], generator=rng())
    assert profile.value.tolist() == [1.0, 0.5]
    assert np.isnan(profile.low).all()
    assert np.isnan(profile.high).all()
    assert not probability_of_improvement([1.0], [0.0, 2.0], generator=rng()).defined


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="have 2 and 1 tasks"):
        probability_of_improvement(X_RT[:, :2], Y_RT[:, :1], generator=rng())
    with pytest.raises(ValueError, match="must be finite"):
        performance_profile([np.nan, 1.0], [0.0], generator=rng())
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        performance_profile(X_RT, [0.0], generator=rng(), level=1.0)
    with pytest.raises(ValueError, match="thresholds must be a list"):
        performance_profile(X_RT, 0.0, generator=rng())
    with pytest.raises(ValueError, match="at least one value"):
        optimality_gap()([])
