"""Closed forms of the instances on which risk matters."""

from __future__ import annotations

import numpy as np
import pytest

from thrifty.episodic import evaluate, occupancy, optimal
from thrifty.episodic.cvar import iterated_cvar
from thrifty.episodic.lava_grid import LavaGrid
from thrifty.episodic.linear_mixture import LinearMixtureMDP, one_hot, random_mixture
from thrifty.episodic.risk_instances import (
    hard_chain,
    hard_chain_value,
    inventory,
    linear_hard_chain,
    two_door,
    two_door_switch,
)


@pytest.mark.parametrize(
    ("n", "horizon", "level", "gap"),
    [(4, 12, 0.3, 0.02), (2, 8, 0.2, 0.02), (3, 6, 0.25, 0.05), (5, 20, 0.1, 0.0)],
)
def test_hard_chain(n: int, horizon: int, level: float, gap: float) -> None:
    mdp = hard_chain(n=n, horizon=horizon, risk_level=level, gap=gap)
    plan = optimal(mdp, iterated_cvar(level))
    assert plan.V[0, 0] == pytest.approx(hard_chain_value(n, horizon, level, gap), abs=1e-12)
    # A wrong action in s_n, reached at stage n (index n - 1), loses .6 L gap / alpha.
    loss = plan.Q[n - 1, n - 1, 0] - plan.Q[n - 1, n - 1, 1]
    assert loss == pytest.approx(0.6 * (horizon - n) * gap / level, abs=1e-12)


def test_hard_chain_known_values() -> None:
    assert hard_chain_value(2, 8, 0.2, 0.02) == pytest.approx(1.4)  # .2 * 7: s_n does not matter
    assert hard_chain_value(4, 12, 0.3, 0.02) == pytest.approx(1.92)  # 8 * (.2 + .04)


def test_linear_hard_chain() -> None:
    signs = np.array([1, -1, -1])
    mdp = linear_hard_chain(n=3, horizon=6, risk_level=0.3, gap=0.01, signs=signs)
    assert (mdp.A, mdp.d) == (8, 4)
    plan = optimal(mdp, iterated_cvar(0.3))
    # Best action: a = m, the sixth of the product order (1, -1, -1) = index 4.
    assert plan.policy[2, 2] == 4
    assert plan.V[0, 0] == pytest.approx(hard_chain_value(3, 6, 0.3, 0.06), abs=1e-12)
    # The action (-1, -1, -1) has one wrong sign, (-1, 1, 1) three: 1.2 L gap / alpha each, L = 3.
    each = 1.2 * 3 * 0.01 / 0.3
    losses = plan.V[2, 2] - plan.Q[2, 2]
    assert losses[0] == pytest.approx(each, abs=1e-12)
    assert losses[3] == pytest.approx(3 * each, abs=1e-12)


@pytest.mark.parametrize(("safe", "failure"), [(0.6, 0.1), (0.2, 0.4), (0.9, 0.05)])
def test_two_door_switches_exactly_there(safe: float, failure: float) -> None:
    mdp, switch = two_door(safe=safe, failure=failure), two_door_switch(safe, failure)
    assert optimal(mdp, iterated_cvar(switch * (1 - 1e-6))).policy[0, 0] == 0
    assert optimal(mdp, iterated_cvar(switch * (1 + 1e-6))).policy[0, 0] == 1
    at = optimal(mdp, iterated_cvar(switch)).Q[0, 0]
    assert at[0] == pytest.approx(at[1], abs=1e-12)


@pytest.mark.parametrize("level", [1.0, 0.5, 0.26, 0.2, 0.1, 0.01, 0.001])
def test_lava_grid_value(level: float) -> None:
    for grid in (LavaGrid(), LavaGrid(width=4, height=4, horizon=12, slip=0.05)):
        plan = optimal(grid.mdp(), iterated_cvar(level))
        assert plan.V[0, 0] == pytest.approx(grid.optimal_value(level), abs=1e-12)


def test_lava_grid_path_flips_at_the_switch() -> None:
    grid = LavaGrid()
    mdp = grid.mdp()
    rim = [s for s in range(mdp.S) if grid.is_rim(s)]
    for level, near in ((grid.switch * 1.001, True), (grid.switch * 0.999, False)):
        policy = optimal(mdp, iterated_cvar(level)).policy
        visited = occupancy(mdp, policy).sum((0, 2))[rim].sum() > 0.0
        assert visited == near
    picture = grid.picture(occupancy(mdp, optimal(mdp).policy).sum((0, 2)))
    assert picture.splitlines() == [". . . . . .", "o o o o o o", "S # # # # G"]


