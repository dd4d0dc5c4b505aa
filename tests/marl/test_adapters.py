from __future__ import annotations

import importlib
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest

from thrifty.marl.environments import make_team
from thrifty.marl.parallel import ParallelTeam
from thrifty.marl.smax import SMAX
from thrifty.marl.team import Team


def random_actions(team: Team, rng: np.random.Generator) -> np.ndarray:
    score = rng.random(team.seen.available.shape)
    return np.where(team.seen.available, score, -1.0).argmax(2)


class Discrete:
    def __init__(self, n: int) -> None:
        self.n = n


class FakeParallel:
    """Two agents with 2 and 3 actions that see 1 and 2 numbers; 4 steps; rewards 1 and 3."""

    possible_agents = ("left", "right")
    masks, leaves, ends, spaces = False, False, "truncated", (Discrete(2), Discrete(3))

    def __init__(self) -> None:
        self.unwrapped = self

    def action_space(self, agent: str) -> Any:
        return self.spaces[self.possible_agents.index(agent)]

    def _see(self) -> dict[str, Any]:
        seen: dict[str, Any] = {
            "left": np.array([float(self.steps)]),
            "right": np.array([self.first, 5.0]),
        }
        if self.masks:
            seen["right"] = {
                "observation": seen["right"],
                "action_mask": np.array([0, 1, 1], np.int8),
            }
        return seen

    def reset(self, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        self.first = float(np.random.default_rng(seed).random())
        self.steps, self.agents = 0, list(self.possible_agents)
        return self._see(), {}

    def close(self) -> None:
        self.closed = True

    def step(self, actions: dict[str, int]) -> tuple[Any, ...]:
        self.steps += 1
        over = self.steps == 4
        gone = {"left": self.leaves and self.steps == 2, "right": False}
        if over or any(gone.values()):
            self.agents = [a for a in self.possible_agents if not (over or gone[a])]
        truncated = dict.fromkeys(gone, over and self.ends == "truncated")
        if self.ends == "both":
            truncated["left"] = over
        terminated = {a: gone[a] or (over and not truncated[a]) for a in gone}
        return self._see(), {"left": 1.0, "right": 3.0}, terminated, truncated, {}


def parallel(copies: int = 2, seed: int = 0, **changes: Any) -> ParallelTeam:
    kind = type("Changed", (FakeParallel,), changes)
    return ParallelTeam(kind, copies, seed, limit=4, name="fake")


def test_agents_of_different_sizes_are_padded_and_masked() -> None:
    team = parallel()
    seen = team.seen
    assert (team.spec.agents, team.spec.actions, team.spec.observation_dim) == (2, 3, 2)
    assert seen.available.tolist() == [[[True, True, False], [True] * 3]] * 2
    assert seen.observation[0, 0].tolist() == [0.0, 0.0]  # one number and one zero
    assert seen.observation[0, 1, 1] == 5.0
    # No state() here: the observations one after the other.
    assert np.array_equal(seen.state, seen.observation.reshape(2, 4))
    with pytest.raises(ValueError, match="not available"):
        team.step(np.array([[2, 0], [0, 0]]))


def test_masks_are_read_where_there_are_some() -> None:
    assert parallel(masks=True).seen.available[0, 1].tolist() == [False, True, True]


@pytest.mark.parametrize("ends", ["terminated", "truncated", "both"])
def test_rewards_are_averaged_and_ends_kept_apart(ends: str) -> None:
    team = parallel(ends=ends)
    for step in range(4):
        outcome = team.step(np.zeros((2, 2), np.int64))
        assert outcome.reward.tolist() == [2.0, 2.0]
        assert outcome.terminated.tolist() == [step == 3 and ends == "terminated"] * 2
        assert outcome.truncated.tolist() == [step == 3 and ends != "terminated"] * 2
    assert team.seen.observation[0, 0, 0] == 4.0  # the last observation is still there
    team.restart(np.array([True, False]))
    assert team.seen.observation[:, 0, 0].tolist() == [0.0, 4.0]


def test_every_copy_is_looked_at_once_after_each_change() -> None:
    """Looking is what a step of a particle world takes longest for."""
    team = parallel()
    looked = [0, 0]
    for number, single in enumerate(team._singles):
        look = single.view

        def view(number: int = number, look: Any = look) -> Any:
            looked[number] += 1
            return look()

        single.view = view  # type: ignore[method-assign]
    for step in range(3):
        team.step(np.zeros((2, 2), np.int64))
        assert team.seen.observation[:, 0, 0].tolist() == [step + 1.0] * 2
    assert looked == [3, 3]
    given = team.seen.observation
    team.restart(np.array([True, False]))
    assert team.seen.observation[:, 0, 0].tolist() == [0.0, 3.0]
    assert given[:, 0, 0].tolist() == [3.0, 3.0]  # what was given out stays
    assert looked == [4, 3]


def test_closing_reaches_every_copy() -> None:
    team = parallel(copies=3)
    team.close()
    assert all(single._env.closed for single in team._singles)  # type: ignore[attr-defined]


def test_an_agent_that_leaves_alone_is_refused() -> None:
    team = parallel(leaves=True)
    team.step(np.zeros((2, 2), np.int64))
    with pytest.raises(ValueError, match="fake: left left before the others"):
        team.step(np.zeros((2, 2), np.int64))


def test_continuous_actions_are_refused() -> None:
    with pytest.raises(ValueError, match="needs discrete actions"):
        parallel(spaces=("Box(2,)", Discrete(3)))


def test_running_episodes_are_played_again() -> None:
    one, two = parallel(seed=1), parallel(seed=2)
    for _ in range(2):
        one.step(np.zeros((2, 2), np.int64))
    assert not np.array_equal(one.seen.observation, two.seen.observation)
    assert two.load_state_dict(one.state_dict())
    assert np.array_equal(one.seen.observation, two.seen.observation)
    for team in (one, two):  # the next episodes are the same as well
        team.restart(np.ones(2, bool))
    assert np.array_equal(one.seen.observation, two.seen.observation)


def test_an_episode_that_does_not_come_back_is_given_up() -> None:
    one = parallel()
    one.step(np.zeros((2, 2), np.int64))
    state = one.state_dict()
    state["observation"] = state["observation"] + 1.0
    with pytest.warns(RuntimeWarning, match="fake does not play an episode twice"):
        assert not one.load_state_dict(state)
    assert one.seen.observation[0, 0, 0] == 0.0


def test_what_is_not_installed_names_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, package, extra in (
        ("mpe-simple_spread", "mpe2", "marl"),
        ("lbf-8x8-2p-3f", "lbforaging", "marl"),
        ("smax-3m", "jaxmarl", "smax"),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ValueError, match=rf"pip install 'thrifty\[{extra}\]'"):
            make_team(name, 1, 0)


def test_the_particle_world() -> None:
    pytest.importorskip("mpe2")
    team, rng = make_team("mpe-simple_spread", 2, 0), np.random.default_rng(0)
    assert team.spec[:6] == ("mpe-simple_spread", 3, 5, 18, 54, 25)
    assert team.seen.available.all()
    for step in range(25):
        outcome = team.step(random_actions(team, rng))
        assert outcome.truncated.all() == (step == 24)
        assert not outcome.terminated.any()
        assert (outcome.reward < 0).all()
    scene = team.scene()
    assert scene is not None
    assert len(scene) == 6
    with pytest.raises(ValueError, match="mpe2 has no environment 'tag'; it has"):
        make_team("mpe-tag", 1, 0)


@pytest.mark.parametrize("world", ["simple_spread_v3", "simple_speaker_listener_v4"])
def test_a_world_without_the_wrappers_of_its_library_is_the_same(world: str) -> None:
    pytest.importorskip("mpe2")
    module = importlib.import_module(f"mpe2.{world}")
    plain = make_team(f"mpe-{world.rpartition('_')[0]}", 2, 7)
    wrapped = ParallelTeam(lambda: module.parallel_env(max_cycles=25), 2, 7, limit=25)
    rng = np.random.default_rng(0)
    for _ in range(60):
        for mine, theirs in zip(plain.seen, wrapped.seen, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        action = random_actions(plain, rng)
        ours, others = plain.step(action), wrapped.step(action)
        for mine, theirs in zip(ours, others, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        over = ours.terminated | ours.truncated
        if over.any():
            plain.restart(over)
            wrapped.restart(over)


@pytest.mark.parametrize(
    ("world", "foes"),
    [
        ("simple_adversary", "adversary_0"),
        ("simple_crypto", "eve_0"),
        ("simple_push", "adversary_0"),
        ("simple_tag", "adversary_0, adversary_1, adversary_2"),
        ("simple_world_comm", "leadadversary_0, adversary_0, adversary_1, adversary_2"),
    ],
)
def test_a_world_of_two_sides_is_no_team(world: str, foes: str) -> None:
    pytest.importorskip("mpe2")
    with pytest.raises(ValueError, match=f"mpe-{world}: {foes} and the others play against"):
        make_team(f"mpe-{world}", 1, 0)


@pytest.mark.parametrize("world", ["simple", "simple_reference", "simple_speaker_listener"])
def test_a_world_of_one_side_is_one(world: str) -> None:
    pytest.importorskip("mpe2")
    make_team(f"mpe-{world}", 1, 0).close()


def test_one_side_of_two_is_a_team() -> None:
    """Pursuers whose prey is played by the wrapper: all that is left are adversaries."""
    sides = [
        types.SimpleNamespace(name=name, adversary=name != "prey")
        for name in ["left", "right", "prey"]
    ]
    world = types.SimpleNamespace(agents=sides, landmarks=[])
    assert parallel(world=world).spec.agents == 2
    world.agents[0].adversary = False
    with pytest.raises(ValueError, match="fake: right and the others"):
        parallel(world=world)


def test_foraging_tells_its_limit_from_its_end() -> None:
    pytest.importorskip("lbforaging")
    team, rng = make_team("lbf-5x5-2p-1f", 8, 0), np.random.default_rng(0)
    assert team.spec.agents == 2
    assert team.spec.actions == 6
    assert team.spec.limit == 50
    total, seen = np.zeros(8), {"terminated": 0, "truncated": 0}
    for _ in range(120):
        outcome = team.step(random_actions(team, rng))
        total += outcome.reward
        over = outcome.terminated | outcome.truncated
        # All food eaten is a return of 1, time up before is less.
        np.testing.assert_allclose(total[outcome.terminated], 1.0, atol=1e-6)
        assert (total[outcome.truncated] < 1.0).all()
        seen["terminated"] += int(outcome.terminated.sum())
        seen["truncated"] += int(outcome.truncated.sum())
        total[over] = 0.0
        team.restart(over)
    assert seen["terminated"] > 0
    assert seen["truncated"] > 0
    with pytest.raises(ValueError, match="lbforaging has no environment '1x1'"):
        make_team("lbf-1x1", 1, 0)


@pytest.mark.slow
def test_loading_smax_says_nothing() -> None:
    pytest.importorskip("jaxmarl")
    code = "from thrifty.marl.environments import make_team; make_team('smax-3m', 1, 0)"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == ""


@pytest.mark.slow
def test_smax_keeps_its_last_observation_and_tells_ends_apart() -> None:
    pytest.importorskip("jaxmarl")
    team, rng = make_team("smax-3m", 4, 0), np.random.default_rng(0)
    assert team.spec == ("SMAX 3m", 3, 8, 75, 72, 100, 20.0, True)
    stop = 4
    length, total, ends = np.zeros(4, int), np.zeros(4), {"terminated": 0, "truncated": 0}
    for step in range(150):
        available = team.seen.available
        alive = available[..., 0]
        assert available[~alive].sum(-1).tolist() == [1] * int((~alive).sum())
        assert available[~alive][:, stop].all()
        actions = random_actions(team, rng)
        outcome = team.step(actions)
        length += 1
        total += outcome.reward
        over = outcome.terminated | outcome.truncated
        assert (outcome.truncated <= (length == 100)).all()
        assert (total <= 20.0 + 1e-3).all()
        for copy in np.flatnonzero(outcome.terminated):
            state = team.seen.state[copy, :60].reshape(6, 10)
            dead = [not unit.any() for unit in state]
            # The last state is that of the end: a side is dead in it.
            assert all(dead[:3]) or all(dead[3:])
            assert outcome.won[copy] == (all(dead[3:]) and not all(dead[:3]))
        ends["terminated"] += int(outcome.terminated.sum())
        if step == 70:
            again = make_team("smax-3m", 4, 9)
            assert again.load_state_dict(team.state_dict())
            assert np.array_equal(again.seen.state, team.seen.state)
            same = random_actions(team, np.random.default_rng(5))
            if not over.any():
                one, two = team.step(same), again.step(same)
                assert np.array_equal(one.reward, two.reward)
                assert np.array_equal(team.seen.state, again.seen.state)
                over = one.terminated | one.truncated
                length, total = length + 1, total + one.reward
        length[over], total[over] = 0, 0.0
        if over.any():
            team.restart(over)
            restored = make_team("smax-3m", 4, 9)
            restored.load_state_dict(team.state_dict())
            for mine, other in zip(restored.seen, team.seen, strict=True):
                assert np.array_equal(mine, other)
    assert ends["terminated"] > 3


@pytest.mark.slow
def test_smax_begins_anew_more_often_than_it_draws() -> None:
    """First states are drawn eight at a time: all differ, and a restored copy goes on with them."""
    pytest.importorskip("jaxmarl")
    team, again = make_team("smax-3m", 2, 0), make_team("smax-3m", 2, 7)
    stop = np.full((2, 3), 4)
    seen = [team.seen.state.copy()]
    for number in range(20):
        team.restart(np.array([True, number % 2 == 0]))
        seen.append(team.seen.state.copy())
        if number == 11:
            again.load_state_dict(team.state_dict())
        elif number > 11:
            again.restart(np.array([True, number % 2 == 0]))
            assert np.array_equal(again.seen.state, team.seen.state)
    assert len({state[0].tobytes() for state in seen}) == 21
    assert len({state[1].tobytes() for state in seen}) == 11
    assert np.array_equal(team.step(stop).reward, again.step(stop).reward)
    assert np.array_equal(again.seen.state, team.seen.state)


@pytest.mark.slow
def test_no_restart_of_smax_is_lost() -> None:
    """JAX may read an array after the call that had it: one that is written to later is a race.

    A copy whose restart is lost goes on from the end of its last episode, and is over at once.
    """
    pytest.importorskip("jaxmarl")
    team, rng, age = make_team("smax-3m", 64, 0), np.random.default_rng(0), np.zeros(64, int)
    assert isinstance(team, SMAX)
    given: list[tuple[np.ndarray, np.ndarray]] = []

    def watched(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            given.extend((a, a.copy()) for a in arguments if isinstance(a, np.ndarray))
            return function(*arguments)

        return call

    game = team._game
    team._game = game._replace(advance=watched(game.advance), settle=watched(game.settle))
    for step in range(200):
        outcome = team.step(random_actions(team, rng))
        age += 1
        assert np.array_equal(team._step_E, age)
        over = outcome.terminated | outcome.truncated
        assert (age[over] > 5).all()
        team.restart(over)
        age[over] = 0
        if step == 100:
            team.load_state_dict(team.state_dict())
    assert len(given) > 600
    assert all(np.array_equal(now, before) for now, before in given)
