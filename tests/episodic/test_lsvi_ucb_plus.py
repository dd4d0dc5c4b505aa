"""LSVI-UCB+ against a plain implementation, against LSVI-UCB, and the laws that it keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from plain_lsvi import PlainLSVI

from thrifty.episodic import LinearMDP, optimal, tabular
from thrifty.episodic.instances import lottery, river_swim, simplex
from thrifty.episodic.lsvi_ucb import LSVIUCB
from thrifty.episodic.lsvi_ucb_plus import LSVIUCBPlus
from thrifty.episodic.rollout import Rollout
from thrifty.episodic.weighting import (
    constant_weighting,
    practical_weighting,
    theory_beta,
    theory_weighting,
)


def small(seed: int = 0) -> LinearMDP:
    return simplex(4, 6, 3, 4, np.random.default_rng(seed), initial=np.full(6, 1 / 6))


def run(rollout: Rollout, episodes: int) -> tuple[Any, Any]:
    returns, regrets = [], []
    while rollout.episodes < episodes:
        block = rollout.advance(episodes - rollout.episodes)
        assert block.regrets is not None
        returns += block.returns.tolist()
        regrets += block.regrets.tolist()
    return np.array(returns), np.array(regrets)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"monotone": False},
        {"switch": "episode", "gap": "over", "monotone": False},
        {"reward": "estimate", "beta_reward": 0.2},
    ],
    ids=["corrected", "not monotone", "icml", "estimated rewards"],
)
@pytest.mark.parametrize("constants", ["practical", "theory"])
def test_equals_the_plain_implementation(settings: dict[str, Any], constants: str) -> None:
    mdp = small()
    c = practical_weighting(4, 0.4, correction=0.05)
    regulariser = 0.05
    if constants == "theory":
        regulariser, c = theory_weighting(4, 4, 60, 0.01)
        # Else everything is cut off; all terms stay in force.
        c = c._replace(
            beta=0.1, beta_bar=0.2, beta_tilde=0.3, gap_scale=2.0, gap_cap=9.0, conservatism=30.0
        )
    learner = LSVIUCBPlus(mdp, regulariser=regulariser, weighting=c, **settings)
    plain = PlainLSVI(mdp, regulariser=regulariser, c=c, **settings)
    returns, regrets = run(Rollout(mdp, learner, 5), 50)
    plain_returns, plain_regrets = run(Rollout(mdp, plain, 5), 50)
    assert_array_equal(returns, plain_returns)
    assert_allclose(regrets, plain_regrets, atol=1e-12)
    assert learner.switches == plain.switches
    assert_allclose(learner.tables.Q, plain.Q, rtol=1e-8, atol=1e-10)
    assert_allclose(learner.tables.Q_pes, plain.Q_pes, rtol=1e-8, atol=1e-10)
    for h in range(mdp.H):
        assert_allclose(learner.ridge.matrix[h], plain.Sigma(h), rtol=1e-8, atol=1e-10)
    assert len(np.unique(learner.tables.Q)) > 20  # there was something to compare


@pytest.mark.parametrize("c", [4.0, 3.0])
@pytest.mark.parametrize("switch", ["determinant", "episode"])
def test_constant_weights_are_lsvi_ucb_in_other_units(c: float, switch: Any) -> None:
    # c Sigma = c lambda I + sum phi phi' = Lambda, and |phi|_Sigma^-1 = sqrt(c) |phi|_Lambda^-1.
    mdp, K = small(1), 500
    weighted = LSVIUCBPlus(
        mdp, regulariser=0.1, weighting=constant_weighting(0.3, c), monotone=False, switch=switch,
        refactor_every=100,
    )  # fmt: skip
    unweighted = LSVIUCB(
        mdp, regulariser=c * 0.1, beta=np.sqrt(c) * 0.3, switch=switch, refactor_every=100
    )
    returns, regrets = run(Rollout(mdp, weighted, 2), K)
    plain_returns, plain_regrets = run(Rollout(mdp, unweighted, 2), K)
    assert_array_equal(returns, plain_returns)
    assert_array_equal(regrets, plain_regrets)
    assert weighted.switches == unweighted.switches
    if c == 4.0:  # powers of two round nothing
        assert_array_equal(weighted.tables.Q, unweighted.tables.Q)
        assert_array_equal(weighted.ridge.growth, unweighted.ridge.growth)
        assert_array_equal(weighted.ridge.inverse, 4.0 * unweighted.ridge.inverse)
    else:
        assert_allclose(weighted.tables.Q, unweighted.tables.Q, rtol=0, atol=1e-9)


def test_the_constants_of_the_theory() -> None:
    # L = log(1 + d H K / (delta lambda)) = log(1 + 4*5*1e5 / (.01/25)) = log(5e9 + 1) = 22.3327;
    # beta = 5 sqrt(4/25) + 2 L = 46.665; beta_bar = 2 + 8*5 L = 895.31;
    # beta_tilde = 25 sqrt(4/25) + 8*25 L = 4476.5.
    regulariser, c = theory_weighting(4, 5, 100_000, 0.01)
    assert regulariser == 0.04
    assert_allclose([c.beta, c.beta_bar, c.beta_tilde], [46.665, 895.31, 4476.5], rtol=1e-4)
    assert [round(c.beta, 1), round(c.beta_bar), round(c.beta_tilde)] == [46.7, 895, 4477]
    assert c.gap_scale == 4 * 64 * 25  # 4 d^3 H^2
    assert c.gap_cap == 64 * 125  # d^3 H^3
    assert c.conservatism == 4 * 4096 * 625  # (2 d^3 H^2)^2
    assert c.floor == c.offset == 5


def test_values_are_monotone_and_in_order() -> None:
    mdp = small(2)
    c = practical_weighting(4, 1.0)
    learner = LSVIUCBPlus(mdp, regulariser=0.1, weighting=c)
    rollout = Rollout(mdp, learner, 0)
    Q, Q_pes, switched = learner.tables.Q.copy(), learner.tables.Q_pes.copy(), 0
    tops = np.arange(4, 0, -1.0)[:, None, None]
    while rollout.episodes < 2000:
        block = rollout.advance(100)
        now, now_pes = learner.tables.Q, learner.tables.Q_pes
        assert np.all(now <= Q)
        assert np.all(now_pes >= Q_pes)
        if not block.switched:
            assert_array_equal(now, Q)
            assert_array_equal(now_pes, Q_pes)
        assert np.all(now_pes <= now + 1e-12)
        assert np.all((now >= 0) & (now <= tops))
        switched += block.switched
        Q, Q_pes = now.copy(), now_pes.copy()
    assert switched > 10
    growth = learner.ridge.growth
    assert learner.switches <= 1 + (growth / np.log(2)).sum()
    # Sigma <= (lambda + K / floor) I in trace: the bound that does not look at the data.
    bound = mdp.d * np.log(1 + 2000 / (mdp.d * 0.1 * c.floor))
    assert np.all(growth <= bound)
    assert np.all(learner.ridge.potential <= 2 * growth)


@pytest.mark.parametrize("seed", range(3))
def test_theory_is_optimistic_and_pessimistic_in_these_runs(seed: int) -> None:
    mdp = small(seed)
    regulariser, c = theory_weighting(mdp.d, mdp.H, 300, 0.01)
    learner = LSVIUCBPlus(mdp, regulariser=regulariser, weighting=c)
    V_star = optimal(mdp).V
    rollout = Rollout(mdp, learner, seed)
    while rollout.episodes < 300:
        rollout.advance(10)
        assert np.all(learner.tables.values[:, 0] >= V_star - 1e-12)
        assert np.all(learner.tables.values[:, 1] <= V_star + 1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_moderate_constants_are_optimistic_in_these_runs(seed: int) -> None:
    # Theory mode keeps all values at their cuts; these constants let them move, and still no value
    # falls below the best one or a pessimistic one above it, at any time of these runs.
    mdp = small(seed)
    c = practical_weighting(mdp.H, 3.0, correction=0.2, floor=1.0)
    learner = LSVIUCBPlus(mdp, regulariser=0.25, weighting=c)
    V_star = optimal(mdp).V
    rollout = Rollout(mdp, learner, seed)
    while rollout.episodes < 5000:
        rollout.advance(1000)
        assert np.all(learner.tables.values[:, 0] >= V_star - 1e-12)
        assert np.all(learner.tables.values[:, 1] <= V_star + 1e-12)
    assert learner.values().max() < mdp.H - 0.1  # not cut any more


def test_the_variance_is_estimated() -> None:
    # On the lottery, after a while, Vhat at the pure arms is near the exact variance.
    mdp = lottery(4, 5, np.random.default_rng(0))
    learner = LSVIUCBPlus(mdp, weighting=practical_weighting(5, 1.0, correction=0.0))
    run(Rollout(mdp, learner, 0), 5000)
    tables, V = learner.tables, learner.tables.values[1, 0]
    arms = np.argsort(mdp.phi[0].max(axis=1))[::-1][:4]
    estimated, exact = [], []
    for a in arms:
        x = learner.ridge.inverse[0] @ mdp.phi[0, a]
        estimated.append(x @ tables.b[0, 2] - (x @ tables.b[0, 0]) ** 2)
        P = mdp.P[0, 0, a]
        exact.append(P @ V**2 - (P @ V) ** 2)
    visits = [1 / (mdp.phi[0, a] @ learner.ridge.inverse[0] @ mdp.phi[0, a]) for a in arms]
    often = int(np.argmax(visits))
    assert exact[often] > 1.0  # a lottery: .24 * 4^2 = 3.84
    assert_allclose(estimated[often], exact[often], rtol=0.1)


def test_it_learns_river_swim() -> None:
    mdp = tabular(river_swim())
    learner = LSVIUCBPlus(mdp)
    _, regrets = run(Rollout(mdp, learner, 0), 5000)
    assert regrets[-1000:].mean() < 0.05 * optimal(mdp).V[0, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: practical_weighting(4, -1.0), "beta"),
        (lambda: practical_weighting(4, 1.0, floor=0.0), "floor"),
        (lambda: practical_weighting(4, 1.0, correction=-1.0), "correction"),
        (lambda: theory_weighting(4, 5, 10, 1.0), "delta"),
        (lambda: LSVIUCBPlus(small(), gap="wide"), "pessimistic or over"),  # type: ignore[arg-type]
        (lambda: LSVIUCBPlus(small(), regulariser=0.0), "regulariser"),
        (lambda: LSVIUCBPlus(small(), reward="estimate", beta_reward=-1.0), "beta_reward"),
        (lambda: LSVIUCBPlus(small(), reward="estimate", beta_reward=np.nan), "beta_reward"),
        (lambda: LSVIUCBPlus(small(), weighting=0.3), "practical_weighting"),  # type: ignore[arg-type]
        (
            lambda: LSVIUCBPlus(small(), weighting=practical_weighting(4, 1.0)._replace(floor=0.0)),
            "floor must be positive",
        ),
        (lambda: theory_weighting(4, 5, 0, 0.01), "number of episodes"),
        (lambda: theory_weighting(4, 0, 10, 0.01), "H must be a whole number"),
        (lambda: practical_weighting(0, 1.0), "H must be a whole number"),
        (lambda: theory_beta(4, 5, -10, 0.01), "number of episodes"),
    ],
)
def test_bad_input(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
