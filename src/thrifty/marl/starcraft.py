"""SMAC, SMACv2 and SMAClite as a team's environment; they are installed by the user.

The three share one interface: ``get_env_info``, ``reset``, ``step``, ``get_obs``, ``get_state``,
``get_avail_actions``. None of them is on a package index under its name (the package called smac
there is a hyper-parameter tuner), and StarCraft II itself is a separate download for the first two.
Not tested against the games here, only against an environment that imitates the interface.

| here | there |
|---|---|
| reward | as it is; at most 20 in an episode with the library's scaling |
| end | truncated where ``info["episode_limit"]`` says so, else terminated |
| won | ``info["battle_won"]`` |

StarCraft cannot be seeded exactly: a resumed run gives up the episodes that were running. An
evaluation starts games of its own and ends them: evaluate seldom.

References: Samvelyan et al. (2019), SMAC; Ellis et al. (2023), SMACv2.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from thrifty.marl.copies import Copies, Result, View
from thrifty.marl.team import Mark, Spec, Team

# By prefix: module, class, and the address to install from.
_LIBRARIES = {
    "smac": ("smac.env", "StarCraft2Env", "github.com/oxwhirl/smac"),
    "smacv2": ("smacv2.env", "StarCraft2Env", "github.com/oxwhirl/smacv2"),
    "smaclite": ("smaclite.env", "SMACliteEnv", "github.com/uoe-agents/smaclite"),
}


class StarCraft:
    """One environment with SMAC's interface.

    Args:
        env: the environment.
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
        return View(
            np.asarray(self._env.get_obs(), np.float32),
            np.asarray(self._env.get_state(), np.float32),
            np.asarray(self._env.get_avail_actions()) > 0,
        )

    def scene(self) -> list[Mark] | None:
        """Return None: the game has its own replays."""
        return None

    def close(self) -> None:
        """End the game's process."""
        self._env.close()


def make(name: str, rest: str, copies: int, seed: int) -> Team:
    """Make copies of a map.

    Args:
        name: as the user wrote it, ``smac-3m``, ``smacv2-10gen_terran``, ``smaclite-2s3z``.
        rest: the map.
        copies: how many; each starts a game of its own.
        seed: not the game's to take.

    Raises:
        ValueError: the library is not installed.
    """
    module, kind, address = _LIBRARIES[name.partition("-")[0]]
    try:
        library = importlib.import_module(module)
        environment = getattr(library, kind)
    except (ImportError, AttributeError):
        raise ValueError(
            f"{name} needs the library at {address}, installed from there with git: the package "
            "index has something else under such names"
        ) from None
    return Copies(lambda: StarCraft(environment(map_name=rest), name), copies, seed)
