"""ICVaR-L against exact planners, brute force over levels, and plain value-targeted regression."""

from __future__ import annotations

import numpy as np
import pytest

from thrifty.episodic import evaluate, optimal
from thrifty.episodic.cvar import cvar_primal, iterated_cvar
from thrifty.episodic.icvar_l import ICVaRL, Knots, theory_beta
from thrifty.episodic.lava_grid import LavaGrid
from thrifty.episodic.linear_mixture import LinearMixtureMDP, one_hot, random_mixture
from thrifty.episodic.risk_instances import linear_hard_chain, two_door
from thrifty.episodic.simulator import new_simulator, next_state, starts


def mixture(seed: int = 0, **sizes: int) -> LinearMixtureMDP:
    return random_mixture(np.random.default_rng(seed), **sizes)


def play(learner: ICVaRL, episodes: int, seed: int = 0, first: int = 0) -> None:
    simulator = new_simulator(learner.mdp, seed)
    while first < episodes:
        states = starts(learner.mdp, simulator, first, episodes - first)
        first += len(learner.play(simulator, first, states))


@pytest.mark.parametrize("level", [1.0, 0.5, 0.1, 0.001])
@pytest.mark.parametrize("knots", ["values", "values+horizon"])
def test_without_bonus_and_with_the_true_parameters_it_is_the_exact_planner(
    level: float, knots: Knots
) -> None:
    # Knots, prefix sums and clipping all have to be right for this.
    for mdp in (
        mixture(),
        mixture(1, states=7, branching=7),
        LavaGrid().mdp(),
        one_hot(two_door()),
    ):
        learner = ICVaRL(mdp, risk_level=level, beta=0.0, knots=knots)
        learner.plan(mdp.theta)
        exact = optimal(mdp, iterated_cvar(level))
        np.testing.assert_allclose(learner.tables.V, exact.V, atol=1e-12)
        np.testing.assert_allclose(learner.tables.Q, exact.Q, atol=1e-12)


def test_it_is_the_exact_planner_for_signed_features_too() -> None:
    mdp = linear_hard_chain(signs=np.array([1, -1, 1]))
    learner = ICVaRL(mdp, risk_level=0.3, beta=0.0)
    learner.plan(mdp.theta)
    np.testing.assert_allclose(learner.tables.V, optimal(mdp, iterated_cvar(0.3)).V, atol=1e-12)


@pytest.mark.parametrize("spacing", [0.05, 0.3])
def test_the_net_is_optimistic_by_at_most_its_spacing_per_stage(spacing: float) -> None:
    mdp = mixture()
    learner = ICVaRL(mdp, risk_level=0.3, beta=0.0, knots="net", spacing=spacing)
    learner.plan(mdp.theta)
    V = learner.tables.V
    for h in range(mdp.H):  # one stage at a time, for its own next values
        exact = mdp.r[h] + cvar_primal(V[h + 1], mdp.P[h], 0.3)
        over = learner.tables.Q[h] - exact
        assert (over >= -1e-12).all()
        assert (over <= spacing + 1e-12).all()


