from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thrifty.marl.environments import make_team
from thrifty.marl.matrix_game import MatrixGame
from thrifty.marl.predator_prey import CATCH, PredatorPrey, legal_moves, moved, near, optimum
from thrifty.marl.skirmish import HEALTH, Skirmish
from thrifty.marl.team import Team

OWN = ("matrix_game", "predator_prey", "skirmish")


def random_actions(team: Team, rng: np.random.Generator) -> np.ndarray:
    score = rng.random(team.seen.available.shape)
    return np.where(team.seen.available, score, -1.0).argmax(2)


@pytest.mark.parametrize("name", OWN)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_every_episode_keeps_the_interface(name: str, seed: int) -> None:
    team, rng = make_team(name, 3, seed), np.random.default_rng(seed)
    spec, length, total = team.spec, np.zeros(3, int), np.zeros(3)
    for _ in range(60):
        seen = team.seen
        assert seen.observation.shape == (3, spec.agents, spec.observation_dim)
        assert seen.state.shape == (3, spec.state_dim)
        assert seen.available.shape == (3, spec.agents, spec.actions)
        assert seen.observation.dtype == seen.state.dtype == np.float32
        assert seen.available.any(2).all()
        outcome = team.step(random_actions(team, rng))
        length += 1
        total += outcome.reward
        over = outcome.terminated | outcome.truncated
        assert not (outcome.terminated & outcome.truncated).any()
        assert not (outcome.won & ~over).any()
        assert (over[length >= spec.limit]).all()
        assert spec.largest_return is not None
        assert (total <= spec.largest_return + 1e-4).all()
        team.restart(over)
        length[over], total[over] = 0, 0.0


@pytest.mark.parametrize("name", OWN)
def test_a_stored_game_goes_on_exactly(name: str) -> None:
    one, two = make_team(name, 4, 1), make_team(name, 4, 2)
    rng = np.random.default_rng(0)
    for step in range(30):
        if step == 7:
            assert two.load_state_dict(one.state_dict())
        actions = random_actions(one, rng)
        outcome = one.step(actions)
        over = outcome.terminated | outcome.truncated
        if step >= 7:
            again = two.step(actions)
            for left, right in zip(outcome, again, strict=True):
                assert np.array_equal(left, right)
            two.restart(over)
        one.restart(over)
        if step >= 7:
            for left, right in zip(one.seen, two.seen, strict=True):
                assert np.array_equal(left, right)


@pytest.mark.parametrize("name", OWN)
def test_what_is_not_available_is_refused(name: str) -> None:
    team = make_team(name, 2, 0)
    wrong = np.full((2, team.spec.agents), team.spec.actions)
    with pytest.raises(ValueError, match="agent 0 in copy 0 is not available: choose among"):
        team.step(wrong)
    with pytest.raises(ValueError, match="actions have shape"):
        team.step(wrong[:1])


def test_names_that_lead_nowhere() -> None:
    with pytest.raises(ValueError, match="did you mean skirmish"):
        make_team("skirmsh", 1, 0)
    with pytest.raises(ValueError, match="cannot import the environment"):
        make_team("thrifty.marl.skirmish:Nothing", 1, 0)
    for other in ("skirmish:HEALTH", "environments:make_team"):  # a number; three arguments
        with pytest.raises(ValueError, match=r"is no function \(copies, seed\) -> Team"):
            make_team(f"thrifty.marl.{other}", 1, 0)
    with pytest.raises(ValueError, match="environments must be at least 1"):
        make_team("skirmish", 0, 0)
    assert make_team("thrifty.marl.skirmish:Skirmish", 1, 0).spec.name == "skirmish"


def test_the_matrix_pays_at_the_joint_action() -> None:
    game = MatrixGame(9)
    actions = np.array(list(itertools.product(range(3), repeat=2)))
    outcome = game.step(actions)
    assert outcome.reward.tolist() == [8, -12, -12, -12, 0, 0, -12, 0, 0]
    assert outcome.terminated.all()
    three = MatrixGame(1, payoff=np.arange(8.0).reshape(2, 2, 2))
    assert three.spec.agents == 3
    assert three.step(np.array([[1, 0, 1]])).reward.tolist() == [5.0]
    with pytest.raises(ValueError, match="equally many actions"):
        MatrixGame(1, payoff=[[1.0, 2.0]])


# ---------------------------------------------------------------- predator-prey


def test_the_cells_by_hand() -> None:
    # Of 3 x 3 cells, 4 is the middle, 0 a corner; stay, up, down, left, right.
    assert moved(3)[4].tolist() == [4, 1, 7, 3, 5]
    assert moved(3)[0].tolist() == [0, 0, 3, 0, 1]
    assert legal_moves(3)[0].tolist() == [True, False, True, False, True]
    assert np.flatnonzero(near(3)[4]).tolist() == [1, 3, 4, 5, 7]


def placed(cells: list[list[int]], **rules: float) -> PredatorPrey:
    game = PredatorPrey(len(cells), 0, **rules)  # type: ignore[arg-type]
    state = game.state_dict() | {"cells": np.array(cells)}
    game.load_state_dict(state)
    return game


