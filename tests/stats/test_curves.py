from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from thrifty.stats import Curve, align, area, band, final_mean, mean

NAN = float("nan")


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_align_by_hand() -> None:
    # The second run is evaluated at half the places, the third was cut after step 10.
    grid, values = align(
        [
            Curve([0, 10, 20], [0.0, 1.0, 3.0]),
            Curve([0, 20], [4.0, 8.0]),
            Curve([5, 10], [7.0, 9.0]),
        ]
    )
    assert_array_equal(grid, [0, 5, 10, 20])
    assert_array_equal(values, [[0.0, 0.5, 1.0, 3.0], [4.0, 5.0, 6.0, 8.0], [NAN, 7.0, 9.0, NAN]])


def test_align_to_a_given_grid() -> None:
    grid, values = align([([0, 10], [0.0, 10.0])], grid=[2, 4, 11])
    assert_array_equal(grid, [2, 4, 11])
    assert_array_equal(values, [[2.0, 4.0, NAN]])


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8, unique=True).map(sorted))
def test_align_keeps_the_points_of_every_run(steps: list[int]) -> None:
    values = [float(step % 7) for step in steps]
    grid, aligned = align([(steps, values), ([0, 25, 50], [0.0, 1.0, 0.0])])
    assert aligned[0][np.isin(grid, steps)].tolist() == values
    outside = (grid < steps[0]) | (grid > steps[-1])
    assert np.isnan(aligned[0][outside]).all()


def test_area_by_hand() -> None:
    # A triangle of height 1 over [0, 10], then a rectangle of height 1 over [10, 20].
    assert area([0, 10, 20], [0.0, 1.0, 1.0]) == 15.0
    # From 5 (height 1/2) to 10 (height 1): 3.75; from 10 to 12: 2.
    assert area([0, 10, 20], [0.0, 1.0, 1.0], start=5, stop=12) == 5.75
    assert area([3], [9.0]) == 0.0


@given(st.floats(0, 20))
def test_areas_add_up(cut: float) -> None:
    x, y = [0, 10, 20], [0.0, 1.0, -4.0]
    assert area(x, y, stop=cut) + area(x, y, start=cut) == pytest.approx(area(x, y))


def test_final_mean_by_hand() -> None:
    assert final_mean([0.0, 0.0, 4.0, 6.0], last=2) == 5.0
    assert final_mean([1.0, 3.0], last=5) == 2.0


def test_band_by_hand() -> None:
    # Two runs {0, 1}, then one run, then none: bounds as in test_aggregate.
    result = band([[0.0, 5.0, NAN], [1.0, NAN, NAN]], mean, generator=generator())
    assert_array_equal(result.value, [0.5, 5.0, NAN])
    assert_array_equal(result.low, [0.0, NAN, NAN])
    assert_array_equal(result.high, [1.0, NAN, NAN])
    assert_array_equal(result.runs, [2, 1, 0])


def test_band_treats_each_set_of_runs_on_its_own() -> None:
    # Columns 0 and 2 hold runs {0, 1}, column 1 runs {1, 2}; no spread, so bounds are exact.
    values = [[1.0, NAN, 3.0], [1.0, 7.0, 3.0], [NAN, 7.0, NAN]]
    result = band(values, generator=generator())
    for line in (result.value, result.low, result.high):
        assert_array_equal(line, [1.0, 7.0, 3.0])


def test_band_in_blocks_equals_band_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = generator(5).normal(size=(4, 30))
    at_once = band(values, generator=generator(), resamples=100)
    monkeypatch.setattr("thrifty.stats.curves._NUMBERS_AT_ONCE", 4 * 100 * 7)
    for one, other in zip(at_once, band(values, generator=generator(), resamples=100), strict=True):
        assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("steps", "values", "message"),
    [
        ([0, 1], [1.0], "as many values"),
        ([], [], "as many values"),
        ([0, 0], [1.0, 2.0], "increase"),
        ([2, 1], [1.0, 2.0], "increase"),
        ([0, 1], [1.0, NAN], "finite"),
    ],
)
def test_ill_formed_curves_are_refused(steps: list[int], values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        align([(steps, values)])
    with pytest.raises(ValueError, match=message):
        area(steps, values)


def test_other_mistakes_are_answered() -> None:
    with pytest.raises(ValueError, match="no curve"):
        align([])
    with pytest.raises(ValueError, match="inside"):
        area([0, 10], [0.0, 1.0], stop=11)
    with pytest.raises(ValueError, match="inside"):
        area([0, 10], [0.0, 1.0], start=6, stop=5)
    with pytest.raises(ValueError, match="at least one evaluation"):
        final_mean([])
    with pytest.raises(ValueError, match="at least 1"):
        final_mean([1.0], last=0)
    with pytest.raises(ValueError, match="shape"):
        band([1.0, 2.0], generator=generator())
    with pytest.raises(ValueError, match="level"):
        band([[1.0], [2.0]], generator=generator(), level=1.0)
