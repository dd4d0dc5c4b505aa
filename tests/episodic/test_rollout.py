from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from thrifty.episodic import (
    LSVIUCB,
    EpisodicMDP,
    LatentMDP,
    evaluate,
    optimal,
    run_episodes,
    tabular,
)
from thrifty.episodic.feature_learner import FeatureLSVI
from thrifty.episodic.icvar_rm import ICVaRRM
from thrifty.episodic.instances import river_swim, simplex
from thrifty.episodic.max_wp import MaxWP
from thrifty.episodic.rollout import JudgedRun, Rollout
from thrifty.episodic.simulator import new_simulator, next_state, starts, uniform
from thrifty.episodic.ucbvi import UCBVI, theory_beta


def test_uniform_numbers_are_uniform_and_functions_of_their_place() -> None:
    key = new_simulator(river_swim(), 0).key
    numbers = np.array([uniform(key, k, h, 20) for k in range(2000) for h in range(21)])
    assert len(np.unique(numbers)) == numbers.size
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0
    # 42,000 numbers: the mean has deviation .289 / 205 = .0014, a tenth holds 4200 +- 61.
    assert abs(numbers.mean() - 0.5) < 0.006
    assert np.abs(np.histogram(numbers, 10, (0, 1))[0] - 4200).max() < 270
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.02
    assert uniform(key, 7, 3, 20) == numbers[7 * 21 + 3]


def test_splitmix_by_its_published_first_number() -> None:
    # SplitMix64 of state 0 begins with 0xE220A8397B1DCDAF; ours is its upper 53 bits over 2^53.
    assert uniform(np.uint64(0), 0, 0, 5) == (0xE220A8397B1DCDAF >> 11) / 2**53


def test_next_states_have_the_right_frequencies() -> None:
    mdp = river_swim()
    simulator = new_simulator(mdp, 3)
    drawn = np.bincount([next_state(simulator, k, 4, 2, 1) for k in range(20_000)], minlength=6)
    # P = .05, .6, .35 to states 1, 2, 3: deviations of at most sqrt(.24 / 20000) = .0035.
    assert_allclose(drawn / 20_000, [0, 0.05, 0.6, 0.35, 0, 0], atol=0.015)
    assert drawn[[0, 4, 5]].sum() == 0


@pytest.mark.parametrize("initial", [2, [0, 3], np.array([0.5, 0.0, 0.0, 0.5, 0.0, 0.0])])
def test_first_states(initial) -> None:
    swim = river_swim()
    mdp = EpisodicMDP.from_arrays(swim.P, swim.r, initial=initial)
    simulator = new_simulator(mdp, 0)
    all_at_once = starts(mdp, simulator, 0, 100)
    in_two = np.concatenate([starts(mdp, simulator, 0, 37), starts(mdp, simulator, 37, 63)])
    assert_array_equal(all_at_once, in_two)
    assert_allclose(
        np.bincount(all_at_once, minlength=6) / 100, mdp.initial_distribution, atol=0.15
    )


def test_regret_is_exact_and_of_the_policy_that_played() -> None:
    mdp = simplex(4, 6, 3, 4, np.random.default_rng(0), initial=np.full(6, 1 / 6))
    learner = LSVIUCB(mdp, switch="episode")
    rollout = Rollout(mdp, learner, 0)
    best = optimal(mdp).V[0]
    for k in range(50):
        block = rollout.advance(100)
        assert len(block.returns) == 1  # a new plan before every episode
        s = starts(mdp, new_simulator(mdp, 0), k, 1)[0]
        gap = best[s] - evaluate(mdp, learner.policy())[0, s]
        assert_allclose(block.regrets, [gap], atol=1e-12)
        assert block.values.tolist() == [learner.values()[s]]


def test_an_adversary_may_choose_first_states() -> None:
    swim = river_swim(H=6)
    mdp = EpisodicMDP.from_arrays(swim.P, swim.r, initial=lambda k: 5 if k % 3 == 0 else 0)
    run = run_episodes(mdp, UCBVI(mdp), 30, 0, progress=False)
    assert run.returns[0] > 0.0  # began where the reward is
    assert run.regret is not None
    assert np.all(np.diff(run.regret) >= 0)


