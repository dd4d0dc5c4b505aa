from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from thrifty.episodic import EpisodicMDP, LinearMDP, evaluate, optimal, uniform, value, worst
from thrifty.episodic.instances import (
    LEFT,
    RIGHT,
    combination_lock,
    deep_sea,
    hard_instance,
    lottery,
    river_swim,
    simplex,
)

seeds = st.integers(0, 10_000)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def best(mdp: EpisodicMDP) -> float:
    return value(mdp, optimal(mdp).V)


def blind(mdp: EpisodicMDP) -> float:
    return value(mdp, evaluate(mdp, uniform(mdp)))


def assert_valid(mdp: LinearMDP) -> None:
    """The assumption of linear MDPs, checked from its parts and not by the class."""
    norms = np.linalg.norm(mdp.phi, axis=2)
    assert norms.max() <= 1.0 + 1e-12
    root = np.sqrt(mdp.d) * (1 + 1e-12)
    for h in range(mdp.H):
        P, r = mdp.phi @ mdp.mu[h], mdp.phi @ mdp.theta[h]
        assert P.min() >= -1e-12
        assert_allclose(P.sum(axis=2), 1.0, rtol=0, atol=1e-12)
        assert_allclose(P, mdp.P[h], rtol=0, atol=1e-12)
        assert_allclose(r, mdp.r[h], rtol=0, atol=1e-12)
        assert np.linalg.norm(mdp.theta[h]) <= root
        assert np.linalg.norm(np.abs(mdp.mu[h]).sum(axis=1)) <= root
    assert 0.0 <= mdp.r.min() <= mdp.r.max() <= 1.0


# ---------------------------------------------------------------------- validity at every size


@given(seeds, st.integers(1, 8), st.integers(1, 30), st.integers(1, 5), st.integers(1, 6))
def test_simplex_is_valid(seed: int, d: int, S: int, A: int, H: int) -> None:
    mdp = simplex(d, S, A, H, rng(seed))
    assert (mdp.d, mdp.S, mdp.A, mdp.H) == (d, S, A, H)
    assert_valid(mdp)


@given(seeds, st.integers(1, 6), st.integers(1, 4), st.integers(1, 5))
def test_lock_is_valid(seed: int, H: int, A: int, observations: int) -> None:
    mdp = combination_lock(H, A, rng(seed), observations=observations)
    assert (mdp.d, mdp.S, mdp.A, mdp.H) == (3 * A, 3 * observations, A, H)
    assert_valid(mdp)


@given(seeds, st.integers(2, 6), st.integers(2, 12), st.integers(0, 5), st.floats(0.0, 1.0))
def test_lottery_is_valid(seed: int, half: int, H: int, mixtures: int, drift: float) -> None:
    mdp = lottery(2 * half, H, rng(seed), mixtures=mixtures, drift=drift)
    assert (mdp.d, mdp.S, mdp.A) == (2 * half + 2, half + 4, half + mixtures)
    assert_valid(mdp)


@given(seeds, st.integers(4, 7), st.integers(3, 20), st.integers(100, 10**6), st.floats(0.01, 1.0))
def test_hard_instance_is_valid(seed: int, d: int, H: int, K: int, share: float) -> None:
    gap = share * np.sqrt(32 * K / H) / (d - 1) * (1 - 1e-12)
    mdp = hard_instance(d, H, K, rng(seed), gap=gap)
    assert (mdp.d, mdp.S, mdp.A) == (d + 1, 2, 2 ** (d - 1))
    assert_valid(mdp)
    assert_allclose(np.linalg.norm(mdp.phi, axis=2), 1.0, rtol=0, atol=1e-12)  # all of them


# ---------------------------------------------------------------------- RiverSwim


def test_river_swim_is_worth_what_is_published() -> None:
    mdp = river_swim()
    assert best(mdp) == pytest.approx(3.397, abs=5e-4)
    # Drifting left for ever pays .005 a stage, and never paying anything is possible.
    drift = np.full((20, 6), LEFT)
    assert value(mdp, evaluate(mdp, drift)) == pytest.approx(0.1)
    assert value(mdp, worst(mdp).V) == 0.0


def test_river_swim_by_hand() -> None:
    # Three states, three stages, always right from 0: reward 1 needs two forward steps (.6, .35),
    # then one swim at the right end at the last stage.
    mdp = river_swim(S=3, H=3)
    assert value(mdp, evaluate(mdp, np.full((3, 3), RIGHT))) == pytest.approx(0.6 * 0.35)
    assert_allclose(mdp.P[0, 1, RIGHT], [0.05, 0.6, 0.35])
    assert_allclose(mdp.P[0, 2, RIGHT], [0.0, 0.4, 0.6])
    assert_array_equal(mdp.P[0, 2, LEFT], [0.0, 1.0, 0.0])
    assert mdp.P.strides[0] == 0


# ---------------------------------------------------------------------- combination lock


