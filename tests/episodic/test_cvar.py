"""CVaR in its three forms, the operator's limits and laws, and the return's own CVaR."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thrifty.episodic import EpisodicMDP, evaluate, occupancy, optimal
from thrifty.episodic.cvar import (
    cvar,
    cvar_primal,
    iterated_cvar,
    return_distribution,
    static_cvar,
    tail_weights,
    worst_path,
)
from thrifty.episodic.planning import expectation
from thrifty.episodic.risk_instances import two_branches

LEVELS = st.floats(0.01, 1.0)
laws = settings(deadline=None, max_examples=60)


@st.composite
def distributions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Values with ties and probabilities with zeros, the lowest atom among them at times."""
    n = draw(st.integers(1, 8))
    values = np.array(draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)), dtype=float)
    masses = np.array(draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)), dtype=float)
    masses[draw(st.integers(0, n - 1))] += 1.0
    return values, masses / masses.sum()


def dual(values: np.ndarray, probabilities: np.ndarray, level: float) -> float:
    """The dual by trying all vertices: every weight but one is at 0 or at its upper bound."""
    upper, n = probabilities / level, len(values)
    full = np.array(list(itertools.product((0.0, 1.0), repeat=n)))
    best = np.inf
    for free in range(n):
        weights = full * upper
        weights[:, free] = 0.0
        weights[:, free] = 1.0 - weights.sum(1)
        feasible = (weights[:, free] >= -1e-12) & (weights[:, free] <= upper[free] + 1e-12)
        best = min(best, (weights[feasible] @ values).min(initial=np.inf))
    return float(best)


@laws
@given(distributions(), LEVELS)
def test_three_forms_agree(law: tuple[np.ndarray, np.ndarray], level: float) -> None:
    values, probabilities = law
    tail = float(cvar(values, probabilities, level))
    assert tail == pytest.approx(float(cvar_primal(values, probabilities, level)), abs=1e-12)
    assert tail == pytest.approx(dual(values, probabilities, level), abs=1e-8)


def test_by_hand() -> None:
    # Worst .3 of the mass: .1 at 0 and .2 of the .4 at 1, mean .2 / .3.
    assert float(cvar([1.0, 0.0, 2.0], [0.4, 0.1, 0.5], 0.3)) == pytest.approx(2 / 3)
    # The lowest atom has no mass, so it must not count, and the two atoms at 1 share theirs.
    assert float(cvar([0.0, 1.0, 1.0, 3.0], [0.0, 0.2, 0.2, 0.6], 0.5)) == pytest.approx(1.4)
    assert float(cvar([0.0, 1.0], [0.0, 1.0], 0.01)) == 1.0
    weights = tail_weights([0.0, 1.0, 1.0, 3.0], [0.0, 0.2, 0.2, 0.6], 0.5)
    np.testing.assert_allclose(weights, [0.0, 0.4, 0.4, 0.2], atol=1e-15)


@laws
@given(distributions(), LEVELS)
def test_tail_weights_are_a_law_below_the_bound(
    law: tuple[np.ndarray, np.ndarray], level: float
) -> None:
    values, probabilities = law
    weights = tail_weights(values, probabilities, level)
    assert weights.sum() == pytest.approx(1.0)
    assert (weights >= 0.0).all()
    assert (weights <= probabilities / level + 1e-12).all()


@laws
@given(distributions(), LEVELS, st.floats(0.05, 2.0))
def test_no_grid_beats_the_knots_and_its_error_is_at_most_its_spacing(
    law: tuple[np.ndarray, np.ndarray], level: float, spacing: float
) -> None:
    values, probabilities = law
    exact = float(cvar_primal(values, probabilities, level))
    grid = np.arange(0.0, 6.0, spacing)
    on_grid = float(cvar_primal(values, probabilities, level, knots=grid))
    assert -1e-12 <= exact - on_grid <= spacing + 1e-12


