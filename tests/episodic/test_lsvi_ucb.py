"""LSVI-UCB against a plain implementation, by hand, and its interface.

Against UCBVI by counting on one-hot features: test_plain_ucbvi.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from plain_lsvi import PlainLSVI

from thrifty.episodic import EpisodicMDP, LinearMDP, optimal, tabular
from thrifty.episodic.instances import river_swim, simplex
from thrifty.episodic.lsvi_ucb import LSVIUCB
from thrifty.episodic.lsvi_ucb_plus import LSVIUCBPlus
from thrifty.episodic.rollout import Rollout
from thrifty.episodic.simulator import new_simulator, starts
from thrifty.episodic.ucbvi import UCBVI
from thrifty.episodic.weighting import constant_weighting


def small(seed: int = 0) -> LinearMDP:
    rng = np.random.default_rng(seed)
    return simplex(4, 6, 3, 4, rng, initial=np.full(6, 1 / 6))


def run(rollout: Rollout, episodes: int) -> tuple[Any, Any, list[Any]]:
    """Returns and regrets of all episodes, and Q at the end of every block."""
    returns, regrets = [], []
    while rollout.episodes < episodes:
        block = rollout.advance(episodes - rollout.episodes)
        assert block.regrets is not None
        returns += block.returns.tolist()
        regrets += block.regrets.tolist()
    return np.array(returns), np.array(regrets), []


@pytest.mark.parametrize("switch", ["determinant", "episode"])
@pytest.mark.parametrize("reward", ["known", "estimate"])
def test_equals_the_plain_implementation(switch: Any, reward: Any) -> None:
    mdp = small()
    c = constant_weighting(0.4, 1.0)
    learner = LSVIUCB(mdp, regulariser=0.05, beta=0.4, switch=switch, reward=reward)
    plain = PlainLSVI(
        mdp, regulariser=0.05, c=c, weighted=False, monotone=False, switch=switch, reward=reward
    )
    one, two = Rollout(mdp, learner, 5), Rollout(mdp, plain, 5)
    returns, regrets, _ = run(one, 60)
    plain_returns, plain_regrets, _ = run(two, 60)
    assert_array_equal(returns, plain_returns)
    assert_allclose(regrets, plain_regrets, atol=1e-12)
    assert learner.switches == plain.switches
    assert learner.switches == 60 or switch == "determinant"
    assert_allclose(learner.tables.Q, plain.Q, rtol=1e-9, atol=1e-12)


def test_step_by_step_equals_compiled_blocks() -> None:
    mdp = small()
    blocks, steps = LSVIUCB(mdp), LSVIUCB(mdp)
    simulator = new_simulator(mdp, 1)
    k = 0
    while k < 300:
        k += len(blocks.play(simulator, k, starts(mdp, simulator, k, min(64, 300 - k))))
    interpreted = Rollout(mdp, StepsOnly(steps), 1)
    for _ in range(300):
        interpreted.advance(1)
    assert_array_equal(blocks.tables.Q, steps.tables.Q)
    assert_array_equal(blocks.tables.G, steps.tables.G)
    assert blocks.switches == steps.switches


class StepsOnly:
    """A learner without `play`."""

    name = "steps"

    def __init__(self, learner: Any) -> None:
        self.act, self.observe = learner.act, learner.observe
        self.end_episode, self.values = learner.end_episode, learner.values
        self.policy, self._learner = learner.policy, learner

    @property
    def switches(self) -> int:
        return int(self._learner.switches)


def test_the_first_plan_by_hand() -> None:
    # One state, two actions with one-hot features, lambda = 4, beta = 1: bonus 1/2, nothing else.
    mdp = tabular(EpisodicMDP.from_arrays([[[1.0], [1.0]]], [[0.25, 0.5]], horizon=2))
    learner = LSVIUCB(mdp, regulariser=4.0, beta=1.0)
    assert learner.value() == 2.0  # nothing planned yet: H
    assert [learner.act(0, 0), learner.act(1, 0)] == [1, 1]
    # No data: w = 0, so Q = r + 1/2 at both stages.
    assert_allclose(learner.tables.Q[:, 0], [[0.75, 1.0], [0.75, 1.0]])
    learner.observe(0, 0, 1, 0.5, 0)
    learner.observe(1, 0, 1, 0.5, 0)
    learner.end_episode()
    # det went from 16 to 20: no switch yet.
    learner.act(0, 0)
    assert learner.switches == 1
    for _ in range(4):
        learner.observe(0, 0, 1, 0.5, 0)
        learner.observe(1, 0, 1, 0.5, 0)
        learner.end_episode()
    learner.act(0, 0)
    # n = 5: stage 1: Q = .5 + 1/3 (cut at 1); stage 0: + w with b = 5 V_1 / 9.
    assert learner.switches == 2
    V1 = 0.5 + 1 / 3
    assert_allclose(learner.tables.Q[1, 0], [0.75, V1])
    assert_allclose(learner.tables.Q[0, 0], [0.75, 0.5 + 5 * V1 / 9 + 1 / 3])


def test_values_are_cut_at_the_stages_left() -> None:
    mdp = tabular(river_swim(H=5))
    learner = LSVIUCB(mdp, beta=100.0)
    learner.act(0, 0)
    assert_allclose(learner.tables.V[:, 0], [5, 4, 3, 2, 1, 0])


def test_frozen_between_switches_whose_number_is_bounded() -> None:
    mdp = small()
    learner = LSVIUCB(mdp, regulariser=0.1, beta=0.5)
    rollout = Rollout(mdp, learner, 0)
    K, Q, switches = 3000, None, 0
    while rollout.episodes < K:
        block = rollout.advance(50)
        if not block.switched:
            assert_array_equal(learner.tables.Q, Q)
        Q, switches = learner.tables.Q.copy(), learner.switches
    assert switches > 10
    # Every switch but the first doubled some determinant.
    assert switches <= 1 + (learner.ridge.growth / np.log(2)).sum()
    assert (learner.ridge.growth <= mdp.d * np.log(1 + K / (mdp.d * 0.1)) + 1e-9).all()
    assert np.all(learner.ridge.potential <= 2 * learner.ridge.growth)


def test_it_learns_river_swim() -> None:
    mdp = tabular(river_swim())
    learner = LSVIUCB(mdp)
    _, regrets, _ = run(Rollout(mdp, learner, 0), 5000)
    best = optimal(mdp).V[0, 0]
    assert regrets[:10].mean() > 0.5 * best
    assert regrets[-1000:].mean() < 0.02 * best


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"regulariser": -1.0}, "regulariser"),
        ({"beta": -0.1}, "beta"),
        ({"beta": float("inf")}, "beta"),
        ({"switch": "never"}, "determinant or episode"),
        ({"reward": "guess"}, "known or estimate"),
    ],
)
def test_bad_input(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LSVIUCB(small(), **arguments)
    with pytest.raises(ValueError, match=r"tabular\(mdp\)"):
        LSVIUCB(river_swim())  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [LSVIUCB, LSVIUCBPlus, UCBVI])
@pytest.mark.parametrize(
    ("step", "message"),
    [
        ((4, 0, 0, 0.0, 0), "stage 4 does not exist: they are 0..3"),  # counted from 1
        ((0, -1, 0, 0.0, 0), "state -1"),
        ((0, 6, 0, 0.0, 0), "state 6"),
        ((0, 0, 3, 0.0, 0), "action 3"),
        ((0, 0, 0, 0.0, 600), "next state 600"),
    ],
)
def test_a_step_that_does_not_exist_is_refused(make: Any, step: Any, message: str) -> None:
    # Compiled code looks at no bounds: it would write into memory that is not the learner's.
    learner = make(small())
    learner.act(0, 0)
    with pytest.raises(ValueError, match=message):
        learner.observe(*step)


def test_planning_before_every_episode_does_not_depend_on_the_determinant() -> None:
    mdp = small()
    learner = LSVIUCB(mdp, switch="episode")
    learner.prepare()
    learner.end_episode()
    learner.ridge.growth[:] -= 1e-12  # as when it is computed anew from Sigma
    assert learner.prepare()


def test_a_state_of_another_learner_is_refused() -> None:
    for one, two in ((LSVIUCB, LSVIUCBPlus), (LSVIUCBPlus, LSVIUCB)):
        with pytest.raises(ValueError, match="the settings of the run that wrote it"):
            one(small()).load_state_dict(two(small()).state_dict())  # type: ignore[operator]


def test_a_state_of_other_sizes_is_refused() -> None:
    learner = LSVIUCB(small())
    with pytest.raises(ValueError, match="shape"):
        LSVIUCB(tabular(river_swim())).load_state_dict(learner.state_dict())