@given(seeds, st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.sampled_from([0.0, 0.3]))
@settings(max_examples=30)
def test_lock_opens_with_probability_one_or_a_to_minus_h(
    seed: int, H: int, A: int, observations: int, decoy: float
) -> None:
    mdp = combination_lock(H, A, rng(seed), observations=observations, decoy=decoy)
    assert best(mdp) == pytest.approx(1.0, abs=1e-12)
    assert blind(mdp) == pytest.approx(A ** -float(H) + decoy * (A - 1) / A, abs=1e-12)


def test_lock_shows_symbols_of_the_latent_state_only() -> None:
    mdp = combination_lock(4, 2, rng(5), observations=3)
    latent = np.repeat([0, 1, 2], 3)
    # All symbols of one latent state have the same transitions, rewards and features.
    for z in range(3):
        rows = mdp.P[:, latent == z]
        assert_array_equal(rows, np.repeat(rows[:, :1], 3, axis=1))
        assert_array_equal(mdp.phi[latent == z], np.repeat(mdp.phi[latent == z][:1], 3, axis=0))
    # Dead stays dead, and the first symbol is one of latent state 0.
    assert_allclose(mdp.P[:, 6:, :, 6:].sum(axis=3), 1.0, rtol=0, atol=1e-12)
    assert_array_equal(mdp.initial_distribution > 0, latent == 0)


def test_lock_pays_the_decoy_at_once() -> None:
    mdp = combination_lock(3, 2, rng(1))
    wrong = 1 - optimal(mdp).policy[0, 0]
    assert mdp.r[0, 0, wrong] == pytest.approx(0.1)
    assert_array_equal(mdp.P[0, 0, wrong], [0.0, 0.0, 1.0])
    assert value(mdp, worst(mdp).V) == 0.0  # follow the code, then fail later
    assert not mdp.r[:, 2].any()  # dead pays nothing


# ---------------------------------------------------------------------- deep sea


@given(seeds, st.integers(1, 10))
@settings(max_examples=20)
def test_deep_sea_has_one_treasure(seed: int, N: int) -> None:
    mdp = deep_sea(N, rng(seed))
    assert (mdp.H, mdp.S, mdp.A) == (N, N, 2)
    assert best(mdp) == 1.0
    assert blind(mdp) == pytest.approx(2.0**-N + 0.005, abs=1e-12)


def test_who_never_dives_right_gets_a_hundredth() -> None:
    mdp = deep_sea(6, rng(2))
    left = 1 - np.argmax(mdp.P[..., -1] + mdp.P @ np.arange(6) / 10, axis=2)
    assert value(mdp, evaluate(mdp, left)) == pytest.approx(0.01)


# ---------------------------------------------------------------------- lottery


@given(seeds, st.integers(2, 6), st.integers(2, 12), st.integers(0, 5))
@settings(max_examples=20)
def test_lotteries_are_noisy_and_the_ladder_is_not(
    seed: int, half: int, H: int, mixtures: int
) -> None:
    mdp = lottery(2 * half, H, rng(seed), mixtures=mixtures)
    plan, left = optimal(mdp), H - 1
    V = plan.V[1]
    variance = mdp.P[0] @ (V * V) - (mdp.P[0] @ V) ** 2
    # The casino: one lottery of .6 and the others of .4, each with variance .24 (H - 1)^2.
    casino = np.sort(plan.Q[0, 0, :half])
    assert_allclose(casino[:-1], 0.4 * left, rtol=0, atol=1e-12)
    assert casino[-1] == plan.V[0, 0] == pytest.approx(0.6 * left, abs=1e-12)
    assert_allclose(variance[0, :half], 0.24 * left**2, rtol=1e-12)
    # The ladder: rungs between .45 and .55 (drift moves them inwards), almost without noise.
    ladder = plan.Q[0, 1, :half]
    assert len(np.unique(ladder)) == half
    assert np.all(ladder >= 0.45 * left - 1e-12)
    assert np.all(ladder <= 0.55 * left + 1e-12)
    assert np.all(variance[1, :half] <= 0.01 * (0.1 * left) ** 2 + 1e-12)
    assert np.all(plan.Q[0, :2, half:] <= plan.V[0, :2, None] + 1e-12)  # mixtures
    assert value(mdp, plan.V) == pytest.approx((0.6 * left + ladder.max()) / 2)


def test_ladder_without_drift_is_sure() -> None:
    mdp = lottery(6, 5, rng(3), drift=0.0)
    # Four stages of .45, .5 and .55.
    assert_allclose(np.sort(optimal(mdp).Q[0, 1]), [1.8, 2.0, 2.2])


# ---------------------------------------------------------------------- hard instance


def alive_value(p: float, H: int) -> float:
    """V_0(alive) = sum over the stage h of arrival of p (1-p)^h times the H - h - 1 stages left."""
    return sum(p * (1 - p) ** h * (H - h - 1) for h in range(H))


