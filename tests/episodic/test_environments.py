from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal

from thrifty.episodic import evaluate, optimal, value
from thrifty.episodic.environments import FeatureEnvironment, from_gymnasium

UP = 3

# ---------------------------------------------------------------------- tables


def test_frozen_lake_is_the_environment_that_gymnasium_plays() -> None:
    """Every (s, a) of the environment itself is stepped from: support, rewards and frequencies."""
    env = gym.make("FrozenLake-v1").unwrapped
    mdp = from_gymnasium("FrozenLake-v1", horizon=5)
    env.reset(seed=0)
    times = 300
    ended = [5, 7, 11, 12, 15]
    for s in range(16):
        for a in range(4):
            if s in ended:
                assert_array_equal(mdp.P[0, s, a], np.eye(16)[s])
                assert mdp.r[0, s, a] == 0.0
                continue
            counts, total = np.zeros(16), 0.0
            for _ in range(times):
                env.s = s  # type: ignore[attr-defined]
                s_next, reward, *_ = env.step(a)
                counts[s_next] += 1
                total += float(reward)
            assert_array_equal(counts > 0, mdp.P[0, s, a] > 0)
            # Five standard errors of a frequency at most.
            assert_allclose(counts / times, mdp.P[0, s, a], rtol=0, atol=5 * 0.5 / times**0.5)
            assert total / times == pytest.approx(mdp.r[0, s, a], abs=5 * 0.5 / times**0.5)


def test_frozen_lake_is_worth_what_gymnasium_says() -> None:
    # Gymnasium's registration states an optimum of .74 with its limit of 100 steps.
    mdp = from_gymnasium("FrozenLake-v1", horizon=100)
    assert mdp.name == "FrozenLake-v1"
    assert mdp.reward_range == (0.0, 1.0)
    assert mdp.P.strides[0] == 0
    assert value(mdp, optimal(mdp).V) == pytest.approx(0.74, abs=5e-3)


def test_the_lake_without_slipping_is_crossed_in_six_steps() -> None:
    env = gym.make("FrozenLake-v1", is_slippery=False)
    for horizon, expected in ((5, 0.0), (6, 1.0)):
        mdp = from_gymnasium(env, horizon)
        assert value(mdp, optimal(mdp).V) == expected


def test_cliff_walking_costs_thirteen_steps() -> None:
    # Up, eleven times right, down: -1 each; afterwards 0 for the rest of the horizon.
    mdp = from_gymnasium("CliffWalking-v1", horizon=20, reward_range=(-100, 0))
    assert mdp.original_return(value(mdp, optimal(mdp).V)) == pytest.approx(-13.0)
    always_up = np.full((20, 48), 0)
    assert mdp.original_return(value(mdp, evaluate(mdp, always_up))) == pytest.approx(-20.0)


def test_taxi_by_hand() -> None:
    # Taxi and passenger at R (0, 0), bound for G at (0, 4): pick up (-1), then round the wall
    # by down 2, right 4, up 2 (-8), drop off (+20): 11 after 10 steps, then nothing.
    mdp = from_gymnasium("Taxi-v4", horizon=15, reward_range=(-10, 20))
    assert (mdp.S, mdp.A) == (500, 6)
    state = ((0 * 5 + 0) * 5 + 0) * 4 + 1
    V = optimal(mdp).V[0, state]
    assert mdp.original_return(V) == pytest.approx(11.0)


@pytest.mark.parametrize(
    ("env", "options", "message"),
    [
        ("Taxi-v4", {}, "Taxi-v4 declares no finite reward range.*give reward_range="),
        ("Taxi-v4", {"reward_range": (-1, 20)}, r"reward -10 at state 0, action 5.* \[-1, 20\]"),
        (
            "FrozenLake-v1",
            {"reward_range": (0, 0.5)},
            r"reward 1 at state 14, action 1.* \[0, 0.5\]",
        ),
        ("Taxi-v4", {"reward_range": (20, -10)}, "must have low < high"),
        ("Taxi-v4", {"reward_range": (-np.inf, 20)}, "no finite reward range"),
        ("CliffWalking-v1", {"reward_range": (-100, -1)}, "reward_range= must contain 0, unlike"),
        ("Blackjack-v1", {"reward_range": (-1, 1)}, "no table env.unwrapped.P: use FeatureEnviron"),
        ("FrozenLake-v1", {"horizon": 0}, "horizon must be a whole number of at least 1, not 0"),
        ("NoSuchThing-v0", {}, "cannot make environment 'NoSuchThing-v0'"),
    ],
)
def test_tables_that_cannot_be_used(env: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_gymnasium(env, **{"horizon": 5, **options})


def test_a_state_entered_with_and_without_an_end_is_refused() -> None:
    env = gym.make("FrozenLake-v1")
    row = env.unwrapped.P[14][2]  # type: ignore[attr-defined]
    assert (0, True) in {(s_next - 15, done) for _, s_next, _, done in row}
    env.unwrapped.P[14][1] = [(1.0, 15, 0.0, False)]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="enters state 15 both with and without ending"):
        from_gymnasium(env, horizon=5)


