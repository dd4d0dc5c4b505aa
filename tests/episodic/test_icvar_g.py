"""ICVaR-G on finite classes, and the ensemble that imitates it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from thrifty.episodic import EpisodicMDP, evaluate, optimal
from thrifty.episodic.cvar import cvar, iterated_cvar
from thrifty.episodic.icvar_g import ICVaRG, theory_gamma2
from thrifty.episodic.icvar_g_ensemble import EnsembleICVaR, SamplerEnsemble, SoftmaxEnsemble
from thrifty.episodic.icvar_l import ICVaRL
from thrifty.episodic.linear_mixture import random_mixture
from thrifty.episodic.risk_instances import two_door
from thrifty.episodic.simulator import new_simulator, next_state, starts

S, A, H = 6, 2, 4


def kernel_class(seed: int, members: int = 20) -> tuple[EpisodicMDP, np.ndarray]:
    """A class of random kernels, and an MDP whose kernel is number 3 of them."""
    rng = np.random.default_rng(seed)
    kernels = rng.dirichlet(np.full(S, 0.3), (members, S, A))
    return EpisodicMDP.from_arrays(kernels[3], rng.random((S, A)), horizon=H), kernels


def play(
    learner: ICVaRG | ICVaRL | EnsembleICVaR, episodes: int, seed: int = 0, k: int = 0
) -> None:
    simulator = new_simulator(learner.mdp, seed)
    while k < episodes:
        k += len(learner.play(simulator, k, starts(learner.mdp, simulator, k, episodes - k)))


@pytest.mark.parametrize("level", [1.0, 0.3, 0.001])
def test_a_class_of_one_has_no_regret_from_the_start(level: float) -> None:
    mdp, kernels = kernel_class(0)
    learner = ICVaRG(mdp, kernels[3:4], risk_level=level)
    learner.act(0, 0)
    exact = optimal(mdp, iterated_cvar(level))
    np.testing.assert_allclose(learner.tables.V, exact.V, atol=1e-12)
    np.testing.assert_array_equal(learner.policy(), exact.policy)


def test_plan_by_brute_force() -> None:
    # The best kernel of those that are active, and the widest disagreement, pair by pair.
    mdp, kernels = kernel_class(1)
    learner = ICVaRG(mdp, kernels, risk_level=0.3)
    learner.tables.active[:, ::2] = False
    learner.act(0, 0)
    tables, active = learner.tables, kernels[1::2]
    for h, s, a in itertools.product(range(H), range(S), range(A)):
        V = tables.V[h + 1]
        best = max(float(cvar(V, P[s, a], 0.3)) for P in active)
        assert tables.Q[h, s, a] == pytest.approx(mdp.r[h, s, a] + best, abs=1e-12)
        grid = np.append(np.unique(V), np.linspace(V.min(), V.max(), 200))
        shortfalls = np.maximum(grid[:, None] - V, 0.0) @ active[:, s, a].T
        spread = np.ptp(shortfalls, axis=1)
        at = tables.z[h, s, a][1::2]
        assert np.ptp(at) == pytest.approx(spread.max(), abs=1e-12)
        x = tables.level[h, s, a]
        np.testing.assert_allclose(
            tables.z[h, s, a], kernels[:, s, a] @ np.maximum(x - V, 0.0), atol=1e-12
        )


@pytest.mark.parametrize("level", [1.0, 0.3])
def test_the_truth_stays_active_and_the_plan_optimistic(level: float) -> None:
    # With the width of theory and delta = .2, 40 runs: the truth may be lost in at most about a
    # fifth; the bound is far from tight, and in fact it is lost in none of them.
    lost = 0
    for seed in range(40):
        mdp, kernels = kernel_class(seed)
        gamma2 = theory_gamma2(horizon=H, members=len(kernels), delta=0.2)
        learner = ICVaRG(mdp, kernels, risk_level=level, gamma2=gamma2)
        play(learner, 300, seed)
        kept = bool(learner.tables.active[:, 3].all())
        lost += not kept
        if kept:
            star = optimal(mdp, iterated_cvar(level)).V
            assert (learner.tables.V - star >= -1e-12).all()
    assert lost <= 8


def test_sets_shrink_and_the_policy_becomes_optimal() -> None:
    mdp, kernels = kernel_class(5)
    learner = ICVaRG(mdp, kernels, risk_level=0.3, gamma2=5.0)
    play(learner, 5000)
    # The last stage learns nothing: its next values are 0 whatever the kernel.
    assert learner.tables.active[-1].all()
    assert (learner.tables.active[:-1].sum(1) <= 5).all()
    operator = iterated_cvar(0.3)
    value, star = evaluate(mdp, learner.policy(), operator), optimal(mdp, operator).V
    assert value[0, 0] == pytest.approx(star[0, 0], abs=0.02)


def test_a_grid_of_mixtures_leads_where_the_linear_learner_leads() -> None:
    mdp = random_mixture(np.random.default_rng(3), states=6, actions=2, dimension=3, branching=2)
    base = np.moveaxis(mdp.phi, -1, 0) * np.sqrt(3.0)
    weights = [w for w in itertools.product(range(11), repeat=3) if sum(w) == 10]
    kernels = np.tensordot(np.array(weights) / 10.0, base, 1)
    general = ICVaRG(mdp, kernels, risk_level=0.4, gamma2=5.0)
    linear = ICVaRL(mdp, risk_level=0.4)
    operator = iterated_cvar(0.4)
    play(general, 5000)
    play(linear, 5000)
    values = [evaluate(mdp, learner.policy(), operator)[0, 0] for learner in (general, linear)]
    star = optimal(mdp, operator).V[0, 0]
    assert star > 0.1
    assert values == pytest.approx([star, star], abs=0.02)


def test_compiled_episodes_equal_the_protocol_and_resume() -> None:
    mdp, kernels = kernel_class(2)
    compiled, stepwise, half, rest = (
        ICVaRG(mdp, kernels, risk_level=0.5, gamma2=3.0) for _ in range(4)
    )
    play(compiled, 200)
    simulator = new_simulator(mdp, 0)
    for k in range(200):
        s = 0
        for h in range(H):
            a = stepwise.act(h, s)
            s_next = int(next_state(simulator, k, h, s, a))
            stepwise.observe(h, s, a, float(mdp.r[h, s, a]), s_next)
            s = s_next
        stepwise.end_episode()
    play(half, 61)
    rest.load_state_dict(half.state_dict())
    play(rest, 200, k=61)
    assert compiled.switches > 1
    for other in (stepwise, rest):
        assert other.switches == compiled.switches
        for name, array in compiled.tables._asdict().items():
            np.testing.assert_array_equal(array, getattr(other.tables, name), err_msg=name)


def softmax(mdp: EpisodicMDP, members: int = 8) -> SoftmaxEnsemble:
    features = np.eye(mdp.S * mdp.A).reshape(mdp.S, mdp.A, -1)
    return SoftmaxEnsemble(features, members=members, rng=np.random.default_rng(1))


def test_members_fit_the_frequencies_and_differ_where_nothing_was_seen() -> None:
    mdp, _ = kernel_class(0)
    ensemble, rng = softmax(mdp), np.random.default_rng(0)
    counts = np.zeros((S, A, S))
    counts[0, 0] = [700, 300, 0, 0, 0, 0]
    for _ in range(5):  # warm-started fits, the last four without news
        ensemble.fit(counts, rng)
        counts = np.zeros_like(counts)
    kernels = ensemble.kernels(rng)
    np.testing.assert_allclose(kernels.sum(-1), 1.0)
    # Bootstrapped frequencies of 1,000 draws scatter by about .015 around .7.
    assert np.abs(kernels[:, 0, 0, 0] - 0.7).max() < 0.08
    assert kernels[:, 1, 0].std(0).max() > 0.1


def test_softmax_ensemble_learns_and_resumes() -> None:
    mdp, _ = kernel_class(4)
    operator = iterated_cvar(0.3)
    whole, half, rest = (EnsembleICVaR(mdp, softmax(mdp), risk_level=0.3) for _ in range(3))
    play(whole, 3000)
    star = optimal(mdp, operator).V[0, 0]
    assert evaluate(mdp, whole.policy(), operator)[0, 0] >= star - 0.1
    play(half, 100)
    rest.load_state_dict(half.state_dict())
    play(rest, 3000, k=100)
    np.testing.assert_array_equal(whole.counts.Q, rest.counts.Q)


def test_samplers_as_members() -> None:
    # Two samplers, both right: with many draws the plan is close to the exact one.
    mdp = two_door(safe=0.6, failure=0.1)

    def sampler(s: int, a: int, count: int, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(4, count, p=mdp.P[0, s, a])

    ensemble = SamplerEnsemble([sampler, sampler], states=4, actions=2, draws=4000)
    learner = EnsembleICVaR(mdp, ensemble, risk_level=0.5, gap=None)
    learner.act(0, 0)
    # The risky door at level .5 is worth 1 - .1 / .5 = .8.
    assert learner.value() == pytest.approx(0.8, abs=0.03)


def test_bad_input() -> None:
    mdp, kernels = kernel_class(0)
    with pytest.raises(ValueError, match="kernels must be"):
        ICVaRG(mdp, kernels[0], risk_level=0.5)
    broken = kernels.copy()
    broken[4, 2, 1] *= 0.5
    with pytest.raises(ValueError, match="kernel 4 is no distribution at state 2, action 1"):
        ICVaRG(mdp, broken, risk_level=0.5)
    with pytest.raises(ValueError, match="gamma2"):
        ICVaRG(mdp, kernels, risk_level=0.5, gamma2=-1.0)
    with pytest.raises(ValueError, match="risk_level"):
        ICVaRG(mdp, kernels, risk_level=2.0)
    with pytest.raises(ValueError, match="members"):
        softmax(mdp, members=1)
    with pytest.raises(ValueError, match="sampler"):
        SamplerEnsemble([], states=2, actions=2)
    with pytest.raises(ValueError, match="gap"):
        EnsembleICVaR(mdp, softmax(mdp), risk_level=0.5, gap=-1.0)
