from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from thrifty.episodic import EpisodicMDP, LinearMDP, tabular
from thrifty.episodic.instances import simplex
from thrifty.episodic.linear_mixture import one_hot


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def tables(H: int = 3, S: int = 4, A: int = 2, seed: int = 0) -> tuple[Any, Any]:
    g = rng(seed)
    return g.dirichlet(np.ones(S), size=(H, S, A)), g.random((H, S, A))


# ---------------------------------------------------------------------- tables


def test_tables_without_a_stage_axis_are_broadcast_not_copied() -> None:
    P, r = tables()
    mdp = EpisodicMDP.from_arrays(P[0], r[0], horizon=5)
    assert mdp.P.shape == (5, 4, 2, 4)
    assert mdp.r.shape == (5, 4, 2)
    assert mdp.P.strides[0] == mdp.r.strides[0] == mdp.cdf.strides[0] == 0
    assert_array_equal(mdp.P[4], P[0])
    assert_array_equal(mdp.r[4], r[0])


def test_one_table_may_have_stages() -> None:
    P, r = tables()
    mdp = EpisodicMDP.from_arrays(P[0], r)
    assert (mdp.H, mdp.S, mdp.A) == (3, 4, 2)
    assert_array_equal(mdp.r, r)


def test_later_changes_of_the_arguments_do_not_reach_the_mdp() -> None:
    P, r = tables()
    mdp = EpisodicMDP.from_arrays(P, r)
    before = mdp.P[0, 0, 0].copy()
    P[0, 0, 0] = 7.0
    assert_array_equal(mdp.P[0, 0, 0], before)
    with pytest.raises(ValueError, match="read-only"):
        mdp.P[0, 0, 0, 0] = 1.0


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        # P is uniform but for these next-state probabilities at stage 1, state 2, action 0.
        ([np.nan, 0.5, 0.5, 0.0], "P is not finite at stage 1, state 2, action 0, next state 0"),
        ([0.5, np.inf, 0.5, 0.0], "P is not finite at stage 1, state 2, action 0, next state 1"),
        (
            [0.6, 0.6, -0.2, 0.0],
            "P is -0.2, a negative probability, at stage 1, state 2, action 0, next state 2",
        ),
        ([0.5, 0.4, 0.0, 0.0], "P sums to 0.9, not to 1, at stage 1, state 2, action 0"),
    ],
)
def test_a_bad_probability_is_named(entries: list[float], message: str) -> None:
    P, r = np.full((3, 4, 2, 4), 0.25), np.zeros((3, 4, 2))
    P[1, 2, 0] = entries
    with pytest.raises(ValueError, match=message):
        EpisodicMDP.from_arrays(P, r)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (1.5, r"r is 1.5, outside \[0, 1\], at stage 2, state 3, action 1: map the rewards"),
        (-0.25, r"r is -0.25, outside \[0, 1\], at stage 2, state 3, action 1"),
        (np.nan, "r is not finite at stage 2, state 3, action 1"),
    ],
)
def test_a_bad_reward_is_named(reward: float, message: str) -> None:
    P, r = tables()
    r[2, 3, 1] = reward
    with pytest.raises(ValueError, match=message):
        EpisodicMDP.from_arrays(P, r)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizon": 0}, "horizon must be a whole number of at least 1, not 0"),
        ({"horizon": -3}, "horizon must be a whole number of at least 1, not -3"),
        ({"horizon": 2.5}, r"horizon must be a whole number of at least 1, not 2\.5"),
        ({"horizon": None}, "none of P, r has a stage axis: give horizon="),
        ({"P": np.full((7, 4, 2, 4), 0.25)}, "P has 7 stages, but the horizon is 5"),
        ({"P": np.full((4, 2, 3), 1 / 3)}, r"P must be \[H, S, A, S\]"),
        ({"P": np.full((4, 4), 0.25)}, r"P must be \[S, A, S\] or \[H, S, A, S\]"),
        ({"P": np.zeros((0, 2, 0))}, "horizon, states and actions must be at least 1"),
        ({"r": np.zeros((4, 3))}, r"r must be \[H, S, A\] = \[5, 4, 2\], not \[5, 4, 3\]"),
        ({"r": np.zeros(4)}, r"r must be \[S, A\] or \[H, S, A\]"),
        ({"initial": 4}, "initial state 4 does not exist: there are 4 states"),
        ({"initial": [0, -1]}, "initial state -1 does not exist"),
        ({"initial": [0.5, 0.6, 0.0, 0.0]}, "initial is no distribution"),
        ({"initial": [1.5, -0.5, 0.0, 0.0]}, "initial is no distribution"),
        ({"initial": [np.nan, 1.0, 0.0, 0.0]}, "initial is no distribution"),
        ({"initial": [0.5, 0.5]}, "a distribution of 4 floats"),
        ({"initial": "left"}, "initial must be a state, states, a function of k"),
    ],
)
def test_bad_arguments_get_a_clear_line(change: dict[str, Any], message: str) -> None:
    good = {"P": np.full((4, 2, 4), 0.25), "r": np.zeros((4, 2)), "horizon": 5}
    EpisodicMDP.from_arrays(**good)
    with pytest.raises(ValueError, match=message):
        EpisodicMDP.from_arrays(**{**good, **change})