# ---------------------------------------------------------------------- features


class Line(gym.Env[Any, Any]):
    """A point on a line: actions 5 (left) and 6 (right) move it by .1; ends at 1; pays 10 s - 2."""

    observation_space = spaces.Box(-2.0, 2.0, (1,))
    action_space = spaces.Discrete(2, start=5)
    cut_after: int | None = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.s, self.steps = float(self.np_random.uniform(0.0, 0.5)), 0
        return np.array([self.s]), {}

    def step(self, action: Any) -> Any:
        self.s += 0.1 * (2 * (int(action) - 5) - 1)
        self.steps += 1
        reward, ended = 10.0 * self.s - 2.0, self.s >= 1.0
        return np.array([self.s]), reward, ended, self.steps == self.cut_after, {}


def phi(h: int, observation: Any) -> Any:
    s = float(observation[0])
    return np.array([[0.5, 0.5 * s, 0.0], [0.5, 0.0, 0.5 * s]])


def line(horizon: int = 8, **options: Any) -> FeatureEnvironment:
    return FeatureEnvironment(Line(), phi, horizon, **{"reward_range": (-12.0, 18.0), **options})


def test_a_continuous_environment_is_learned_on_through_features() -> None:
    env = line()
    assert (env.H, env.A, env.d, env.name) == (8, 2, 3, "Line")
    s = env.reset(seed=4)
    assert_array_equal(env.features(0, s), phi(0, s))
    assert env.rewards(0, s) is None
    outcome = env.step(1)
    assert outcome.observation[0] == pytest.approx(s[0] + 0.1)
    assert outcome.r == pytest.approx((10 * (s[0] + 0.1) - 2 + 12) / 30)
    assert not outcome.ended
    assert env.reset(seed=4) == s
    assert env.reset(seed=5) != s


def test_an_early_end_is_continued_by_stages_of_original_reward_zero() -> None:
    env = line(horizon=20)
    env.reset(seed=0)
    unit, original, h = 0.0, 0.0, 0
    while True:
        outcome = env.step(1)
        h += 1
        unit += outcome.r
        original += 10.0 * float(outcome.observation[0]) - 2.0
        if outcome.ended:
            break
    assert h < 20
    assert env.value_after_end(20) == 0.0
    # The learner's return in [0, 1] units is worth the original return.
    assert env.original_return(unit + env.value_after_end(h)) == pytest.approx(original)


def test_an_observation_stays_what_it_was() -> None:
    class Reusing(Line):
        state = np.zeros(1)

        def step(self, action: Any) -> Any:
            self.state[:], *rest = super().step(action)
            return self.state, *rest

    env = FeatureEnvironment(Reusing(), phi, 8, reward_range=(-12, 18))
    env.reset(seed=0)
    first = env.step(1).observation
    before = first.copy()
    env.step(1)
    assert_array_equal(first, before)


def test_known_rewards_are_mapped() -> None:
    env = line(reward=lambda h, s: [-12.0 + h, 18.0])
    s = env.reset(seed=0)
    rewards = env.rewards(3, s)
    assert rewards is not None
    assert_allclose(rewards, [0.1, 1.0])
    with pytest.raises(ValueError, match=r"reward at stage 0 has shape \[3\], not \[A\] with A=2"):
        line(reward=lambda h, s: [0, 0, 0]).rewards(0, s)
    with pytest.raises(ValueError, match=r"a value of reward= at stage 1 is outside .*\[-12, 18\]"):
        line(reward=lambda h, s: [0, 19]).rewards(1, s)


