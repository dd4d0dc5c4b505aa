from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from thrifty.episodic import EpisodicMDP, evaluate, occupancy, optimal, uniform, value, worst

Floats = NDArray[np.float64]


def random_mdp(seed: int, H: int, S: int, A: int) -> EpisodicMDP:
    g = np.random.default_rng(seed)
    P, r = g.dirichlet(np.ones(S), size=(H, S, A)), g.random((H, S, A))
    return EpisodicMDP.from_arrays(P, r, initial=g.dirichlet(np.ones(S)))


def all_policies(mdp: EpisodicMDP) -> list[NDArray[np.int64]]:
    H, S = mdp.H, mdp.S
    every = itertools.product(range(mdp.A), repeat=H * S)
    return [np.array(one, dtype=np.int64).reshape(H, S) for one in every]


def solved(mdp: EpisodicMDP, policy: Floats) -> Floats:
    """Values by one linear system over all (h, s): (I - M) V = R, without backward induction."""
    H, S = mdp.H, mdp.S
    M, R = np.zeros((H * S, H * S)), np.zeros(H * S)
    for h, s in np.ndindex(H, S):
        for a in range(mdp.A):
            R[h * S + s] += policy[h, s, a] * mdp.r[h, s, a]
            if h + 1 < H:
                M[h * S + s, (h + 1) * S : (h + 2) * S] += policy[h, s, a] * mdp.P[h, s, a]
    return np.linalg.solve(np.eye(H * S) - M, R).reshape(H, S)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("H", "S", "A"), [(2, 2, 3), (3, 2, 2), (2, 3, 2), (1, 3, 4)])
def test_planner_against_every_policy(seed: int, H: int, S: int, A: int) -> None:
    mdp = random_mdp(seed, H, S, A)
    values = np.array([solved(mdp, np.eye(A)[one]) for one in all_policies(mdp)])
    # The best and the worst policy are so from every state and stage at once.
    assert_allclose(optimal(mdp).V[:H], values.max(axis=0), rtol=0, atol=1e-12)
    assert_allclose(worst(mdp).V[:H], values.min(axis=0), rtol=0, atol=1e-12)


@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 6), st.integers(1, 4))
@settings(max_examples=30)
def test_evaluation_against_a_linear_system(seed: int, H: int, S: int, A: int) -> None:
    mdp = random_mdp(seed, H, S, A)
    g = np.random.default_rng(seed)
    stochastic = g.dirichlet(np.ones(A), size=(H, S))
    deterministic = g.integers(A, size=(H, S))
    V = evaluate(mdp, stochastic)
    assert V.shape == (H + 1, S)
    assert_array_equal(V[H], np.zeros(S))
    assert_allclose(V[:H], solved(mdp, stochastic), rtol=0, atol=1e-12)
    one_hot = np.eye(A)[deterministic]
    assert_allclose(evaluate(mdp, deterministic)[:H], solved(mdp, one_hot), rtol=0, atol=1e-12)
    assert_allclose(evaluate(mdp, deterministic), evaluate(mdp, one_hot), rtol=0, atol=1e-12)


@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 6), st.integers(1, 4))
@settings(max_examples=30)
def test_a_plan_is_consistent(seed: int, H: int, S: int, A: int) -> None:
    mdp = random_mdp(seed, H, S, A)
    for plan in (optimal(mdp), worst(mdp)):
        assert_allclose(evaluate(mdp, plan.policy), plan.V, rtol=0, atol=1e-11)
    best, least, middle = optimal(mdp).V, worst(mdp).V, evaluate(mdp, uniform(mdp))
    assert np.all(least <= middle + 1e-12)
    assert np.all(middle <= best + 1e-12)
    assert np.all(best[:H] <= np.arange(H, 0, -1)[:, None])


