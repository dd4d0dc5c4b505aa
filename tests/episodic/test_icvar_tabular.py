"""ICVaR-RM, ICVaR-BPI and MaxWP against exact planners on the model and on the counts."""

from __future__ import annotations

import numpy as np
import pytest

from thrifty.episodic import EpisodicMDP, evaluate, icvar_bpi, icvar_rm, optimal
from thrifty.episodic.cvar import iterated_cvar, worst_path
from thrifty.episodic.icvar_bpi import ICVaRBPI
from thrifty.episodic.icvar_rm import ICVaRRM
from thrifty.episodic.linear_mixture import random_mixture
from thrifty.episodic.max_wp import MaxWP
from thrifty.episodic.risk_instances import hard_chain, inventory, two_door
from thrifty.episodic.simulator import new_simulator, next_state, starts
from thrifty.episodic.visit_counts import CountingLearner


def play(learner: CountingLearner, episodes: int, seed: int = 0, first: int = 0) -> None:
    simulator = new_simulator(learner.mdp, seed)
    while first < episodes:
        states = starts(learner.mdp, simulator, first, episodes - first)
        first += len(learner.play(simulator, first, states))


def staged(seed: int = 0) -> EpisodicMDP:
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(5, 0.5), (4, 5, 3))
    P[P < 0.05] = 0.0
    return EpisodicMDP.from_arrays(P / P.sum(-1, keepdims=True), rng.random((4, 5, 3)))


def empirical(learner: CountingLearner) -> EpisodicMDP:
    """The MDP of the counts; all pairs must have been visited."""
    counts = learner.counts
    assert counts.visits.min() > 0
    P = counts.transitions / counts.visits[..., None]
    return EpisodicMDP.from_arrays(P if len(P) > 1 else P[0], learner.mdp.r)


def fill(learner: CountingLearner, each: int, seed: int = 0) -> None:
    """Visit every pair at every stage alike, by hand, through the protocol."""
    mdp, rng = learner.mdp, np.random.default_rng(seed)
    for h in range(mdp.H):
        for s in range(mdp.S):
            for a in range(mdp.A):
                for s_next in rng.choice(mdp.S, each, p=mdp.P[h, s, a]):
                    learner.observe(h, s, a, float(mdp.r[h, s, a]), int(s_next))


@pytest.mark.parametrize("level", [1.0, 0.5, 0.15, 0.001])
@pytest.mark.parametrize("pooled", [True, False])
def test_without_bonus_it_plans_exactly_on_the_counts(level: float, pooled: bool) -> None:
    mdp = random_mixture(np.random.default_rng(1), states=6) if pooled else staged()
    learner = ICVaRRM(mdp, risk_level=level, beta=0.0, pooled=pooled)
    fill(learner, 17)
    learner.plan()
    exact = optimal(empirical(learner), iterated_cvar(level))
    np.testing.assert_allclose(learner.counts.V, exact.V, atol=1e-12)
    np.testing.assert_allclose(learner.counts.Q, exact.Q, atol=1e-12)


def test_bonus_by_hand() -> None:
    # H = 2; two visits of the risky door, one to each room: at level .5 the CVaR is 0, the bonus
    # (.2 / .5) / sqrt(2) = .2828; the safe door is unvisited: the greatest next value, 1.
    learner = ICVaRRM(two_door(), risk_level=0.5, beta=0.2)
    learner.observe(0, 0, 1, 0.0, 2)
    learner.observe(0, 0, 1, 0.0, 3)
    learner.plan()
    assert learner.counts.Q[0, 0].tolist() == pytest.approx([1.0, 0.4 / np.sqrt(2.0)])


def test_worst_path_learner_equals_the_planner_of_the_limit() -> None:
    mdp = staged(2)
    worst, averse = MaxWP(mdp, pooled=False), ICVaRRM(mdp, risk_level=1e-9, beta=0.0, pooled=False)
    for learner in (worst, averse):
        fill(learner, 9)
        learner.plan()
    np.testing.assert_array_equal(worst.counts.V, averse.counts.V)
    np.testing.assert_array_equal(worst.counts.V, optimal(empirical(worst), worst_path).V)