def test_inventory_holds_more_as_risk_counts_more() -> None:
    mdp = inventory()
    held = []
    for level in (1.0, 0.2, 0.05):
        policy = optimal(mdp, iterated_cvar(level)).policy
        stock = np.arange(9)
        after = np.minimum(stock + policy[:, :9], 8)
        held.append(int((after[:, 2:4] >= 4).sum()))
    assert held == sorted(held)
    assert held[0] < held[-1]
    # Without a rush nothing is worth its holding cost: one never orders.
    calm = optimal(inventory(shock=0.0)).policy
    assert not calm[:, :9].any()


def test_mixture_norms_and_kernel() -> None:
    mdp = random_mixture(np.random.default_rng(0))
    assert (mdp.H, mdp.S, mdp.A, mdp.d) == (5, 12, 4, 5)
    np.testing.assert_allclose(mdp.phi @ mdp.theta[0], mdp.P[0], atol=1e-15)
    f = np.random.default_rng(1).random(12)
    psi = np.einsum("satd,t->sad", mdp.phi, f)
    assert np.linalg.norm(psi, axis=-1).max() <= 1.0
    # Two different horizons of kernels: weights per stage.
    kernels = np.moveaxis(mdp.phi, -1, 0) * np.sqrt(5)
    weights = np.random.default_rng(2).dirichlet(np.ones(5), 5)
    per_stage = LinearMixtureMDP.from_kernels(kernels, weights, mdp.r)
    np.testing.assert_allclose(per_stage.P[3], np.tensordot(weights[3], kernels, 1), atol=1e-12)


def test_one_hot_is_the_same_mdp() -> None:
    mdp = two_door()
    mixture = one_hot(mdp)
    np.testing.assert_allclose(mixture.P, mdp.P, atol=1e-15)
    policy = optimal(mdp).policy
    np.testing.assert_allclose(evaluate(mixture, policy), evaluate(mdp, policy), atol=1e-12)


def test_bad_input() -> None:
    phi = np.ones((1, 1, 1, 1))
    with pytest.raises(ValueError, match="P sums to"):
        LinearMixtureMDP.from_parts(phi, [0.5], [[0.0]], horizon=2)
    with pytest.raises(ValueError, match="divide phi"):
        LinearMixtureMDP.from_parts(2 * phi, [0.5], [[0.0]], horizon=2)
    with pytest.raises(ValueError, match="theta at stage 0 has norm"):
        LinearMixtureMDP.from_parts(phi / 2, [2.0], [[0.0]], horizon=2)
    with pytest.raises(ValueError, match="weights of the kernels"):
        LinearMixtureMDP.from_kernels(np.ones((2, 1, 1, 1)), [0.5, 0.6], [[0.0]], horizon=2)
    with pytest.raises(ValueError, match="risk_level <= 1/3"):
        hard_chain(risk_level=0.5)
    with pytest.raises(ValueError, match="dimension"):
        linear_hard_chain(dimension=1)
    with pytest.raises(ValueError, match="signs"):
        linear_hard_chain(signs=np.array([1, 0, 1]))
    with pytest.raises(ValueError, match="safe"):
        two_door(safe=1.0)
    with pytest.raises(ValueError, match="rush"):
        inventory(capacity=3)
    with pytest.raises(ValueError, match="shock"):
        inventory(shock=1.5)
    with pytest.raises(ValueError, match="horizon"):
        LavaGrid(horizon=9)
    with pytest.raises(ValueError, match="branching"):
        random_mixture(np.random.default_rng(0), branching=13)


def test_a_random_mdp_often_has_one_best_policy_for_all_levels() -> None:
    # Why the other instances are designed: of ten random mixtures, the risk-neutral policy is also
    # the best one at level .1 in at least half of the cases.
    same = 0
    for seed in range(10):
        mdp = random_mixture(np.random.default_rng(seed))
        operator = iterated_cvar(0.1)
        neutral = evaluate(mdp, optimal(mdp).policy, operator)[0, 0]
        same += bool(neutral >= optimal(mdp, operator).V[0, 0] - 1e-9)
    assert 5 <= same <= 10