@laws
@given(distributions(), LEVELS, st.floats(-3.0, 3.0), st.floats(0.0, 3.0))
def test_coherence(
    law: tuple[np.ndarray, np.ndarray], level: float, shift: float, factor: float
) -> None:
    values, p = law
    base = float(cvar(values, p, level))
    assert float(cvar(values + shift, p, level)) == pytest.approx(base + shift, abs=1e-9)
    assert float(cvar(values * factor, p, level)) == pytest.approx(base * factor, abs=1e-9)
    other = values[::-1] * 0.5 + 1.0
    # Monotone, concave, and a change of values moves the result by no more than its greatest part.
    assert float(cvar(np.maximum(values, other), p, level)) >= base - 1e-9
    second = float(cvar(other, p, level))
    assert float(cvar((values + other) / 2, p, level)) >= (base + second) / 2 - 1e-9
    assert abs(base - second) <= np.abs(values - other).max() + 1e-9


@laws
@given(distributions(), LEVELS, st.integers(0, 1000))
def test_change_of_the_law_is_bounded_by_the_shortfalls(
    law: tuple[np.ndarray, np.ndarray], level: float, seed: int
) -> None:
    values, p = law
    q = np.random.default_rng(seed).dirichlet(np.ones(len(p)))
    shortfalls = np.maximum(values[:, None] - values, 0.0)
    bound = np.abs(shortfalls @ (p - q)).max() / level
    change = abs(float(cvar(values, p, level)) - float(cvar(values, q, level)))
    assert change <= bound + 1e-9
    # ... which is at most (range / level) times the total variation distance.
    assert bound <= np.ptp(values) / level * 0.5 * np.abs(p - q).sum() + 1e-9


@laws
@given(distributions(), LEVELS, st.integers(0, 1000))
def test_shift_inequality(law: tuple[np.ndarray, np.ndarray], level: float, seed: int) -> None:
    # For V' >= V: CVaR(V') - CVaR(V) <= tail weights under V, times V' - V.
    values, p = law
    higher = values + np.random.default_rng(seed).random(len(values))
    rise = float(cvar(higher, p, level)) - float(cvar(values, p, level))
    assert rise <= float(tail_weights(values, p, level) @ (higher - values)) + 1e-12


def random_mdp(seed: int, *, H: int = 4, S: int = 5, A: int = 3) -> EpisodicMDP:
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(S, 0.5), (H, S, A))
    P[P < 0.05] = 0.0
    return EpisodicMDP.from_arrays(P / P.sum(-1, keepdims=True), rng.random((H, S, A)))


@pytest.mark.parametrize("seed", range(5))
def test_limits_of_the_operator(seed: int) -> None:
    mdp = random_mdp(seed)
    neutral, averse = optimal(mdp, expectation), optimal(mdp, worst_path)
    np.testing.assert_allclose(optimal(mdp, iterated_cvar(1.0)).V, neutral.V, atol=1e-14)
    # Just below 1 the sorting branch must come to the same, up to the change of the level.
    np.testing.assert_allclose(optimal(mdp, iterated_cvar(1 - 1e-12)).V, neutral.V, atol=1e-9)
    least = mdp.P[mdp.P > 0.0].min()
    np.testing.assert_array_equal(optimal(mdp, iterated_cvar(least)).V, averse.V)
    np.testing.assert_array_equal(optimal(mdp, iterated_cvar(least / 7)).V, averse.V)


@pytest.mark.parametrize("seed", range(3))
def test_value_rises_with_the_risk_level(seed: int) -> None:
    mdp = random_mdp(seed)
    values = [optimal(mdp, iterated_cvar(level)).V[0] for level in np.linspace(0.02, 1.0, 25)]
    assert (np.diff(values, axis=0) >= -1e-12).all()