def test_a_catch_needs_both() -> None:
    game = placed([[0, 1, 0], [0, 1, 0], [0, 1, 0]], penalty=7.0)
    outcome = game.step(np.array([[CATCH, CATCH], [CATCH, 0], [0, 0]]))
    assert outcome.reward.tolist() == [10.0, -7.0, 0.0]
    assert outcome.terminated.tolist() == outcome.won.tolist() == [True, False, False]


def test_nobody_catches_from_afar() -> None:
    game = placed([[0, 8, 7]])
    assert game.seen.available[0, :, CATCH].tolist() == [False, True]
    with pytest.raises(ValueError, match="not available"):
        game.step(np.array([[CATCH, CATCH]]))


def brute_optimum(side: int, penalty: float, limit: int, discount: float) -> float:
    """Backward induction over explicit states and joint actions, by plain loops."""
    C = side * side
    close, move, legal = near(side), moved(side), legal_moves(side)
    V = dict.fromkeys(itertools.product(range(C), repeat=3), 0.0)
    for _ in range(limit):
        new = {}
        for a, b, p in V:
            best = -np.inf
            for i, j in itertools.product(range(6), repeat=2):
                if not (close[a, p] if i == CATCH else legal[a, i]):
                    continue
                if not (close[b, p] if j == CATCH else legal[b, j]):
                    continue
                if i == j == CATCH:
                    best = max(best, 10.0)
                    continue
                reward = -penalty if CATCH in (i, j) else 0.0
                na = a if i == CATCH else int(move[a, i])
                nb = b if j == CATCH else int(move[b, j])
                future = np.mean([V[na, nb, int(move[p, k])] for k in range(5)])
                best = max(best, reward + discount * future)
            new[a, b, p] = best
        V = new
    return float(np.mean(list(V.values())))


@pytest.mark.parametrize("penalty", [5.0, 0.0])
def test_the_optimum_is_that_of_a_plain_induction(penalty: float) -> None:
    for side, limit in ((2, 4), (3, 2)):
        found = optimum(side=side, penalty=penalty, limit=limit, discount=0.8)
        assert found == pytest.approx(brute_optimum(side, penalty, limit, 0.8), abs=1e-12)


def test_more_time_is_worth_more() -> None:
    # With one step only a joint catch pays: both predators among the c_p cells within distance 1
    # of the prey's cell p, the mean of (c_p / 9)^2; c is 3 in 4 corners, 4 at 4 edges, 5 in the
    # middle.
    chance = (4 * 9 + 4 * 16 + 25) / 9 / 81
    assert optimum(limit=1) == pytest.approx(10 * chance, abs=1e-12)
    assert optimum(limit=1) < optimum(limit=5) < optimum(limit=20) < 10


# ---------------------------------------------------------------- skirmish


def test_the_state_is_raw_and_the_dead_do_nothing() -> None:
    team = Skirmish(1, 0)
    state = team.state_dict()
    state["health"][0, 1] = 0.0
    team.load_state_dict(state)
    seen = team.seen
    assert seen.state.max() == HEALTH
    assert 20 < seen.state[0, 4 * 3] < 24  # the first enemy's x
    assert seen.available[0, 1].tolist() == [True] + [False] * 8
    assert not seen.observation[0, 1].any()
    assert not seen.available[0, 0, 0]


def test_a_blow_by_hand() -> None:
    team = Skirmish(1, 0)
    state = team.state_dict()
    # One of each side within reach of one another, the others far away.
    state["place"][0] = [[10, 10], [1, 1], [1, 31], [13, 10], [31, 1], [31, 31]]
    state["health"][0, 3] = 9.0
    team.load_state_dict(state)
    assert team.seen.available[0, 0, 6:].tolist() == [True, False, False]
    outcome = team.step(np.array([[6, 1, 1]]))
    # 9 of damage and a kill, of 3 (45 + 10) + 50 = 215, times 20.
    assert outcome.reward[0] == pytest.approx((9 + 10) * 20 / 215)
    after = team.state_dict()
    assert after["health"][0].tolist() == [36, 45, 45, 0, 45, 45]  # the enemy struck as well
    assert after["wait"][0].tolist() == [1, 0, 0, 1, 0, 0]
    # The two others come nearer by 2.
    before = np.array([[31, 1], [31, 31]])
    moved_by = np.linalg.norm(after["place"][0, 4:] - before, axis=1)
    np.testing.assert_allclose(moved_by, 2.0, rtol=1e-5)


def test_a_fight_can_be_won_lost_and_drawn() -> None:
    team = Skirmish(3, 0)
    state = team.state_dict()
    state["place"][:, 0], state["place"][:, 3] = [10, 10], [13, 10]
    state["health"][:] = 0.0
    state["health"][:, [0, 3]] = np.array([[45.0, 9.0], [9.0, 45.0], [9.0, 9.0]])
    team.load_state_dict(state)
    outcome = team.step(np.array([[6, 0, 0]] * 3))
    assert outcome.terminated.all()
    assert outcome.won.tolist() == [True, False, False]
    # Victory: 9 of damage, one kill, 50.
    assert outcome.reward[0] == pytest.approx((9 + 10 + 50) * 20 / 215)


def test_time_is_up() -> None:
    team = Skirmish(1, 0, limit=3)
    for step in range(3):
        available = team.seen.available[0]
        action = np.where(available[:, 5], 5, 1)[None]  # walk away
        outcome = team.step(action)
        assert outcome.truncated[0] == (step == 2)
    assert not outcome.terminated[0]