def test_an_early_end_needs_a_range_with_zero() -> None:
    # The stages that are left pay 0, which [.5, 1] would map to -1 each.
    environment = FeatureEnvironment(
        "CartPole-v1", lambda h, s: np.ones((2, 1)), 100, reward_range=(0.5, 1.0)
    )
    environment.reset(0)
    with pytest.raises(ValueError, match=r"ended the episode after \d+ of 100 stages.* contain 0"):
        [environment.step(1) for _ in range(100)]


@pytest.mark.parametrize("given", [(0, 1, 2), 1.0, (0.0, float("inf")), "unit"])
def test_a_range_that_is_none(given: Any) -> None:
    with pytest.raises(ValueError, match="is no finite reward range"):
        FeatureEnvironment("CartPole-v1", lambda h, s: np.ones((2, 1)), 5, reward_range=given)


def test_an_environment_without_a_reward_range_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"Line declares no finite reward range.*reward_range=\(low"
    ):
        line(reward_range=None)
    declared = Line()
    declared.reward_range = (-12.0, 18.0)  # type: ignore[attr-defined]
    assert FeatureEnvironment(declared, phi, 8).reward_range == (-12.0, 18.0)


def test_a_reward_outside_the_range_stops_the_episode() -> None:
    # The first state is at most .5 and the fifth step right at least .5: it pays 3 or more.
    env = line(reward_range=(-2.0, 3.0))
    env.reset(seed=0)
    with pytest.raises(
        ValueError, match=r"the reward .* of Line at stage \d is outside .*\[-2, 3\]"
    ):
        [env.step(1) for _ in range(8)]
    # To the left the reward falls from below 3 to below -2.
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"the reward -.* of Line at stage \d is outside"):
        [env.step(0) for _ in range(8)]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([[0.5, 0.5], [0.9, 0.9]], "phi has norm 1.27279, above 1, at stage 2, action 1: divide"),
        ([[np.nan, 0.5], [0.5, 0.5]], "phi is not finite at stage 2, action 0"),
        ([[0.5, 0.5], [0.5, -np.inf]], "phi is not finite at stage 2, action 1"),
        ([[0.5, 0.5]], r"phi at stage 2 has shape \[1, 2\], not \[A, d\] with A=2, d=2"),
        ([[0.5], [0.5]], r"phi at stage 2 has shape \[2, 1\], not \[A, d\] with A=2, d=2"),
        ([0.5, 0.5], r"phi at stage 2 has shape \[2\]"),
    ],
)
def test_bad_features_are_named_at_their_step(features: Any, message: str) -> None:
    good = [[0.5, 0.5], [0.5, -0.5]]
    env = FeatureEnvironment(
        Line(), lambda h, s: features if h == 2 else good, 8, reward_range=(-12, 18)
    )
    s = env.reset(seed=0)
    assert_array_equal(env.features(1, s), good)
    with pytest.raises(ValueError, match=message):
        env.features(2, s)


def test_the_horizon_respects_the_environment() -> None:
    with pytest.raises(
        ValueError, match="horizon 501 is beyond the limit of CartPole-v1: choose at m"
    ):
        FeatureEnvironment("CartPole-v1", phi, 501, reward_range=(0, 1))
    with pytest.raises(ValueError, match="horizon must be a whole number of at least 1, not 0"):
        line(horizon=0)
    env = Line()
    env.cut_after = 3
    cut = FeatureEnvironment(env, phi, 4, reward_range=(-12, 18))
    cut.reset(seed=0)
    cut.step(0)
    cut.step(0)
    with pytest.raises(
        ValueError, match="Line cut the episode off after 3 steps: choose that as the"
    ):
        cut.step(0)
    fits = FeatureEnvironment(env, phi, 3, reward_range=(-12, 18))
    fits.reset(seed=0)
    assert [fits.step(0).ended for _ in range(3)] == [False] * 3


def test_actions_must_be_discrete() -> None:
    env = Line()
    env.action_space = spaces.Box(-1.0, 1.0)
    with pytest.raises(ValueError, match="Line: actions must be Discrete, not Box"):
        FeatureEnvironment(env, phi, 8, reward_range=(-12, 18))
    env.action_space = spaces.MultiBinary(3)
    with pytest.raises(ValueError, match="Line: actions must be Discrete, not MultiBinary"):
        FeatureEnvironment(env, phi, 8, reward_range=(-12, 18))
