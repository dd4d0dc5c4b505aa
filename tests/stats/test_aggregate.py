from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thrifty.stats import (
    Statistic,
    bootstrap_interval,
    difference_interval,
    iqm,
    mean,
    median,
    stratified_interval,
)

scores = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 6.0], 3.0),  # floor(3/4) = 0 are cut: the mean
        ([100.0, 2.0, 3.0, -50.0], 2.5),  # one from each end: (2 + 3) / 2
        ([1.0, 2.0, 3.0, 4.0, 90.0], 3.0),  # one from each end: (2 + 3 + 4) / 3
        ([0.0, 0.0, 1.0, 2.0, 3.0, 6.0, 9.0, 9.0], 3.0),  # two from each end: (1+2+3+6) / 4
    ],
)
def test_iqm_by_hand(values: list[float], expected: float) -> None:
    assert float(iqm(values)) == expected


def test_what_is_not_known_is_not_cut() -> None:
    # Sorted last, NaN would be the quarter that is cut, and 2.5 be left.
    assert math.isnan(iqm([1.0, math.nan, 2.0, 3.0]))
    along = iqm([[1.0, math.nan, 2.0, 3.0], [1.0, 2.0, 3.0, 100.0]], axis=1)
    assert math.isnan(along[0])
    assert along[1] == 2.5
    assert float(iqm([1.0, 2.0, 3.0, math.inf])) == 2.5  # known to be the highest


def test_statistics_along_an_axis() -> None:
    values = [[1.0, 2.0, 3.0, 100.0], [0.0, 4.0, 6.0, 6.0]]
    assert iqm(values, axis=1).tolist() == [2.5, 5.0]
    assert mean(values, axis=1).tolist() == [26.5, 4.0]
    assert median(values, axis=1).tolist() == [2.5, 5.0]
    # All eight sorted: 0 1 2 3 4 6 6 100; the middle four are 2 3 4 6.
    assert float(iqm(values)) == 3.75
    assert float(median(values)) == 3.5
    assert iqm(np.array(values).T, axis=0).tolist() == [2.5, 5.0]


@given(scores, st.floats(-1e3, 1e3), st.floats(0.1, 10.0))
def test_iqm_lies_inside_and_moves_with_its_data(
    values: list[float], shift: float, scale: float
) -> None:
    centre = float(iqm(values))
    slack = 1e-9 * (1 + max(map(abs, values)))
    assert min(values) - slack <= centre <= max(values) + slack
    moved = [scale * value + shift for value in values]
    assert float(iqm(moved)) == pytest.approx(scale * centre + shift, rel=1e-6, abs=1e-6)
    assert float(iqm(values[::-1])) == centre


def test_two_runs_have_the_interval_of_the_three_possible_resamples() -> None:
    # {0, 1}: a resample's mean is 0, 1/2 or 1 with probability 1/4, 1/2, 1/4. The 2.5 % and 97.5 %
    # quantiles are 0 and 1; those that cut 30 % from each end are both 1/2.
    wide = bootstrap_interval([0.0, 1.0], mean, generator=generator())
    assert wide == (0.5, 0.0, 1.0)
    assert wide.defined
    assert bootstrap_interval([0.0, 1.0], mean, generator=generator(), level=0.4) == (0.5, 0.5, 0.5)


def test_one_run_has_no_interval() -> None:
    interval = bootstrap_interval([3.0], generator=generator())
    assert interval.value == 3.0
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert not interval.defined
    assert not difference_interval([1.0, 2.0], [3.0], generator=generator()).defined


def test_strata_hold_every_task_in_every_resample() -> None:
    # Two tasks far apart, no spread within a task: whatever is drawn, the mean is 50. Drawing from
    # all four numbers at once would give anything from 0 to 100.
    interval = stratified_interval([[0.0, 100.0], [0.0, 100.0]], mean, generator=generator())
    assert interval == (50.0, 50.0, 50.0)


