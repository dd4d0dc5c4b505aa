from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from thrifty.episodic import EpisodicMDP, LinearMDP, optimal, value
from thrifty.episodic.environments import Environment
from thrifty.episodic.latent import LatentMDP


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_it_is_an_environment() -> None:
    environment: Environment = LatentMDP(d=3, A=2, H=4, rng=rng())
    s = environment.reset(seed=3)
    for h in range(environment.H):
        phi, r = environment.features(h, s), environment.rewards(h, s)
        assert phi.shape == (2, 3)
        assert_allclose(phi.sum(axis=1), 1.0, rtol=0, atol=1e-12)
        outcome = environment.step(1)
        assert r is not None
        assert outcome.r == r[1]
        assert not outcome.ended
        s = outcome.observation
        assert s.shape == (1,)
        assert 0.0 <= s[0] <= 1.0
    assert environment.value_after_end(2) == 0.0


def test_an_episode_is_its_seed() -> None:
    mdp = LatentMDP(d=3, A=2, H=4, rng=rng())

    def states(seed: int) -> list[float]:
        first = mdp.reset(seed)
        return [float(first[0]), *(float(mdp.step(h % 2).observation[0]) for h in range(4))]

    assert states(5) == states(5)
    assert states(5) != states(6)


def test_next_states_follow_the_mixture() -> None:
    """The mean of s' given (s, a) is the mixture of the intervals' middles."""
    mdp = LatentMDP(d=3, A=2, H=2, rng=rng(1), sharpness=1.0)
    drawn, expected = [], []
    for seed in range(4000):
        phi = mdp.features(0, mdp.reset(seed))
        expected.append(phi[1] @ (mdp.low[0] + mdp.high[0]) / 2)
        drawn.append(float(mdp.step(1).observation[0]))
    # The standard deviation of s' is at most 1/2, so five standard errors are .04.
    assert np.mean(drawn) == pytest.approx(np.mean(expected), abs=0.04)
    assert min(drawn) >= mdp.low[0].min()
    assert max(drawn) <= mdp.high[0].max()


def test_kernel_and_place_in_its_interval_are_independent() -> None:
    mdp = LatentMDP(d=2, A=1, H=1, rng=rng(1), sharpness=0.0)
    mdp.low[:], mdp.high[:] = [[0.0, 0.5]], [[0.5, 1.0]]
    places = []
    for seed in range(2000):
        mdp.reset(seed)
        places.append(float(mdp.step(0).observation[0]))
    # Uniform on [0, 1]: quarters have probability 1/4, five standard errors are .05.
    assert_allclose(np.histogram(places, 4, (0, 1))[0] / 2000, 0.25, rtol=0, atol=0.05)


def test_features_of_another_state_than_the_present() -> None:
    mdp = LatentMDP(d=3, A=2, H=2, rng=rng(1))
    mdp.reset(0)
    elsewhere = np.array([0.123])
    assert_array_equal(mdp.features(0, elsewhere), mdp.features_of(elsewhere)[0])
    assert_array_equal(mdp.rewards(1, elsewhere), mdp.features_of(elsewhere)[0] @ mdp.theta[1])


@pytest.mark.parametrize("seed", range(3))
def test_optimal_value_against_a_finite_mdp(seed: int) -> None:
    """With states rounded to cells the model is a finite linear MDP, planned exactly."""
    mdp, cells = LatentMDP(d=4, A=3, H=5, rng=rng(seed), sharpness=1.0), 400
    edges = np.arange(cells + 1) / cells
    # The share of a kernel's interval that lies in a cell is its probability.
    inside = np.clip(edges[None, None], mdp.low[..., None], mdp.high[..., None])
    mu = np.diff(inside, axis=2) / (mdp.high - mdp.low)[..., None]
    phi = mdp.features_of((edges[:-1] + edges[1:]) / 2)
    finite = LinearMDP.from_parts(phi, mu, mdp.theta, initial=np.full(cells, 1 / cells))
    assert mdp.optimal_value() == pytest.approx(value(finite, optimal(finite).V), abs=1e-4)


def test_quadrature_has_converged() -> None:
    mdp = LatentMDP(d=6, A=4, H=8, rng=rng(1))
    assert mdp.optimal_value() == pytest.approx(mdp.optimal_value(nodes=8000), abs=1e-6)


def test_value_of_a_policy() -> None:
    mdp = LatentMDP(d=3, A=3, H=4, rng=rng(2))
    constant = [mdp.policy_value(lambda h, s, a=a: np.full(len(s), a)) for a in range(3)]  # type: ignore[misc]
    assert max(constant) < mdp.optimal_value()
    # With one stage the value of action 0 is the mean of its reward over the first state.
    short = LatentMDP(d=3, A=3, H=1, rng=rng(2))
    s = (np.arange(100_000) + 0.5) / 100_000
    mean = (short.features_of(s)[:, 0] @ short.theta[0]).mean()
    assert short.policy_value(lambda h, s: np.zeros(len(s), int)) == pytest.approx(mean, abs=1e-6)


def test_equal_features_leave_nothing_to_choose() -> None:
    # Every feature is 1/d, so every stage pays the mean of theta whatever one does.
    mdp = LatentMDP(d=4, A=2, H=6, rng=rng(), sharpness=0.0)
    assert_allclose(mdp.features_of(np.array([0.1, 0.9])), 0.25)
    assert mdp.optimal_value(nodes=10) == pytest.approx(mdp.theta.mean(axis=1).sum())
    assert mdp.original_return(2.5) == 2.5


@pytest.mark.parametrize(("size", "name"), [((0, 2, 3), "d"), ((2, 0, 3), "A"), ((2, 2, 0), "H")])
def test_impossible_sizes(size: tuple[int, int, int], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, not 0"):
        LatentMDP(*size, rng=rng())


def test_two_latent_models_of_one_seed_are_equal() -> None:
    one, same = (LatentMDP(d=3, A=2, H=4, rng=rng(9)) for _ in range(2))
    assert_array_equal(one.features_of(np.array([0.3])), same.features_of(np.array([0.3])))
    assert not isinstance(one, EpisodicMDP)