# ---------------------------------------------------------------------- sampling


@pytest.mark.parametrize("horizon", [0, -1, 2.5, float("nan"), float("inf"), "5", True])
def test_a_horizon_that_is_no_number_of_stages(horizon: Any) -> None:
    with pytest.raises(ValueError, match="horizon must be a whole number of at least 1, not"):
        EpisodicMDP.from_arrays([[[1.0]]], [[0.5]], horizon=horizon)


def test_a_next_state_is_drawn_by_inverse_transform() -> None:
    # cdf .25, .25, 1, 1: state 0 below .25, else state 2; states 1 and 3 are impossible.
    P = np.zeros((4, 1, 4))
    P[:, 0] = 0.25, 0.0, 0.75, 0.0
    mdp = EpisodicMDP.from_arrays(P, np.full((4, 1), 0.5), horizon=2)
    assert_array_equal(mdp.cdf[1, 2, 0], [0.25, 0.25, 1.0, 1.0])
    g, same = rng(3), rng(3)
    for _ in range(200):
        r, s_next = mdp.step(0, 1, 0, g)
        assert r == 0.5
        assert s_next == (0 if same.random() < 0.25 else 2)


def test_impossible_states_are_not_drawn_at_the_ends_of_the_unit_interval() -> None:
    P = np.zeros((3, 1, 3))
    P[:, 0] = 0.0, 1.0, 0.0
    mdp = EpisodicMDP.from_arrays(P, np.zeros((3, 1)), horizon=1)

    class Fixed:
        def __init__(self, number: float) -> None:
            self.number = number

        def random(self) -> float:
            return self.number

    for u in (0.0, np.nextafter(1.0, 0.0)):
        generator: Any = Fixed(u)
        assert mdp.step(0, 0, 0, generator)[1] == 1


@given(st.integers(0, 1000), st.integers(1, 40))
def test_the_cdf_ends_at_exactly_one(seed: int, S: int) -> None:
    P = rng(seed).dirichlet(np.full(S, 0.1), size=(S, 2))
    mdp = EpisodicMDP.from_arrays(P, np.zeros((S, 2)), horizon=2)
    assert np.all(mdp.cdf[..., -1] == 1.0)
    assert np.all(np.diff(mdp.cdf, axis=-1) >= 0.0)


# ---------------------------------------------------------------------- first states


def one_stage(initial: Any) -> EpisodicMDP:
    return EpisodicMDP.from_arrays(np.full((3, 1, 3), 1 / 3), np.zeros((3, 1)), initial=initial,
                                   horizon=1)  # fmt: skip


def test_fixed_first_state() -> None:
    assert_array_equal(one_stage(2).starts(5, 3, rng()), [2, 2, 2])
    assert_array_equal(one_stage(2).initial_distribution, [0.0, 0.0, 1.0])


def test_first_states_in_turn() -> None:
    mdp = one_stage([0, 2, 2])
    assert_array_equal(mdp.starts(0, 7, rng()), [0, 2, 2, 0, 2, 2, 0])
    assert_array_equal(mdp.starts(5, 2, rng()), [2, 0])  # wherever one resumes
    assert_allclose(mdp.initial_distribution, [1 / 3, 0.0, 2 / 3])


def test_random_first_states_use_one_uniform_number_each() -> None:
    mdp = one_stage(np.array([0.25, 0.0, 0.75]))
    expected = np.where(rng(1).random(50) < 0.25, 0, 2)
    g = rng(1)
    assert_array_equal(np.concatenate([mdp.starts(0, 20, g), mdp.starts(20, 30, g)]), expected)


