"""SMAC, SMACv2 and SMAClite as a team's environment; they are installed by the user.

None of them is on a package index under its name (the package called smac there is a
hyper-parameter tuner), and StarCraft II itself is a separate download for the first two. Not tested
against the games here, only against environments that imitate their interfaces.

| | SMAC, SMACv2 | SMAClite |
|---|---|---|
| names | smac-3m; smacv2-terran_5_vs_5, by race and sizes of the two sides | smaclite-2s3z |
| reward | as it is; at most 20 in an episode with the library's scaling | the same |
| terminated | a side is dead | the same |
| truncated | ``info["episode_limit"]``, set because we ask for ``continuing_episode`` | 150 steps |
| won | ``info["battle_won"]`` | all enemies are dead and the team is not |
| seed | not the game's to take | of each episode |

SMACv2's teams and places are drawn as in its own examples (``weighted_teams`` of three kinds of
units, ``surrounded_and_reflect``). SMAClite has no step limit of its own; 150 is EPyMARL's.

StarCraft cannot be seeded exactly: a resumed run gives up the episodes that were running. An
evaluation starts games of its own and ends them: evaluate seldom.

References: Samvelyan et al. (2019), SMAC; Ellis et al. (2023), SMACv2; Michalski et al. (2023),
SMAClite.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from thrifty.marl.copies import Copies, Result, View
from thrifty.marl.team import Mark, Spec, Team

# By prefix: module, class, and the address to install from.
_LIBRARIES = {
    "smac": ("smac.env", "StarCraft2Env", "github.com/oxwhirl/smac"),
    "smacv2": ("smacv2.env", "StarCraftCapabilityEnvWrapper", "github.com/oxwhirl/smacv2"),
    "smaclite": ("smaclite.env", "SMACliteEnv", "github.com/uoe-agents/smaclite"),
}
# By race: kinds of units, their weights, and those that no team may consist of alone.
_UNITS: dict[str, tuple[list[str], list[float], list[str]]] = {
    "terran": (["marine", "marauder", "medivac"], [0.45, 0.45, 0.1], ["medivac"]),
    "protoss": (["stalker", "zealot", "colossus"], [0.45, 0.45, 0.1], []),
    "zerg": (["zergling", "hydralisk", "baneling"], [0.45, 0.45, 0.1], ["baneling"]),
}
_LITE_LIMIT = 150


class StarCraft:
    """One environment of SMAC or SMACv2.

    Args:
        env: the environment, made with ``continuing_episode=True``.
        name: of the environment.
    """

    seedable = False

    def __init__(self, env: Any, name: str) -> None:
        self._env = env
        info = env.get_env_info()
        self.spec = Spec(
            name=name,
            agents=int(info["n_agents"]),
            actions=int(info["n_actions"]),
            observation_dim=int(info["obs_shape"]),
            state_dim=int(info["state_shape"]),
            limit=int(info["episode_limit"]),
            largest_return=20.0,
            wins=True,
        )

    def begin(self, seed: int) -> None:
        """Begin an episode; the seed is not the game's to take."""
        self._env.reset()

    def step(self, action_N: Sequence[int]) -> Result:
        """Take one step of all units."""
        reward, over, info = self._env.step(list(action_N))
        truncated = bool(over) and bool(info.get("episode_limit", False))
        won = bool(over) and bool(info.get("battle_won", False))
        return Result(float(reward), bool(over) and not truncated, truncated, won)

    def view(self) -> View:
        """Return what is seen now."""
        return _view(self._env)

    def scene(self) -> list[Mark] | None:
        """Return None: the game has its own replays."""
        return None

    def close(self) -> None:
        """End the game's process."""
        self._env.close()


