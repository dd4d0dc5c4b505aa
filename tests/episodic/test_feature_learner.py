"""The learner on features alone equals the one on tables, and learns where there are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from thrifty.episodic import EpisodicMDP, LinearMDP
from thrifty.episodic.environments import FeatureEnvironment, Outcome
from thrifty.episodic.feature_learner import FeatureLSVI
from thrifty.episodic.instances import simplex
from thrifty.episodic.latent import LatentMDP
from thrifty.episodic.lsvi_ucb import LSVIUCB
from thrifty.episodic.lsvi_ucb_plus import LSVIUCBPlus
from thrifty.episodic.rollout import FeatureRollout
from thrifty.episodic.weighting import constant_weighting, practical_weighting


class Tables:
    """A finite linear MDP that shows features only."""

    reward_range = (0.0, 1.0)

    def __init__(self, mdp: LinearMDP, *, rewards: bool = True) -> None:
        self.mdp, self.name, self.H, self.A, self.d = mdp, mdp.name, mdp.H, mdp.A, mdp.d
        self.known = rewards

    def reset(self, seed: int) -> int:
        self.rng, self.h = np.random.default_rng(seed), 0
        self.s = int(self.rng.integers(self.mdp.S))
        return self.s

    def step(self, a: int) -> Outcome:
        r, self.s = self.mdp.step(self.h, self.s, a, self.rng)
        self.h += 1
        return Outcome(r, self.s, False)

    def features(self, h: int, s: int) -> Any:
        return self.mdp.phi[s]

    def rewards(self, h: int, s: int) -> Any:
        return self.mdp.r[h, s] if self.known else None

    def value_after_end(self, h: int) -> float:
        return 0.0

    def original_return(self, value: float) -> float:
        return value


def small() -> LinearMDP:
    return simplex(4, 6, 3, 4, np.random.default_rng(0))


PLUS: dict[str, dict[str, Any]] = {
    "corrected": {},
    "not monotone": {"monotone": False},
    "icml": {"monotone": False, "switch": "episode", "gap": "over"},
    "estimated rewards": {"reward": "estimate", "beta_reward": 0.2},
}


def play_both(mdp: LinearMDP, tables: Any, features: Any, episodes: int) -> None:
    """The learner on tables decides; the other must decide the same."""
    world = Tables(mdp)
    for k in range(episodes):
        s = world.reset(seed=k)
        for h in range(mdp.H):
            a = tables.act(h, s)
            assert features.act(h, s) == a
            outcome = world.step(a)
            tables.observe(h, s, a, outcome.r, outcome.observation)
            features.observe(h, s, a, outcome.r, outcome.observation, ended=False)
            s = outcome.observation
        tables.end_episode()
        features.end_episode()
    assert features.switches == tables.switches
    scale = features.ridge.regulariser / tables.ridge.regulariser
    assert_allclose(scale * features.ridge.inverse, tables.ridge.inverse, rtol=1e-7, atol=1e-9)
    for s in range(mdp.S):
        for h in range(mdp.H):
            assert_allclose(features._meet(h, s)[3][0], tables.tables.Q[h, s], atol=1e-9)


@pytest.mark.parametrize("settings", PLUS.values(), ids=PLUS)
def test_equals_lsvi_ucb_plus_on_tables(settings: dict[str, Any]) -> None:
    mdp = small()
    c = practical_weighting(4, 0.4, correction=0.05)
    tables = LSVIUCBPlus(mdp, regulariser=0.05, weighting=c, **settings)
    known = settings.get("reward", "known") == "known"
    features = FeatureLSVI(Tables(mdp, rewards=known), regulariser=0.05, weighting=c, **settings)
    play_both(mdp, tables, features, 120)
    assert_allclose(features.b[:-1, :3], tables.tables.b[:-1, :3], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("c", [1.0, 4.0])
@pytest.mark.parametrize("reward", ["known", "estimate"])
@pytest.mark.parametrize("switch", ["determinant", "episode"])
def test_equals_lsvi_ucb_on_tables(reward: Any, switch: Any, c: float) -> None:
    # Weights 1 / c are LSVI-UCB with c lambda and sqrt(c) beta, also for regressed rewards.
    mdp = small()
    tables = LSVIUCB(mdp, regulariser=c * 0.05, beta=c**0.5 * 0.4, reward=reward, switch=switch)
    features = FeatureLSVI(
        Tables(mdp, rewards=reward == "known"),
        regulariser=0.05,
        weighting=constant_weighting(0.4, c),
        monotone=False,
        switch=switch,
        reward=reward,
        pooled_reward=True,
    )
    assert features.name == "lsvi_ucb"
    play_both(mdp, tables, features, 80)


def test_state_goes_back_and_forth() -> None:
    environment = LatentMDP(3, 2, 4, np.random.default_rng(0))
    one, two = FeatureLSVI(environment), FeatureLSVI(environment)
    first, second = FeatureRollout(environment, one, 0), FeatureRollout(environment, two, 0)
    for _ in range(100):
        first.advance(1)
    second.load_state_dict(first.state_dict())
    for _ in range(100):
        assert_array_equal(first.advance(1).returns, second.advance(1).returns)
    assert_array_equal(one.b, two.b)
    assert one.switches == two.switches > 20


def test_it_learns_with_continuous_states() -> None:
    environment = LatentMDP(4, 3, 4, np.random.default_rng(2))
    learner = FeatureLSVI(
        environment,
        regulariser=1e-3,
        weighting=constant_weighting(0.1, 1.0),
        monotone=False,
    )
    rollout = FeatureRollout(environment, learner, 0)
    for _ in range(1500):
        block = rollout.advance(1)
        assert block.regrets is None
    learner.prepare()

    def policy(h: int, s: Any) -> Any:
        features = environment.features_of(s)
        Q = [learner._quadratics.w[h, 0], environment.theta[h]]
        return np.argmax(features @ (Q[0] + Q[1]), axis=1)

    best = environment.optimal_value()
    blind = environment.policy_value(lambda h, s: np.zeros(len(s), dtype=np.int64))
    reached = environment.policy_value(policy)
    assert best - reached < 0.1 * (best - blind)


class Coin:
    """Two stages; action 1 ends the episode at once with reward 1, action 0 pays 0 and goes on."""

    name, H, A, d = "coin", 2, 2, 2
    reward_range = (0.0, 1.0)

    def reset(self, seed: int) -> int:
        return 0

    def step(self, a: int) -> Outcome:
        return Outcome(float(a), 0, a == 1)

    def features(self, h: int, s: int) -> Any:
        return np.eye(2)

    def rewards(self, h: int, s: int) -> Any:
        return np.array([0.0, 1.0])

    def value_after_end(self, h: int) -> float:
        return 0.25 * (2 - h)  # as if the range contained a negative reward

    def original_return(self, value: float) -> float:
        return value


def test_an_early_end_is_worth_what_is_known_of_it() -> None:
    learner = FeatureLSVI(
        Coin(), regulariser=1.0, weighting=constant_weighting(0.0, 1.0), monotone=False,
        switch="episode",
    )  # fmt: skip
    rollout = FeatureRollout(Coin(), learner, 0)
    assert rollout.advance(1).returns.tolist() == [1.25]
    learner.prepare()
    # One sample of action 1: w_1 = 1 * .25 / (1 + 1), so Q(1) = 1.125, Q(0) = 0.
    assert_allclose(learner._meet(0, 0)[3][0], [0.0, 1.125])


def test_constant_weights_keep_their_offset_and_conservatism() -> None:
    # All samples weigh 1 / 2 by the offset: LSVI-UCB with lambda and beta in these units.
    mdp = small()
    constant = constant_weighting(0.4, 1.0)._replace(offset=2.0)
    tables = LSVIUCBPlus(mdp, regulariser=0.05, weighting=constant, monotone=False)
    features = FeatureLSVI(Tables(mdp), regulariser=0.05, weighting=constant, monotone=False)
    play_both(mdp, tables, features, 30)
    assert features.sums[1] == 2.0 * features.sums[2]


def test_a_step_that_does_not_exist_is_refused() -> None:
    learner = FeatureLSVI(Coin())
    with pytest.raises(ValueError, match="stage 2, action 0 does not exist"):
        learner.observe(2, 0, 0, 0.0, 0)
    with pytest.raises(ValueError, match="stage 0, action 2 does not exist"):
        learner.observe(0, 0, 2, 0.0, 0)


def test_rewards_are_regressed_with_values_only_where_weights_are_constant() -> None:
    with pytest.raises(ValueError, match="leave it out, or take constant_weighting"):
        FeatureLSVI(Tables(small()), reward="estimate", pooled_reward=True)


def test_unknown_rewards_are_refused() -> None:
    with pytest.raises(ValueError, match='reward="estimate"'):
        FeatureLSVI(Tables(small(), rewards=False))


def test_cart_pole_through_features() -> None:
    def phi(h: int, s: Any) -> Any:
        x = np.concatenate([[1.0], np.clip(s, -1.0, 1.0)]) / np.sqrt(5.0)
        return np.stack([np.concatenate([x, 0 * x]), np.concatenate([0 * x, x])])

    environment = FeatureEnvironment("CartPole-v1", phi, 20, reward_range=(0.0, 1.0))
    learner = FeatureLSVI(environment, reward="estimate")
    rollout = FeatureRollout(environment, learner, 0)
    returns = [rollout.advance(1).returns[0] for _ in range(50)]
    assert max(returns) <= 20.0
    assert 0.0 < learner.first_value() <= 20.0
    assert learner.switches > 5
    assert isinstance(environment, FeatureEnvironment)
    assert not isinstance(environment, EpisodicMDP)
