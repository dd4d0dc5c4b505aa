"""The plain implementation by hand, and the learners that must equal it on one-hot features."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from plain_ucbvi import PlainUCBVI

from thrifty.episodic import EpisodicMDP, LinearMDP, tabular
from thrifty.episodic.instances import deep_sea, river_swim
from thrifty.episodic.lsvi_ucb import LSVIUCB
from thrifty.episodic.rollout import Rollout
from thrifty.episodic.ucbvi import UCBVI


def test_plain_ucbvi_by_hand() -> None:
    # One stage-homogeneous state with two actions of rewards .25 and .5, two stages, beta = .1.
    mdp = EpisodicMDP.from_arrays([[[1.0], [1.0]]], [[0.25, 0.5]], horizon=2)
    plain = PlainUCBVI(mdp, beta=0.1, prior=1.0, switch="visits")
    # Nothing seen: means 0, bonus .1 / sqrt(1), so Q = .35 and .6 at both stages.
    assert [plain.act(0, 0), plain.act(1, 0)] == [1, 1]
    assert_allclose(plain.table()[:, 0], [[0.35, 0.6], [0.35, 0.6]])
    for h in (0, 1):
        plain.observe(h, 0, 1, 0.5, 0)
    # One visit of action 1: Q_1 = .5 + .1 / sqrt(2); Q_0 = .5 + V_1 / 2 + .1 / sqrt(2).
    assert plain.act(0, 0) == 1
    bonus = 0.1 / math.sqrt(2)
    V_1 = 0.5 + bonus
    assert_allclose(plain.table()[:, 0], [[0.35, 0.5 + V_1 / 2 + bonus], [0.35, V_1]])
    # The second visit doubles the first; the third does not.
    planned = []
    for _ in range(4):
        planned.append(plain.switches)
        plain.observe(0, 0, 1, 0.5, 0)
        plain.act(0, 0)
    assert planned == [2, 3, 3, 4]


def test_unvisited_pairs_are_worth_what_is_left() -> None:
    mdp = EpisodicMDP.from_arrays([[[1.0], [1.0]]], [[0.25, 0.5]], horizon=2)
    plain = PlainUCBVI(mdp, beta=0.1, prior=0.0, switch="episode")
    assert plain.act(0, 0) == 0  # the first of equals
    assert_array_equal(plain.table()[:, 0], [[2.0, 2.0], [1.0, 1.0]])


MDPS = {
    "river_swim": tabular(river_swim(S=4, H=6)),
    "deep_sea": tabular(deep_sea(5, np.random.default_rng(0))),
    "random": tabular(
        EpisodicMDP.from_arrays(
            np.random.default_rng(1).dirichlet(np.ones(5), size=(4, 5, 3)),
            np.random.default_rng(2).random((4, 5, 3)),
            initial=np.full(5, 0.2),
        )
    ),
}


def played(mdp: LinearMDP, learner: Any, K: int) -> tuple[Any, Any]:
    """Regrets and optimistic values of K episodes."""
    rollout = Rollout(mdp, learner, seed=7)
    regrets: list[float] = []
    while rollout.episodes < K:
        block = rollout.advance(K - rollout.episodes)
        assert block.regrets is not None
        regrets += block.regrets.tolist()
    return np.array(regrets), learner.values()


@pytest.mark.parametrize("name", MDPS)
@pytest.mark.parametrize("switch", ["determinant", "episode"])
def test_lsvi_on_one_hot_features_counts(name: str, switch: Any) -> None:
    mdp, K = MDPS[name], 400
    plain = PlainUCBVI(mdp, beta=0.7, prior=0.37, switch=switch)
    learner = LSVIUCB(mdp, regulariser=0.37, beta=0.7, switch=switch)
    expected, found = played(mdp, plain, K), played(mdp, learner, K)
    assert_array_equal(found[0], expected[0])
    assert_allclose(found[1], expected[1], rtol=0, atol=1e-12)
    assert learner.switches == plain.switches
    assert_allclose(learner.tables.Q, plain.table(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MDPS)
@pytest.mark.parametrize("switch", ["determinant", "episode"])
def test_ucbvi_counts(name: str, switch: Any) -> None:
    mdp, K = MDPS[name], 400
    rule = "visits" if switch == "determinant" else switch
    plain = PlainUCBVI(mdp, beta=0.7, prior=0.0, switch=rule, monotone=True)
    learner = UCBVI(mdp, beta=0.7, switch=switch)
    expected, found = played(mdp, plain, K), played(mdp, learner, K)
    assert_array_equal(found[0], expected[0])
    assert_allclose(found[1], expected[1], rtol=0, atol=1e-12)
    assert learner.switches == plain.switches
    assert_allclose(learner.tables.Q, plain.table(), rtol=0, atol=1e-12)