def test_by_hand() -> None:
    # Two states, two stages. Stage 1: state 0 pays .2 or .4, state 1 pays 1 or 0.
    # Stage 0 from state 0: action 0 pays .5 and stays (then .4): .9; action 1 pays 0 and goes to
    # either state with 1/2: (.4 + 1) / 2 = .7. From state 1 both actions pay .1 and stay: 1.1.
    P = np.zeros((2, 2, 2, 2))
    P[:, 0, 0] = P[1, 0, 1] = 1.0, 0.0
    P[0, 0, 1] = 0.5, 0.5
    P[:, 1] = 0.0, 1.0
    r = np.array([[[0.5, 0.0], [0.1, 0.1]], [[0.2, 0.4], [1.0, 0.0]]])
    mdp = EpisodicMDP.from_arrays(P, r, initial=[0.25, 0.75])
    plan = optimal(mdp)
    assert_allclose(plan.Q[0], [[0.9, 0.7], [1.1, 1.1]])
    assert_allclose(plan.V, [[0.9, 1.1], [0.4, 1.0], [0.0, 0.0]])
    assert_array_equal(plan.policy, [[0, 0], [1, 0]])  # the first of equal actions
    assert value(mdp, plan.V) == pytest.approx(0.25 * 0.9 + 0.75 * 1.1)
    # The worst: stage 1 pays .2 and 0; stage 0: min(.5 + .2, 0 + (.2 + 0) / 2) = .1, and .1.
    assert_allclose(worst(mdp).V, [[0.1, 0.1], [0.2, 0.0], [0.0, 0.0]])
    # Uniform: .3 and .5 at stage 1; (.5 + .3 + .4) / 2 = .6 and .6 at stage 0.
    assert_allclose(evaluate(mdp, uniform(mdp)), [[0.6, 0.6], [0.3, 0.5], [0.0, 0.0]])


def test_rounding_does_not_break_ties() -> None:
    # Both actions are worth .1 + .2 = .3 in one order of summation or the other.
    P = np.zeros((1, 1, 2, 1)) + 1.0
    mdp = EpisodicMDP.from_arrays(P, [[[0.3, 0.1 + 0.2]]])
    assert mdp.r[0, 0, 0] < mdp.r[0, 0, 1]
    assert optimal(mdp).policy[0, 0] == 0


@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 6), st.integers(1, 4))
@settings(max_examples=30)
def test_occupancy_times_reward_is_the_value(seed: int, H: int, S: int, A: int) -> None:
    mdp = random_mdp(seed, H, S, A)
    g = np.random.default_rng(seed)
    for policy in (g.dirichlet(np.ones(A), size=(H, S)), g.integers(A, size=(H, S))):
        at = occupancy(mdp, policy)
        assert_allclose(at.sum(axis=(1, 2)), np.ones(H), rtol=0, atol=1e-12)
        assert_allclose(at[0].sum(axis=1), mdp.initial_distribution, rtol=0, atol=1e-15)
        assert (at * mdp.r).sum() == pytest.approx(value(mdp, evaluate(mdp, policy)), abs=1e-12)


def test_another_operator_solves_another_objective() -> None:
    # The least value of a possible next state: the gamble 0 or 1 is worth 0, the sure .3 is better.
    def least(P: Floats, V: Floats) -> Floats:
        return np.where(P > 0, V, np.inf).min(axis=-1)

    P = np.zeros((2, 3, 2, 3))
    P[:, :, 0] = 0.0, 0.5, 0.5  # the gamble
    P[:, :, 1] = 1.0, 0.0, 0.0  # sure
    r = np.zeros((2, 3, 2))
    r[1, 0], r[1, 2] = 0.3, 1.0
    mdp = EpisodicMDP.from_arrays(P, r)
    assert optimal(mdp).policy[0, 0] == 0
    cautious = optimal(mdp, least)
    assert cautious.policy[0, 0] == 1
    assert cautious.V[0, 0] == 0.3
    assert evaluate(mdp, np.zeros((2, 3), dtype=np.int64), least)[0, 0] == 0.0
    assert evaluate(mdp, uniform(mdp), least)[0, 0] == 0.15


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (np.zeros((2, 2), dtype=np.int64), r"a policy is integers \[H, S\] = \[3, 2\]"),
        (np.zeros((3, 2)), r"or probabilities \[H, S, A\], not float64 \[3, 2\]"),
        (np.full((3, 2), 2), r"actions outside 0\.\.1"),
        (np.full((3, 2, 2), 0.4), "must be >= 0 and sum to 1"),
        (np.full((3, 2, 2), [1.5, -0.5]), "must be >= 0 and sum to 1"),
    ],
)
def test_a_bad_policy_gets_a_clear_line(policy: Floats, message: str) -> None:
    mdp = random_mdp(0, 3, 2, 2)
    with pytest.raises(ValueError, match=message):
        evaluate(mdp, policy)
    with pytest.raises(ValueError, match=message):
        occupancy(mdp, policy)