@pytest.mark.parametrize("seed", range(4))
def test_worst_path_values_are_never_too_low_and_its_regret_ends(seed: int) -> None:
    mdp = random_mixture(np.random.default_rng(seed), states=6, actions=2, branching=2)
    best = optimal(mdp, worst_path)
    learner, simulator, first = MaxWP(mdp), new_simulator(mdp, seed), 0
    switches = []
    while first < 20_000:
        first += len(learner.play(simulator, first, np.zeros(20_000 - first, dtype=np.int64)))
        assert (learner.counts.V >= best.V - 1e-12).all()
        switches.append(first)
    # The last quarter is played by one policy, and it is optimal: regret is constant there.
    assert switches[-2] < 15_000
    assert evaluate(mdp, learner.policy(), worst_path)[0, 0] == pytest.approx(best.V[0, 0])


@pytest.mark.parametrize("level", [1.0, 0.3])
def test_theory_mode_is_optimistic_in_these_runs(level: float) -> None:
    for mdp, pooled in ((inventory(), True), (staged(), False)):
        beta = icvar_rm.theory_beta(
            states=mdp.S, actions=mdp.A, horizon=mdp.H, episodes=500, delta=0.1
        )
        learner = ICVaRRM(mdp, risk_level=level, beta=beta, pooled=pooled)
        star, simulator, first = optimal(mdp, iterated_cvar(level)).V, new_simulator(mdp, 0), 0
        while first < 500:
            first += len(learner.play(simulator, first, starts(mdp, simulator, first, 500 - first)))
            assert (learner.counts.V - star >= -1e-12).all()


def test_it_solves_the_hard_chain() -> None:
    # The state that matters is reached with probability .09: a learner that explores finds out.
    mdp = hard_chain(n=3, horizon=6, risk_level=0.3, gap=0.06)
    learner = ICVaRRM(mdp, risk_level=0.3)
    play(learner, 30_000)
    operator = iterated_cvar(0.3)
    best = optimal(mdp, operator).V[0, 0]
    assert evaluate(mdp, learner.policy(), operator)[0, 0] == pytest.approx(best)


@pytest.mark.parametrize("level", [1.0, 0.5])
def test_the_answer_is_as_good_as_promised(level: float) -> None:
    mdp = two_door()
    beta = icvar_bpi.theory_beta(states=4, actions=2, horizon=2, visits=100_000, delta=0.1)
    learner = ICVaRBPI(mdp, risk_level=level, accuracy=0.2, beta=beta)
    operator, first = iterated_cvar(level), 0
    star = optimal(mdp, operator).V
    simulator = new_simulator(mdp, 3)
    while not learner.stopped:
        first += len(learner.play(simulator, first, np.zeros(50_000, dtype=np.int64)))
        assert first < 100_000
        value = evaluate(mdp, learner.policy(), operator)
        assert (learner.counts.V - star >= -1e-12).all()
        assert (learner.low - value <= 1e-12).all()
    assert value[0, 0] >= star[0, 0] - 0.2
    plans = learner.switches
    play(learner, 1000)
    assert learner.switches == plans, "it goes on with its answer"


@pytest.mark.parametrize("kind", ["rm", "bpi", "wp"])
def test_compiled_episodes_equal_the_protocol_and_resume(kind: str) -> None:
    mdp = inventory(horizon=5)

    def make() -> CountingLearner:
        if kind == "rm":
            return ICVaRRM(mdp, risk_level=0.3)
        if kind == "bpi":
            return ICVaRBPI(mdp, risk_level=0.3, accuracy=1.0)
        return MaxWP(mdp)

    compiled, stepwise, half, rest = make(), make(), make(), make()
    play(compiled, 200)
    simulator = new_simulator(mdp, 0)
    for k in range(200):
        s = 3
        for h in range(mdp.H):
            a = stepwise.act(h, s)
            s_next = int(next_state(simulator, k, h, s, a))
            stepwise.observe(h, s, a, float(mdp.r[h, s, a]), s_next)
            s = s_next
        stepwise.end_episode()
    play(half, 77)
    rest.load_state_dict(half.state_dict())
    play(rest, 200, first=77)
    for other in (stepwise, rest):
        assert other.switches == compiled.switches
        for name, array in compiled.counts._asdict().items():
            np.testing.assert_array_equal(array, getattr(other.counts, name), err_msg=name)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="pooled=False"):
        ICVaRRM(staged(), risk_level=0.5)
    with pytest.raises(ValueError, match="risk_level"):
        ICVaRRM(two_door(), risk_level=1.01)
    with pytest.raises(ValueError, match="beta"):
        ICVaRRM(two_door(), risk_level=0.5, beta=float("nan"))
    with pytest.raises(ValueError, match="accuracy"):
        ICVaRBPI(two_door(), risk_level=0.5, accuracy=0.0)
    with pytest.raises(ValueError, match="beta"):
        ICVaRBPI(two_door(), risk_level=0.5, beta=-1.0)
