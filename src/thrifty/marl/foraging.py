"""Level-Based Foraging as a team's environment.

| here | there |
|---|---|
| state | the observations one after the other |
| available | the library's valid actions |
| reward | the sum over players (at most 1 in an episode) |
| end | terminated where no food is left, truncated at 50 steps: the library merges the two |

Needs the extra marl (lbforaging).

Reference: Papoudakis et al. (2021), Benchmarking multi-agent deep RL, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from thrifty.marl.copies import Copies, Result, View
from thrifty.marl.team import Mark, Spec, Team


class Foraging:
    """One foraging environment.

    Args:
        env: of lbforaging, unwrapped.
        name: of the environment.
    """

    seedable = True

    def __init__(self, env: Any, name: str) -> None:
        self._env = env
        self._last: Sequence[Any] = ()
        self.begin(0)
        view = self.view()
        self.spec = Spec(
            name=name,
            agents=len(view.observation),
            actions=view.available.shape[1],
            observation_dim=view.observation.shape[1],
            state_dim=len(view.state),
            limit=int(env._max_episode_steps),
            largest_return=1.0,
        )

    def begin(self, seed: int) -> None:
        """Begin an episode."""
        self._last, _ = self._env.reset(seed=seed)

    def step(self, action_N: Sequence[int]) -> Result:
        """Take one step of all players."""
        self._last, rewards, over, _, _ = self._env.step(list(action_N))
        eaten = not self._env.field.any()
        return Result(float(np.sum(rewards)), eaten, bool(over) and not eaten)

    def view(self) -> View:
        """Return what is seen now."""
        observation_NO = np.stack([np.asarray(seen, np.float32).ravel() for seen in self._last])
        available = np.zeros((len(observation_NO), 6), bool)
        for n, player in enumerate(self._env.players):
            for action in self._env._valid_actions[player]:
                available[n, action.value] = True
        return View(observation_NO, observation_NO.ravel(), available)

    def scene(self) -> list[Mark] | None:
        """Return players and food."""
        food = [
            Mark(float(column), float(-row), 2, 1.0)
            for row, column in np.argwhere(self._env.field > 0)
        ]
        players = [
            Mark(float(p.position[1]), float(-p.position[0]), 0, 1.0) for p in self._env.players
        ]
        return food + players

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def make(name: str, rest: str, copies: int, seed: int) -> Team:
    """Make copies of a foraging environment.

    Args:
        name: as the user wrote it.
        rest: what follows ``lbf-``, such as 8x8-2p-3f.
        copies: how many.
        seed: of the episodes.

    Raises:
        ValueError: lbforaging is not installed, or has no such environment.
    """
    try:
        import lbforaging  # noqa: F401 - registers its environments
    except ImportError:
        raise ValueError(f"{name} needs lbforaging: pip install 'thrifty[marl]'") from None
    known = f"Foraging-{rest}-v3"
    if known not in gym.registry:
        raise ValueError(
            f"lbforaging has no environment {rest!r}; names are like 8x8-2p-3f or 8x8-2p-2f-coop"
        )
    spec = gym.registry[known]
    from lbforaging.foraging import ForagingEnv

    return Copies(lambda: Foraging(ForagingEnv(**spec.kwargs), name), copies, seed)