def test_an_adversary_chooses_first_states() -> None:
    mdp = one_stage(lambda k: (k * k) % 3)
    assert_array_equal(mdp.starts(1, 4, rng()), [1, 1, 0, 1])
    with pytest.raises(ValueError, match="a function chooses the first state"):
        _ = mdp.initial_distribution
    with pytest.raises(ValueError, match="the first state of episode 3 is 3, of 3 states"):
        one_stage(lambda k: k).starts(2, 5, rng())
    with pytest.raises(ValueError, match=r"the first state of episode 0 is 1\.5, of 3 states"):
        one_stage(lambda k: 1.5).starts(0, 1, rng())
    assert one_stage(lambda k: np.int32(2)).starts(0, 1, rng()).tolist() == [2]


def test_returns_are_reported_in_original_units() -> None:
    # Three stages of rewards in [-10, 20]: the unit return 1.5 is 3 (-10) + 30 * 1.5 = 15.
    P = np.ones((1, 1, 1))
    mdp = EpisodicMDP.from_arrays(P, np.full((1, 1), 0.5), horizon=3, reward_range=(-10.0, 20.0))
    assert mdp.original_return(1.5) == 15.0


# ---------------------------------------------------------------------- linear MDPs


def parts() -> dict[str, Any]:
    mdp = simplex(3, 5, 2, 4, rng(7))
    return {"phi": mdp.phi.copy(), "mu": mdp.mu.copy(), "theta": mdp.theta.copy()}


def test_parts_make_the_tables() -> None:
    given_parts = parts()
    mdp = LinearMDP.from_parts(**given_parts)
    for h, s, a in np.ndindex(mdp.H, mdp.S, mdp.A):
        assert_allclose(mdp.P[h, s, a], given_parts["phi"][s, a] @ given_parts["mu"][h], atol=1e-15)
        assert mdp.r[h, s, a] == pytest.approx(given_parts["phi"][s, a] @ given_parts["theta"][h])


def test_homogeneous_parts_are_broadcast() -> None:
    one = parts()
    mdp = LinearMDP.from_parts(one["phi"], one["mu"][0], one["theta"][0], horizon=6)
    assert (mdp.H, mdp.d) == (6, 3)
    assert mdp.P.strides[0] == mdp.mu.strides[0] == mdp.theta.strides[0] == 0
    with pytest.raises(ValueError, match="none of mu, theta has a stage axis: give horizon="):
        LinearMDP.from_parts(one["phi"], one["mu"][0], one["theta"][0])


@pytest.mark.parametrize(
    ("part", "where", "value", "message"),
    [
        (
            "phi",
            (3, 1),
            [1.0, 0.5, 0.0],
            "phi has norm 1.11803, above 1, at state 3, action 1: div",
        ),
        ("phi", (3, 1), [np.nan, 0.0, 0.0], "phi is not finite at state 3, action 1"),
        (
            "phi",
            (3, 1),
            [0.5, 0.4, 0.0],
            "P sums to 0.9.*, not to 1, at stage 0, state 3, action 1",
        ),
        ("mu", (1, 0, 2), np.inf, "mu has values that are not finite"),
        ("mu", (1, 0, 2), 0.9, "P sums to .*, not to 1, at stage 1"),
        ("theta", (2, 0), np.nan, "theta has values that are not finite"),
        (
            "theta",
            (2,),
            [1.2, 1.2, 1.2],
            r"r is 1.2, outside \[0, 1\], at stage 2, state 0, action 0",
        ),
    ],
)
def test_a_bad_part_is_named(part: str, where: Any, value: Any, message: str) -> None:
    bad = parts()
    bad[part][where] = value
    with pytest.raises(ValueError, match=message):
        LinearMDP.from_parts(**bad)


def test_parts_are_held_to_twelve_digits() -> None:
    one = parts()
    for error, good in ((1e-14, True), (1e-10, False)):
        mu = one["mu"].copy()
        mu[2, 1, 3] += error
        if good:
            LinearMDP.from_parts(**{**one, "mu": mu})
        else:
            with pytest.raises(ValueError, match=r"P sums to .* not to 1, at stage 2, state"):
                LinearMDP.from_parts(**{**one, "mu": mu})