def test_knots_beat_any_grid() -> None:
    # With norms from data, and parameters that make signed measures: no grid of levels up to the
    # greatest value finds a larger estimate or a larger norm than the values alone.
    mdp = mixture(3)
    learner = ICVaRL(mdp, risk_level=0.2, beta=0.3)
    play(learner, 50)
    theta = learner.theta() * np.array([1.0, -1.0, 1.0, 1.0, 1.0])
    learner.plan(theta)
    tables, signed = learner.tables, False
    for h in range(mdp.H - 1):
        V = tables.V[h + 1]
        signed |= bool((mdp.phi @ theta[h] < -1e-6).any())

        def psi(x: np.ndarray, V: np.ndarray = V) -> np.ndarray:
            return np.einsum("xt,satd->xsad", np.maximum(x[:, None] - V, 0.0), mdp.phi)

        def values(x: np.ndarray, h: int = h) -> np.ndarray:
            return x[:, None, None] - psi(x) @ theta[h] / 0.2

        def norms(x: np.ndarray, h: int = h) -> np.ndarray:
            at = psi(x)
            return np.sqrt(np.einsum("xsai,ij,xsaj->xsa", at, learner.ridge.inverse[h], at))

        grid, knots = np.linspace(V.min(), V.max(), 500), np.unique(V)
        assert (values(grid).max(0) <= values(knots).max(0) + 1e-9).all()
        assert (norms(grid).max(0) <= norms(knots).max(0) + 1e-9).all()
        # The tables hold just these maxima: the level, psi there, and the clipped sum.
        at = psi(tables.level[h].ravel())
        rows = np.arange(mdp.S * mdp.A)
        chosen = at[rows, rows // mdp.A, rows % mdp.A].reshape(mdp.S, mdp.A, -1)
        np.testing.assert_allclose(tables.X[h], chosen, atol=1e-12)
        bonus = 0.3 / 0.2 * norms(knots).max(0)
        total = np.clip(values(knots).max(0) + bonus, V.min(), V.max())
        np.testing.assert_allclose(tables.Q[h], mdp.r[h] + total, atol=1e-9)
    assert signed, "the case meant here did not arise"


def test_at_level_one_with_the_knot_horizon_it_is_value_targeted_regression() -> None:
    # The same episodes, regressed plainly: features psi_{H - V}, targets H - V(s'), ridge lambda.
    mdp = mixture(2)
    learner = ICVaRL(
        mdp, risk_level=1.0, beta=0.3, regulariser=1.0, knots="horizon", switch="episode"
    )
    rng = np.random.default_rng(5)
    d = mdp.d
    Lambda, b = np.tile(np.eye(d), (mdp.H, 1, 1)), np.zeros((mdp.H, d))
    for _ in range(40):
        s = 0
        for h in range(mdp.H):
            a = learner.act(h, s)
            f = mdp.H - learner.tables.V[h + 1]
            feature = f @ mdp.phi[s, a]
            _, s_next = mdp.step(h, s, a, rng)
            Lambda[h] += np.outer(feature, feature)
            b[h] += feature * f[s_next]
            learner.observe(h, s, a, 0.0, s_next)
            s = s_next
        learner.end_episode()
    expected = np.linalg.solve(Lambda, b[..., None])[..., 0]
    np.testing.assert_allclose(learner.theta(), expected, atol=1e-9)


@pytest.mark.parametrize("level", [1.0, 0.5, 0.2])
def test_theory_mode_is_optimistic_in_these_runs(level: float) -> None:
    for seed in range(4):
        mdp = mixture(seed)
        beta = theory_beta(horizon=5, dimension=5, episodes=300, regulariser=1.0, delta=0.1)
        learner = ICVaRL(mdp, risk_level=level, beta=beta, regulariser=1.0)
        star = optimal(mdp, iterated_cvar(level)).V
        simulator, first = new_simulator(mdp, seed), 0
        while first < 300:
            first += len(learner.play(simulator, first, np.zeros(300 - first, dtype=np.int64)))
            assert (learner.tables.V - star >= -1e-12).all()
            # The truth is in every ellipsoid.
            error = learner.theta() - mdp.theta
            inside = np.einsum("hi,hij,hj->h", error, learner.ridge.matrix, error)
            assert (inside <= beta**2).all()


def test_elliptical_potential_and_number_of_plans() -> None:
    learner = ICVaRL(mixture(), risk_level=0.25)
    play(learner, 2000)
    growth = learner.ridge.growth
    assert (learner.ridge.potential <= 2.0 * growth + 1e-9).all()
    # Every plan but the first follows a doubling of one of the determinants.
    assert 1 < learner.switches <= 1 + growth.sum() / np.log(2.0)


@pytest.mark.parametrize("switch", ["determinant", "episode"])
def test_compiled_episodes_equal_the_protocol(switch: str) -> None:
    mdp = mixture(4)
    compiled = ICVaRL(mdp, risk_level=0.3, switch=switch)  # type: ignore[arg-type]
    stepwise = ICVaRL(mdp, risk_level=0.3, switch=switch)  # type: ignore[arg-type]
    play(compiled, 60)
    simulator = new_simulator(mdp, 0)
    for k in range(60):
        s = 0
        for h in range(mdp.H):
            a = stepwise.act(h, s)
            s_next = int(next_state(simulator, k, h, s, a))
            stepwise.observe(h, s, a, float(mdp.r[h, s, a]), s_next)
            s = s_next
        stepwise.end_episode()
    for name, array in compiled.tables._asdict().items():
        np.testing.assert_array_equal(array, getattr(stepwise.tables, name), err_msg=name)
    np.testing.assert_array_equal(compiled.ridge.inverse, stepwise.ridge.inverse)


def test_resume_is_bit_equal() -> None:
    mdp = mixture(4)
    whole, first, second = (ICVaRL(mdp, risk_level=0.3) for _ in range(3))
    play(whole, 500)
    play(first, 137)
    second.load_state_dict(first.state_dict())
    play(second, 500, first=137)
    for name, array in whole.tables._asdict().items():
        np.testing.assert_array_equal(array, getattr(second.tables, name), err_msg=name)
    assert whole.switches == second.switches


@pytest.mark.parametrize("level", [1.0, 0.3])
def test_it_finds_the_best_policy(level: float) -> None:
    # Loose on purpose: after 20,000 episodes on these two instances nothing is lost any more.
    for mdp in (mixture(0), LavaGrid(slip=0.05).mdp()):
        learner = ICVaRL(mdp, risk_level=level)
        play(learner, 20_000)
        operator = iterated_cvar(level)
        best = optimal(mdp, operator).V[0, 0]
        assert evaluate(mdp, learner.policy(), operator)[0, 0] >= best - 0.02


def test_bad_input() -> None:
    mdp = mixture()
    with pytest.raises(ValueError, match="one_hot"):
        ICVaRL(two_door(), risk_level=0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="risk_level 0"):
        ICVaRL(mdp, risk_level=0.0)
    with pytest.raises(ValueError, match="beta"):
        ICVaRL(mdp, risk_level=0.5, beta=-1.0)
    with pytest.raises(ValueError, match="knots"):
        ICVaRL(mdp, risk_level=0.5, knots="grid")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="risk_level 1 only"):
        ICVaRL(mdp, risk_level=0.5, knots="horizon")
    with pytest.raises(ValueError, match="spacing"):
        ICVaRL(mdp, risk_level=0.5, knots="net", spacing=0.0)
    with pytest.raises(ValueError, match="switch"):
        ICVaRL(mdp, risk_level=0.5, switch="never")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="regulariser"):
        ICVaRL(mdp, risk_level=0.5, regulariser=0.0)