def test_operator_equals_the_primal_form_row_by_row() -> None:
    mdp = random_mdp(7)
    V = np.array([1.0, 0.0, 1.0, 2.0, 0.5])
    found = iterated_cvar(0.3)(mdp.P[0], V)
    for s in range(mdp.S):
        for a in range(mdp.A):
            expected = float(cvar_primal(V, mdp.P[0, s, a], 0.3))
            assert found[s, a] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("level", [0.1, 0.4, 1.0])
def test_both_notions_of_risk_are_at_most_the_mean(seed: int, level: float) -> None:
    mdp = random_mdp(seed)
    policy = np.random.default_rng(seed).integers(0, mdp.A, (mdp.H, mdp.S))
    mean = evaluate(mdp, policy)[0, 0]
    values, masses = return_distribution(mdp, policy)
    assert values @ masses == pytest.approx(mean)
    assert evaluate(mdp, policy, iterated_cvar(level))[0, 0] <= mean + 1e-12
    assert static_cvar(mdp, policy, level) <= mean + 1e-12


def test_iterated_and_static_have_no_fixed_order() -> None:
    mdp = two_branches()
    policy = np.zeros((mdp.H, mdp.S), dtype=np.int64)
    assert static_cvar(mdp, policy, 0.1) == pytest.approx(0.375)
    assert evaluate(mdp, policy, iterated_cvar(0.1))[0, 0] == pytest.approx(0.5)
    # The other order: two fair coins, level 1/2. Static: worst half of {0, .5, .5, 1} is .25;
    # iterated: the worst half of every coin, 0.
    P = np.full((2, 1, 2), 0.5)
    coins = EpisodicMDP.from_arrays(P, [[0.0], [0.5]], horizon=3, initial=0)
    policy = np.zeros((3, 2), dtype=np.int64)
    assert static_cvar(coins, policy, 0.5) == pytest.approx(0.25)
    assert evaluate(coins, policy, iterated_cvar(0.5))[0, 0] == 0.0


@pytest.mark.parametrize("level", [0.0, -0.1, 1.5, float("nan"), float("inf")])
def test_risk_level_out_of_range(level: float) -> None:
    with pytest.raises(ValueError, match="risk_level"):
        iterated_cvar(level)
    with pytest.raises(ValueError, match="risk_level"):
        cvar([0.0], [1.0], level)


def test_no_distribution() -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        cvar([0.0, 1.0], [0.5, 0.4], 0.5)
    with pytest.raises(ValueError, match="at least 0"):
        cvar([0.0, 1.0], [1.5, -0.5], 0.5)
    with pytest.raises(ValueError, match="do not fit"):
        cvar([0.0, 1.0], [1.0], 0.5)
    with pytest.raises(ValueError, match="finite"):
        cvar([0.0, np.nan], [0.5, 0.5], 0.5)


def test_return_with_too_many_values() -> None:
    with pytest.raises(ValueError, match="max_atoms"):
        return_distribution(random_mdp(0), np.zeros((4, 5), dtype=np.int64), max_atoms=10)


@pytest.mark.parametrize("level", [0.2, 0.7])
def test_distorted_visits_are_at_most_a_power_of_the_level_times_the_visits(level: float) -> None:
    # The iterated CVaR of a policy is its expected return under the kernel of tail weights, whose
    # visits at stage h (from 0) are at most level^-h times the true ones.
    mdp = random_mdp(11)
    policy = np.random.default_rng(3).integers(0, mdp.A, (mdp.H, mdp.S))
    V = evaluate(mdp, policy, iterated_cvar(level))
    distorted = EpisodicMDP.from_arrays(
        np.stack([tail_weights(V[h + 1], mdp.P[h], level) for h in range(mdp.H)]), mdp.r
    )
    np.testing.assert_allclose(evaluate(distorted, policy), V, atol=1e-12)
    visits, ratio = occupancy(mdp, policy), occupancy(distorted, policy)
    for h in range(mdp.H):
        assert (ratio[h] <= level**-h * visits[h] + 1e-12).all()
    assert (ratio > visits + 0.1).any(), "the case meant here did not arise"