def test_strata_draw_runs_of_each_task_on_their_own() -> None:
    # Runs (0, 1) and (1, 0). Drawn together every resample has mean 1/2; drawn on their own the
    # mean is 0 (and 1) with probability 1/16 > 2.5 %.
    interval = stratified_interval([[0.0, 1.0], [1.0, 0.0]], mean, generator=generator())
    assert interval == (0.5, 0.0, 1.0)


def test_difference_by_hand() -> None:
    # {0, 1} against a constant 3: the first group's interval, moved by 3.
    interval = difference_interval([0.0, 1.0], [3.0, 3.0], mean, generator=generator())
    assert interval == (-2.5, -3.0, -2.0)
    # {0, 1} against {0, 1}: -1 and +1 have probability 1/16 each.
    interval = difference_interval([0.0, 1.0], [0.0, 1.0], mean, generator=generator())
    assert interval == (0.0, -1.0, 1.0)


def test_difference_of_groups_on_several_tasks() -> None:
    first = [[1.0, 10.0], [1.0, 10.0]]
    second = [[0.0, 8.0], [0.0, 8.0], [0.0, 8.0]]
    assert difference_interval(first, second, mean, generator=generator()) == (1.5, 1.5, 1.5)


# Nominal 95 %. With 20 runs the mean's interval covers as a normal interval with the n-denominator
# and without Student's factor does: t_19 below 1.96 * sqrt(19/20) in 93 % of cases. The module's
# docstring states the others; 600 intervals have a standard error of at most 2 %.
@pytest.mark.parametrize(
    ("runs", "statistic", "coverage"),
    [
        (20, mean, 0.93),
        (2, iqm, 0.50),
        (3, iqm, 0.75),
        (5, iqm, 0.90),
        (10, iqm, 0.94),
        (3, mean, 0.75),
        (5, mean, 0.84),
        (10, mean, 0.89),
    ],
)
def test_coverage_on_normal_data(runs: int, statistic: Statistic, coverage: float) -> None:
    rng = generator(1)
    hits = 0
    for _ in range(600):
        sample = rng.normal(5.0, 2.0, size=runs)
        interval = bootstrap_interval(sample, statistic, generator=rng, resamples=400)
        hits += interval.low <= 5.0 <= interval.high
    assert hits / 600 == pytest.approx(coverage, abs=0.045)


def test_coverage_of_a_difference() -> None:
    rng = generator(2)
    hits = 0
    for _ in range(400):
        first, second = rng.normal(3.0, 1.0, size=15), rng.normal(1.0, 4.0, size=25)
        interval = difference_interval(first, second, mean, generator=rng, resamples=400)
        hits += interval.low <= 2.0 <= interval.high
    assert hits / 400 == pytest.approx(0.94, abs=0.04)


def test_the_generator_alone_decides() -> None:
    values = [1.0, 5.0, 2.0, 8.0, 3.0]
    once, again, other = (
        bootstrap_interval(values, generator=generator(seed), resamples=50) for seed in (3, 3, 4)
    )
    assert once == again != other


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=6), st.integers(0, 99))
def test_the_interval_lies_inside_the_data(values: list[float], seed: int) -> None:
    interval = bootstrap_interval(values, generator=generator(seed), resamples=40)
    slack = 1e-9
    assert min(values) - slack <= interval.low <= interval.high <= max(values) + slack


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "shape"),
        ([[1.0, 2.0]], {}, "one number per run"),
        ([1.0, math.nan], {}, "finite"),
        ([1.0, 2.0], {"level": 95}, "level"),
    ],
)
def test_mistakes_are_answered(
    values: list[float], options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, generator=generator(), **options)


def test_other_mistakes_are_answered() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        iqm([])
    with pytest.raises(ValueError, match="same tasks"):
        difference_interval([[1.0, 2.0]], [[1.0]], generator=generator())