class SMAClite:
    """One environment of SMAClite.

    Args:
        env: the environment, without gymnasium's wrappers.
        name: of the environment.
    """

    seedable = True

    def __init__(self, env: Any, name: str) -> None:
        self._env = env
        self._steps = 0
        self.spec = Spec(
            name=name,
            agents=int(env.n_agents),
            actions=int(env.n_actions),
            observation_dim=int(env.obs_size),
            state_dim=int(env.state_size),
            limit=_LITE_LIMIT,
            largest_return=20.0,
            wins=True,
        )

    def begin(self, seed: int) -> None:
        """Begin an episode."""
        self._env.reset(seed=seed)
        self._steps = 0

    def step(self, action_N: Sequence[int]) -> Result:
        """Take one step of all units."""
        _, reward, over, _, _ = self._env.step(list(action_N))
        self._steps += 1
        won = bool(over) and not self._env.enemies and bool(self._env.agents)
        return Result(float(reward), bool(over), not over and self._steps >= _LITE_LIMIT, won)

    def view(self) -> View:
        """Return what is seen now."""
        return _view(self._env)

    def scene(self) -> list[Mark] | None:
        """Return None: it has a window of its own."""
        return None

    def close(self) -> None:
        """Close its window, where there is one."""
        self._env.close()


def _view(env: Any) -> View:
    return View(
        np.asarray(env.get_obs(), np.float32),
        np.asarray(env.get_state(), np.float32),
        np.asarray(env.get_avail_actions()) > 0,
    )


def make(name: str, rest: str, copies: int, seed: int) -> Team:
    """Make copies of a map.

    Args:
        name: as the user wrote it, ``smac-3m``, ``smacv2-terran_5_vs_5``, ``smaclite-2s3z``.
        rest: the map.
        copies: how many; each starts a game of its own.
        seed: of the episodes, where the game takes one.

    Raises:
        ValueError: the library is not installed, or has no such map.
    """
    prefix = name.partition("-")[0]
    module, kind, address = _LIBRARIES[prefix]
    try:
        library = getattr(importlib.import_module(module), kind)
    except (ImportError, AttributeError):
        raise ValueError(
            f"{name} needs the library at {address}, installed from there with git: the package "
            "index has something else under such names"
        ) from None
    if prefix == "smaclite":
        return Copies(functools.partial(_lite, name, rest), copies, seed)
    given = _drawn(rest) if prefix == "smacv2" else {"map_name": rest}
    return Copies(functools.partial(_battle, library, name, given), copies, seed)


def _lite(name: str, rest: str) -> SMAClite:
    known = f"smaclite/{rest}-v0"
    if known not in gym.registry:
        maps = [one[len("smaclite/") : -len("-v0")] for one in gym.registry if "smaclite/" in one]
        raise ValueError(f"SMAClite has no map {rest!r}; it has {', '.join(maps)}")
    return SMAClite(gym.make(known).unwrapped, name)


def _battle(library: Any, name: str, given: dict[str, Any]) -> StarCraft:
    try:
        env = library(**given, continuing_episode=True)
    except KeyError as problem:  # what the library says of a map that is not in its table
        raise ValueError(f"{name}: the library has no map {problem}") from None
    return StarCraft(env, name)


def _drawn(rest: str) -> dict[str, Any]:
    """The arguments of a game of SMACv2, as in its examples."""
    found = re.fullmatch(rf"({'|'.join(_UNITS)})_(\d+)_vs_(\d+)", rest)
    if found is None:
        raise ValueError(
            f"SMACv2 has no game {rest!r}; names are like terran_5_vs_5, protoss_10_vs_11 or "
            "zerg_20_vs_23"
        )
    race, units, enemies = found[1], int(found[2]), int(found[3])
    kinds, weights, never_alone = _UNITS[race]
    return {
        "map_name": f"10gen_{race}",
        "capability_config": {
            "n_units": units,
            "n_enemies": enemies,
            "team_gen": {
                "dist_type": "weighted_teams",
                "unit_types": kinds,
                "weights": weights,
                "exception_unit_types": never_alone,
                "observe": True,
            },
            "start_positions": {
                "dist_type": "surrounded_and_reflect",
                "p": 0.5,
                "map_x": 32,
                "map_y": 32,
            },
        },
        "conic_fov": False,
        "obs_own_pos": True,
        "use_unit_ranges": True,
        "min_attack_range": 2,
    }