def test_run_episodes_is_reproducible_and_resumable() -> None:
    mdp = tabular(river_swim(H=8))
    one = run_episodes(mdp, LSVIUCB(mdp), 500, 1, progress=False)
    two = run_episodes(mdp, LSVIUCB(mdp), 500, 1, progress=True)
    other = run_episodes(mdp, LSVIUCB(mdp), 500, 2, progress=False)
    assert isinstance(one, JudgedRun)  # whose regret is never None, for a type checker as well
    assert_array_equal(one.regret, two.regret)
    assert not np.array_equal(one.returns, other.returns)
    assert one.regret.shape == one.values.shape == (500,)
    assert one.switches > 5


def test_without_a_model_there_is_no_regret() -> None:
    environment = LatentMDP(3, 2, 3, np.random.default_rng(0))
    run = run_episodes(environment, FeatureLSVI(environment), 20, 0, progress=False)
    assert not isinstance(run, JudgedRun)
    assert run.regret is None
    assert run.returns.shape == (20,)


@pytest.mark.parametrize("K", [-1, 0, 2.5, True])
def test_a_number_of_episodes_that_cannot_be_played(K) -> None:
    mdp = river_swim()
    with pytest.raises(ValueError, match="K, the number of episodes"):
        run_episodes(mdp, UCBVI(mdp), K, 0)


@pytest.mark.parametrize("seed", [-1, 1.5, None])
def test_a_seed_that_is_none(seed) -> None:
    mdp = river_swim()
    with pytest.raises(ValueError, match="the seed must be an integer of at least 0"):
        run_episodes(mdp, UCBVI(mdp), 5, seed)


@pytest.mark.parametrize(
    "learner", [lambda mdp: ICVaRRM(mdp, risk_level=0.3), lambda mdp: MaxWP(mdp)]
)
def test_regret_of_the_mean_is_not_counted_for_who_weighs_risk(learner) -> None:
    # Best in the worst cases need not be best on average: such regret would grow for ever.
    mdp = river_swim(S=3, H=5)
    with pytest.raises(ValueError, match=r"weighs risk.* use thrifty\.episodic\.risk_rollout"):
        run_episodes(mdp, learner(mdp), 5, 0)
    neutral = ICVaRRM(mdp, risk_level=1.0)  # the CVaR of everything is the mean
    assert run_episodes(mdp, neutral, 5, 0, progress=False).regret is not None


def test_a_learner_of_other_sizes_is_refused() -> None:
    # Else compiled code reads and writes beyond its tables.
    small, large = river_swim(S=3, H=5), river_swim(S=60, H=30)
    with pytest.raises(
        ValueError, match=r"ucbvi was made for .* \[5, 3, 2\], but .* \[30, 60, 2\]"
    ):
        run_episodes(large, UCBVI(small), 5, 0)
    with pytest.raises(ValueError, match="lsvi_ucb was made for"):
        run_episodes(large, LSVIUCB(tabular(small)), 5, 0)


def test_a_learner_of_the_other_kind_or_of_other_features_is_refused() -> None:
    mdp = tabular(river_swim(S=3, H=5))
    environment = LatentMDP(4, 2, 3, np.random.default_rng(0))
    features = FeatureLSVI(environment)
    with pytest.raises(ValueError, match="use LSVIUCB or LSVIUCBPlus for a finite MDP"):
        run_episodes(mdp, features, 5, 0)
    with pytest.raises(ValueError, match=r"tables of a finite MDP.*FeatureLSVI\(env"):
        run_episodes(environment, LSVIUCB(mdp), 5, 0)
    longer = LatentMDP(4, 2, 6, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"\[3, 2, 4\], but latent.* has \[6, 2, 4\]"):
        run_episodes(longer, features, 5, 0)
    with pytest.raises(ValueError, match=r"got LatentMDP: FeatureLSVI\(environment\)"):
        LSVIUCB(environment)  # type: ignore[arg-type]


def test_what_is_no_mdp_is_refused() -> None:
    mdp = river_swim()
    with pytest.raises(ValueError, match=r"use from_gymnasium\(env, horizon\)"):
        run_episodes(object(), UCBVI(mdp), 5, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="LSVIUCBPlus for a finite MDP"):
        FeatureLSVI(tabular(mdp))  # type: ignore[arg-type]


def test_ucbvi_theory_by_hand() -> None:
    # 7 H log(5 S A H K / delta) = 7*2*log(5*3*2*2*10/.1) = 14 log 6000 = 121.79
    assert_allclose(theory_beta(3, 2, 2, 10, 0.1), 121.79, atol=0.01)
    with pytest.raises(ValueError, match="beta"):
        UCBVI(river_swim(), beta=-1.0)
    with pytest.raises(ValueError, match="determinant or episode"):
        UCBVI(river_swim(), switch="x")  # type: ignore[arg-type]
