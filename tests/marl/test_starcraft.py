"""StarCraft's three libraries, which users install, on environments that imitate them."""

from __future__ import annotations

import sys
import types
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from thrifty.marl.copies import Copies
from thrifty.marl.environments import make_team


class FakeStarCraft:
    """SMAC's interface as PyMARL uses it; 3 steps, then a win, a defeat, or time is up."""

    def __init__(
        self,
        map_name: str = "3m",
        continuing_episode: bool = False,
        capability_config: Any = None,
        **others: Any,
    ) -> None:
        self.map_name, self.tells_limit = map_name, continuing_episode
        self.ends = {"3m": "won", "2m": "lost", "corridor": "late", "10gen_zerg": "late"}[map_name]
        self.drawn, self.others = capability_config, others

    def get_env_info(self) -> dict[str, int]:
        return {
            "n_agents": 2,
            "n_actions": 4,
            "obs_shape": 3,
            "state_shape": 5,
            "episode_limit": 3,
        }

    def reset(self) -> None:
        self.steps = 0

    def step(self, actions: list[int]) -> tuple[float, bool, dict[str, Any]]:
        assert all(type(action) is int for action in actions)
        self.steps += 1
        over = self.steps == 3
        info: dict[str, Any] = {"battle_won": over and self.ends == "won"}
        if over and self.ends == "late" and self.tells_limit:
            info["episode_limit"] = True
        return 1.5, over, info

    def close(self) -> None:
        self.closed = True

    def get_obs(self) -> list[np.ndarray]:
        return [np.full(3, self.steps, np.float64)] * 2

    def get_state(self) -> np.ndarray:
        return np.full(5, self.steps, np.float64)

    def get_avail_actions(self) -> list[list[int]]:
        return [[1, 0, 0, 0], [0, 1, 1, 1]]  # the first is dead


class FakeLite(gym.Env):  # type: ignore[type-arg]
    """SMAClite's interface: gymnasium's step, no limit, and living units by number."""

    n_agents, n_actions, obs_size, state_size = 2, 4, 3, 5
    observation_space = action_space = gym.spaces.Discrete(2)
    last = 200

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps, self.first = 0, float(self.np_random.random())
        self.agents, self.enemies = {1: "marine"}, {0: "zealot"}
        return self.get_obs(), {}

    def step(self, actions: list[int]) -> Any:
        assert all(type(action) is int for action in actions)
        self.steps += 1
        over = self.steps == self.last
        if over:
            self.enemies.clear()
        return self.get_obs(), 1.5, over, False, {}

    def get_obs(self) -> tuple[np.ndarray, ...]:
        return (np.full(3, self.first), np.full(3, self.steps))

    def get_state(self) -> np.ndarray:
        return np.full(5, self.steps, np.float32)

    def get_avail_actions(self) -> list[np.ndarray]:
        return [np.array([1.0, 0, 0, 0]), np.array([0.0, 1, 1, 1])]


def installed(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Put a library with the fakes in the place of one that users install."""
    module = types.ModuleType(f"{package}.env")
    module.StarCraft2Env = FakeStarCraft  # type: ignore[attr-defined]
    module.StarCraftCapabilityEnvWrapper = FakeStarCraft  # type: ignore[attr-defined]
    module.SMACliteEnv = FakeLite  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    monkeypatch.setitem(sys.modules, f"{package}.env", module)
    for name, last in (("2s3z", 3), ("mmm", 200)):
        spec = gym.envs.registration.EnvSpec(
            f"smaclite/{name}-v0", entry_point=type("Lite", (FakeLite,), {"last": last})
        )
        monkeypatch.setitem(gym.registry, spec.id, spec)


@pytest.mark.parametrize(("name", "ends"), [("3m", "won"), ("2m", "lost"), ("corridor", "late")])
def test_the_interface_of_starcraft(name: str, ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defeat terminates; time that is up does not, which the library tells where it is asked."""
    installed(monkeypatch, "smac")
    team = make_team(f"smac-{name}", 2, 0)
    assert team.spec.agents == 2
    assert team.spec.wins
    assert team.seen.available[0].tolist() == [
        [True, False, False, False],
        [False, True, True, True],
    ]
    for step in range(3):
        outcome = team.step(np.array([[0, 1], [0, 3]]))
        assert outcome.reward.tolist() == [1.5, 1.5]
        assert outcome.won.tolist() == [ends == "won" and step == 2] * 2
        assert outcome.terminated.tolist() == [ends != "late" and step == 2] * 2
        assert outcome.truncated.tolist() == [ends == "late" and step == 2] * 2
    with pytest.raises(
        ValueError, match="agent 0 in copy 0 is not available: choose among \\[0\\]"
    ):
        team.step(np.array([[1, 1], [0, 1]]))
    with pytest.warns(RuntimeWarning, match="does not play an episode twice"):
        assert not team.load_state_dict(team.state_dict())
    with pytest.raises(ValueError, match="smac-4m: the library has no map '4m'"):
        make_team("smac-4m", 1, 0)


def test_smacv2_draws_teams_and_places(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "smacv2")
    team = make_team("smacv2-zerg_20_vs_23", 1, 0)
    assert isinstance(team, Copies)
    game = team._singles[0]._env  # type: ignore[attr-defined]
    assert game.map_name == "10gen_zerg"
    assert game.tells_limit
    assert (game.drawn["n_units"], game.drawn["n_enemies"]) == (20, 23)
    kinds = dict(
        zip(game.drawn["team_gen"]["unit_types"], game.drawn["team_gen"]["weights"], strict=True)
    )
    assert kinds == {"zergling": 0.45, "hydralisk": 0.45, "baneling": 0.1}
    assert set(game.drawn["start_positions"]) == {"dist_type", "p", "map_x", "map_y"}
    for wrong in ("10gen_terran", "human_5_vs_5"):
        with pytest.raises(ValueError, match="names are like terran_5_vs_5"):
            make_team(f"smacv2-{wrong}", 1, 0)


def test_the_interface_of_smaclite(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "smaclite")
    team = make_team("smaclite-2s3z", 2, 0)
    assert team.spec == ("smaclite-2s3z", 2, 4, 3, 5, 150, 20.0, True)
    again = make_team("smaclite-2s3z", 2, 5)
    for step in range(3):
        if step == 1:
            assert again.load_state_dict(team.state_dict())  # it can be seeded
            assert np.array_equal(again.seen.observation, team.seen.observation)
        outcome = team.step(np.array([[0, 1], [0, 3]]))
        assert outcome.reward.tolist() == [1.5, 1.5]
        assert outcome.won.tolist() == outcome.terminated.tolist() == [step == 2] * 2
        assert not outcome.truncated.any()
    late = make_team("smaclite-mmm", 1, 0)
    ends = [late.step(np.array([[0, 1]])) for _ in range(150)]
    assert [one.truncated.item() for one in ends] == [False] * 149 + [True]
    assert not any(one.terminated.item() or one.won.item() for one in ends)
    late.restart(np.array([True]))
    assert not late.step(np.array([[0, 1]])).truncated.item()
    with pytest.raises(ValueError, match="SMAClite has no map '4m'; it has 2s3z, mmm"):
        make_team("smaclite-4m", 1, 0)


@pytest.mark.parametrize("prefix", ["smac", "smacv2", "smaclite"])
def test_starcraft_is_named_by_its_library(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, prefix, None)
    with pytest.raises(ValueError, match="installed from there with git"):
        make_team(f"{prefix}-3m", 1, 0)