def test_rounding_below_zero_is_no_negative_probability() -> None:
    mdp = LinearMDP.from_parts([[[1.0]], [[1.0]]], [[1.0 + 1e-15, -1e-15]], [-1e-15], horizon=1)
    assert mdp.P.min() == 0.0
    assert mdp.P.max() == 1.0
    assert mdp.r.min() == 0.0


def test_shapes_of_parts() -> None:
    one = parts()
    for part, message in (
        ("phi", r"phi must be \[S, A, d\]"),
        ("mu", r"mu must be \[d, S\] or \[H, d, S\] with d=3, S=5"),
        ("theta", r"theta must be \[d\] or \[H, d\] with d=3"),
    ):
        with pytest.raises(ValueError, match=message):
            LinearMDP.from_parts(**{**one, part: np.zeros((1, 2, 2, 2))})


def test_norms_of_theta_and_mu() -> None:
    # d = 1 and phi = .5: probability 1 needs mu = 2, reward 1 needs theta = 2, both above sqrt(1).
    phi = [[[0.5]]]
    with pytest.raises(ValueError, match=r"theta at stage 0 has norm 2, above sqrt\(d\) = 1"):
        LinearMDP.from_parts(phi, [[2.0]], [2.0], horizon=1)
    with pytest.raises(ValueError, match="mu at stage 0 has total variation of norm 2, above"):
        LinearMDP.from_parts(phi, [[2.0]], [0.0], horizon=1)


@given(st.integers(0, 1000), st.integers(2, 6), st.integers(1, 3), st.integers(1, 3))
def test_tabular_features_give_the_same_tables(seed: int, S: int, A: int, H: int) -> None:
    P, r = tables(H, S, A, seed)
    linear = tabular(EpisodicMDP.from_arrays(P, r, initial=1, reward_range=(-1.0, 3.0)))
    assert (linear.d, linear.initial, linear.reward_range) == (S * A, 1, (-1.0, 3.0))
    flat = linear.phi.reshape(S * A, S * A)
    assert_array_equal(flat, np.eye(S * A))
    for h in range(H):
        assert_array_equal((flat @ linear.mu[h]).reshape(S, A, S), P[h])
        assert_array_equal((flat @ linear.theta[h]).reshape(S, A), r[h])


def test_tabular_of_a_homogeneous_mdp_copies_no_stage() -> None:
    P, r = tables()
    linear = tabular(EpisodicMDP.from_arrays(P[0], r[0], horizon=9))
    assert linear.mu.strides[0] == linear.theta.strides[0] == 0
    assert linear.mu.shape == (9, 8, 4)


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(2, 12), st.integers(2, 5))
def test_regression_on_exact_expectations_recovers_them(seed: int, d: int, S: int, A: int) -> None:
    """(P_h f)(s, a) = <phi(s, a), w_h(f)> with w_h(f) = mu_h f, for any f."""
    mdp = simplex(d, S, A, 2, rng(seed))
    f = 10.0 * rng(seed + 1).standard_normal(S)
    phi = mdp.phi.reshape(-1, d)
    for h in range(mdp.H):
        expected = mdp.P[h].reshape(-1, S) @ f
        assert_allclose(phi @ (mdp.mu[h] @ f), expected, rtol=0, atol=1e-10)
        fitted = np.linalg.lstsq(phi, expected, rcond=None)[0]
        assert_allclose(phi @ fitted, expected, rtol=0, atol=1e-10)
        assert np.linalg.norm(mdp.mu[h] @ f) <= np.sqrt(d) * np.abs(f).max() * (1 + 1e-12)


def test_a_model_is_shown_by_its_name_and_sizes() -> None:
    mdp = EpisodicMDP.from_arrays(np.full((3, 2, 3), 1 / 3), np.zeros((3, 2)), horizon=5)
    assert repr(mdp) == "EpisodicMDP('mdp', H=5, S=3, A=2)"
    # One feature for every state and action.
    assert repr(tabular(mdp)) == "LinearMDP('mdp', H=5, S=3, A=2, d=6)"
    assert repr(one_hot(mdp)) == "LinearMixtureMDP('mdp', H=5, S=3, A=2, d=18)"


def test_the_package_needs_neither_torch_nor_gymnasium() -> None:
    code = (
        "import sys, pkgutil, importlib\n"
        "sys.modules['torch'] = sys.modules['gymnasium'] = None\n"
        "import thrifty.episodic as room\n"
        "for one in pkgutil.iter_modules(room.__path__):\n"
        "    importlib.import_module(f'thrifty.episodic.{one.name}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
