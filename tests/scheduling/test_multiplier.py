"""Prices that move to meet a budget."""

from __future__ import annotations

import numpy as np
import pytest

from thrifty.scheduling.multiplier import Calibration, Multiplier, MultiplierConfig


def test_ascent_by_hand() -> None:
    multiplier = Multiplier(MultiplierConfig(mode="ascent", rate=0.1), 2.0, np.array([4.0]))
    multiplier.prices = np.array([0.5])
    multiplier.after_episode(np.array([6.0]))  # 50 % over: 0.5 + 0.1 * 2 * 0.5
    assert multiplier.prices == pytest.approx([0.6])
    multiplier.after_episode(np.array([0.0]))
    multiplier.after_episode(np.array([0.0]))
    multiplier.after_episode(np.array([0.0]))
    multiplier.after_episode(np.array([0.0]))
    assert multiplier.prices == pytest.approx([0.0])  # never below


def test_bisection_closes_in_on_a_price() -> None:
    """Energy 2 / price meets the budget 8 at the price 0.25."""
    multiplier = Multiplier(MultiplierConfig(mode="bisection"), 10.0, np.array([8.0]))
    for _ in range(30):
        multiplier.after_evaluation(2.0 / multiplier.prices)
    assert np.log(multiplier.prices[0] / 0.25) == pytest.approx(0.0, abs=0.06)  # the least step


def test_conditioned_prices_cover_their_range() -> None:
    multiplier = Multiplier(MultiplierConfig(near=0.5, around=0.5), 2.0, np.array([1.0]))
    drawn = multiplier.draw(4000, np.random.default_rng(0))[:, 0]
    assert drawn.min() >= 0.02 * np.exp(-0.5)
    assert drawn.max() <= 1.0 * np.exp(0.5)
    assert np.quantile(drawn, 0.02) < 0.03
    assert np.quantile(drawn, 0.98) > 0.7


def test_draws_near_the_present_price() -> None:
    config = MultiplierConfig(near=1.0, around=0.2, nodes=0.1)
    multiplier = Multiplier(config, 2.0, np.array([1.0, 1.0, 1.0]))
    moves = np.log(multiplier.draw(4000, np.random.default_rng(0)) / multiplier.prices)
    assert 0.28 < np.abs(moves).max() <= 0.3  # 0.2 together, 0.1 each
    between = moves - moves.mean(axis=1, keepdims=True)
    assert np.abs(between).max() < 0.14
    few = Multiplier(MultiplierConfig(near=0.25, around=0.0), 2.0, np.array([1.0]))
    drawn = few.draw(4000, np.random.default_rng(0))[:, 0]
    assert np.mean(np.isclose(drawn, few.prices[0])) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("elasticity", [-0.5, -1.0, -2.0])
def test_calibration_finds_the_price_by_secants(elasticity: float) -> None:
    budget = np.array([3.0, 1.5])

    def energy(prices: np.ndarray) -> np.ndarray:  # the second node feels the first
        own = prices**elasticity
        return np.asarray(own * np.array([1.0, own[0] ** -0.2]))

    calibration = Calibration(budget, np.array([1.0, 1.0]), 50.0)
    for _ in range(12):
        calibration.move(energy(calibration.prices))
    assert calibration.gap(energy(calibration.prices)) < 1e-3


def test_calibration_of_nodes_that_move_one_another_takes_few_trials() -> None:
    """By hand: secants of each node alone still miss by 0.33 % after 8 trials."""
    budget = np.array([3.0, 3.0, 3.0])
    slopes = np.array([[-2.0, -0.8, -0.3], [-1.2, -1.5, -0.8], [-1.0, -0.9, -1.2]])
    calibration = Calibration(budget, np.full(3, 0.7), 50.0)
    for _ in range(8):
        bend = 0.1 * np.log(calibration.prices) ** 2
        spent = np.exp(1.2 + slopes @ np.log(calibration.prices) - bend)
        calibration.move(spent)
    assert calibration.gap(spent) < 2e-5


def test_no_slope_is_drawn_between_trials_of_different_episodes() -> None:
    """Prices a hundredth apart, energies 5 % apart for other episodes alone: the slope is kept."""
    calibration = Calibration(np.array([2.0]), np.array([1.0]), 50.0)
    calibration.move(np.array([2.02]))  # at slope -1: the price times 1.01
    assert calibration.prices == pytest.approx([1.01])
    calibration.resample()
    calibration.move(np.array([2.1]))
    assert calibration.prices == pytest.approx([1.01 * 1.05])


def test_calibration_settles_on_the_trial_that_missed_least() -> None:
    """Whatever came last; trials that do not count (short ones) are forgotten."""
    calibration = Calibration(np.array([2.0]), np.array([1.0]), 50.0)
    calibration.move(np.array([2.0]))  # not counted, though it misses by nothing
    tried = []
    for spent in (2.2, 2.01, 1.5):  # misses 10 %, 0.5 % and 25 %
        tried.append(calibration.prices.copy())
        calibration.count(np.array([spent]))
        calibration.move(np.array([spent]))
        other = Calibration(np.array([2.0]), np.array([1.0]), 50.0)
        other.load_state_dict(calibration.state_dict())
        calibration = other
    calibration.settle()
    np.testing.assert_array_equal(calibration.prices, tried[1])
    assert tried[0] != pytest.approx(tried[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"low": 0.0}, {"low": 0.6}, {"high": 1.5}, {"rate": 0.0}, {"least_step": 0.0},
        {"near": 1.5}, {"around": -0.1}, {"nodes": -1.0},
    ],
)  # fmt: skip
def test_ranges_that_are_none_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"low < high|above 0|near is a part"):
        Multiplier(MultiplierConfig(**changes), 1.0, np.array([1.0]))