@given(seeds, st.integers(4, 7), st.integers(3, 20), st.floats(0.01, 1.0))
def test_hard_instance_has_closed_forms(seed: int, d: int, H: int, share: float) -> None:
    K = 10**5
    gap = share * np.sqrt(32 * K / H) / (d - 1)
    Delta = gap * np.sqrt(1 / (H * K)) / (4 * np.sqrt(2))
    mdp = hard_instance(d, H, K, rng(seed), gap=gap * (1 - 1e-12))
    for found, p in (
        (best(mdp), 1 / H + (d - 1) * Delta),
        (blind(mdp), 1 / H),
        (value(mdp, worst(mdp).V), 1 / H - (d - 1) * Delta),
    ):
        assert found == pytest.approx(alive_value(p, H), abs=1e-9)


def test_the_best_action_is_the_sign_of_m() -> None:
    mdp = hard_instance(4, 5, 1000, rng(3))
    signs = (mdp.mu[:, 1:4, 1] > 0).astype(int)  # mu_h(goal) = (delta / al, m_h / be, 1)
    # The last stage cannot pay any more, so all its actions are equal.
    assert_array_equal(optimal(mdp).policy[:4, 0], signs[:4] @ [1, 2, 4])
    assert len(np.unique(signs, axis=0)) > 1


@pytest.mark.parametrize(("d", "H"), [(4, 10), (6, 10), (4, 20)])
def test_controls_are_proportional_to_the_gap(d: int, H: int) -> None:
    # .0465 for uniform and .0933 for the worst policy per unit of the gap, as K grows.
    K = 10**7
    for gap in (1.0, 4.0):
        mdp = hard_instance(d, H, K, rng(1), gap=gap)
        unit = gap * (d - 1) * np.sqrt(H**3 * K) / K
        assert (best(mdp) - blind(mdp)) / unit == pytest.approx(0.0465, abs=3e-4)
        assert (best(mdp) - value(mdp, worst(mdp).V)) / unit == pytest.approx(0.0933, abs=3e-4)


# ---------------------------------------------------------------------- refusals, reproducibility

GENERATORS: list[Callable[[np.random.Generator], EpisodicMDP]] = [
    lambda g: simplex(3, 5, 2, 4, g),
    lambda g: combination_lock(4, 3, g, observations=2),
    lambda g: deep_sea(5, g),
    lambda g: lottery(4, 5, g, mixtures=2),
    lambda g: hard_instance(4, 5, 1000, g),
]


@pytest.mark.parametrize("make", GENERATORS)
def test_an_instance_is_its_seed(make: Callable[[np.random.Generator], EpisodicMDP]) -> None:
    one, same, other = make(rng(1)), make(rng(1)), make(rng(2))
    assert_array_equal(one.P, same.P)
    assert_array_equal(one.r, same.r)
    assert one.name == same.name
    assert not np.array_equal(one.P, other.P)


def test_good_actions_are_drawn() -> None:
    locks = [optimal(combination_lock(4, 3, rng(seed))).policy[:, 0] for seed in range(20)]
    assert {a for code in locks for a in code.tolist()} == {0, 1, 2}
    assert len({tuple(code) for code in locks}) > 10
    rooms = [optimal(lottery(6, 5, rng(seed))).policy[0, :2] for seed in range(30)]
    assert len({tuple(best) for best in rooms}) == 9  # 3 x 3: all pairs


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: simplex(0, 5, 2, 4, rng()), "d must be a whole number of at least 1, not 0"),
        (lambda: simplex(3, 5, 2, 0, rng()), "H must be a whole number of at least 1, not 0"),
        (lambda: river_swim(S=1), "S must be a whole number of at least 2"),
        (lambda: river_swim(H=0), "horizon must be a whole number of at least 1"),
        (lambda: combination_lock(3, 0, rng()), "A must be a whole number of at least 1"),
        (lambda: combination_lock(3, 2, rng(), observations=0), "observations must be"),
        (lambda: combination_lock(3, 2, rng(), decoy=1.0), r"decoy must be in \[0, 1\), not 1"),
        (lambda: deep_sea(0, rng()), "N must be a whole number of at least 1"),
        (lambda: lottery(5, 4, rng()), "d must be even .* not 5"),
        (lambda: lottery(2, 4, rng()), "d must be a whole number of at least 4"),
        (lambda: lottery(4, 1, rng()), "H must be a whole number of at least 2"),
        (lambda: lottery(4, 4, rng(), drift=1.5), "drift is a probability, not 1.5"),
        (
            lambda: lottery(4, 4, rng(), mixtures=-1),
            "mixtures must be a whole number of at least 0",
        ),
        # (d-1)^2 H = 90, 32 K = 32000: gap at most sqrt(32000 / 90) = 18.8562
        (lambda: hard_instance(4, 10, 1000, rng(), gap=19.0), r"gap must be in \(0, 18.8562\] for"),
        (lambda: hard_instance(4, 10, 1000, rng(), gap=0.0), r"gap must be in \(0, 18.8562\]"),
        (lambda: hard_instance(4, 10, 0, rng()), "K must be a whole number of at least 1"),
        (lambda: hard_instance(3, 10, 100, rng()), "d must be a whole number of at least 4"),
        (lambda: hard_instance(4, 2, 100, rng()), "H must be a whole number of at least 3"),
    ],
)
def test_impossible_sizes_get_a_clear_line(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
