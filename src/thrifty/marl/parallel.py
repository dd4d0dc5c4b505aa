"""PettingZoo's parallel environments as a team's environment: mpe2 by name, any other by function.

| here | there |
|---|---|
| observation | each agent's, flattened, padded with zeros to the longest |
| state | ``state()``; the observations one after the other where there is none |
| actions | discrete; agents with fewer have the others masked |
| available | ``action_mask`` in the observation or the info, where there is one; else all |
| reward | the mean over agents; a particle world whose agents play against each other is refused |
| end | for all agents at once, terminated if it is so for all, else truncated |
| leaving | an agent that leaves before the others is refused |

Needs the extra marl (pettingzoo, mpe2).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from thrifty.marl.copies import Copies, Result, View
from thrifty.marl.team import Mark, Spec, Team

_LIMIT = 25  # steps of the particle environments


class ParallelEnvironment:
    """One parallel environment.

    Args:
        env: with PettingZoo's parallel interface.
        name: of the environment.
        limit: longest episode in steps.

    Raises:
        ValueError: actions that are not discrete, or agents that play against each other.
    """

    seedable = True

    def __init__(self, env: Any, name: str, limit: int) -> None:
        self._env = env
        self._agents: list[str] = list(env.possible_agents)
        counts = []
        for agent in self._agents:
            space = env.action_space(agent)
            if not hasattr(space, "n"):
                raise ValueError(
                    f"{name}: the actions of {agent} are {space}; value decomposition needs "
                    "discrete actions"
                )
            counts.append(int(space.n))
        self._name = name
        self._check_sides()
        self._counts = counts
        self._last: dict[str, Any] = {}
        self._infos: dict[str, Any] = {}
        self._sizes: list[int] = []
        self.begin(0)
        view = self.view()
        self.spec = Spec(
            name=name,
            agents=len(self._agents),
            actions=max(self._counts),
            observation_dim=view.observation.shape[1],
            state_dim=len(view.state),
            limit=limit,
        )

    def _check_sides(self) -> None:
        """Refuse agents of a particle world that are on both sides: their mean reward says nothing.

        Rewards that differ are no sign of sides: each agent of simple_spread pays for its own
        collisions.
        """
        world = self._world()
        played = [
            one
            for one in getattr(world, "agents", ())
            if getattr(one, "name", None) in self._agents
        ]
        foes = [one.name for one in played if getattr(one, "adversary", False)]
        if 0 < len(foes) < len(played):
            raise ValueError(
                f"{self._name}: {', '.join(foes)} and the others play against each other, and a "
                "team has one reward: take a world without adversaries, such as "
                "mpe-simple_spread, or wrap this one so that one side is not among its agents"
            )

    def begin(self, seed: int) -> None:
        """Begin an episode."""
        self._last, self._infos = self._env.reset(seed=seed)
        self._check(self._last)

    def step(self, action_N: Sequence[int]) -> Result:
        """Take one step of all agents."""
        actions = dict(zip(self._agents, action_N, strict=True))
        self._last, rewards, terminations, truncations, self._infos = self._env.step(actions)
        over = [a for a in self._agents if terminations.get(a) or truncations.get(a)]
        ended = len(over) == len(self._agents)
        if not ended and (over or set(self._env.agents) != set(self._agents)):
            gone = over or sorted(set(self._agents) - set(self._env.agents))
            raise ValueError(
                f"{self._name}: {', '.join(gone)} left before the others; a team stays whole "
                "until the end here: wrap the environment so that it stays and does nothing"
            )
        terminated = ended and all(terminations.values())
        self._check(self._last)
        reward = float(np.mean([rewards[agent] for agent in self._agents]))
        return Result(reward, terminated, ended and not terminated)

    def _check(self, observations: Mapping[str, Any]) -> None:
        missing = [agent for agent in self._agents if agent not in observations]
        if missing:
            raise ValueError(
                f"{self._name}: {', '.join(missing)} did not get an observation; a team stays "
                "whole until the end here"
            )

    def view(self) -> View:
        """Return what is seen now."""
        observations = []
        available = np.zeros((len(self._agents), max(self._counts)), bool)
        for n, (agent, count) in enumerate(zip(self._agents, self._counts, strict=True)):
            seen, mask = self._last[agent], self._infos.get(agent, {}).get("action_mask")
            if isinstance(seen, Mapping):
                seen, mask = seen["observation"], seen.get("action_mask", mask)
            observations.append(np.asarray(seen, np.float32).ravel())
            available[n, :count] = True if mask is None else mask
        padded = np.zeros((len(observations), max(map(len, observations))), np.float32)
        for row, seen in zip(padded, observations, strict=True):
            row[: len(seen)] = seen
        try:
            state = np.asarray(self._env.state(), np.float32).ravel()
        except (AttributeError, NotImplementedError):
            state = padded.ravel()
        return View(padded, state, available)

    def scene(self) -> list[Mark] | None:
        """Return agents and landmarks of a particle world; None elsewhere."""
        world = self._world()
        if world is None:
            return None
        return [
            Mark(float(entity.state.p_pos[0]), float(entity.state.p_pos[1]), side, 1.0)
            for side, entities in ((2, world.landmarks), (0, world.agents))
            for entity in entities
        ]

    def _world(self) -> Any:
        return getattr(getattr(self._env, "unwrapped", None), "world", None)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


class ParallelTeam(Copies):
    """Copies of a parallel environment of your own.

    Args:
        make: makes one environment with PettingZoo's parallel interface.
        copies: how many are stepped together.
        seed: of the episodes.
        limit: longest episode in steps.
        name: shown in records and reports.

    Example:
        A module ``mylab`` with ``def spread(copies, seed): return ParallelTeam(make, copies, seed,
        limit=25)`` is trained by ``thrifty train mast.mast --env mylab:spread``.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        copies: int,
        seed: int,
        *,
        limit: int,
        name: str = "parallel environment",
    ) -> None:
        super().__init__(lambda: ParallelEnvironment(make(), name, limit), copies, seed)


def make(name: str, rest: str, copies: int, seed: int) -> Team:
    """Make copies of an environment of mpe2.

    Args:
        name: as the user wrote it.
        rest: what follows ``mpe-``, such as simple_spread.
        copies: how many.
        seed: of the episodes.

    Raises:
        ValueError: mpe2 is not installed, or has no such environment.
    """
    try:
        import mpe2
        from pettingzoo.utils.conversions import aec_to_parallel
    except ImportError:
        raise ValueError(f"{name} needs mpe2: pip install 'thrifty[marl]'") from None
    modules = [one.name for one in pkgutil.iter_modules(mpe2.__path__)]
    versions = sorted(one for one in modules if one.rpartition("_v")[0] == rest)
    known = sorted({one.rpartition("_v")[0] for one in modules if "_v" in one})
    if not versions:
        raise ValueError(f"mpe2 has no environment {rest!r}; it has {', '.join(known)}")
    module = importlib.import_module(f"mpe2.{versions[-1]}")
    # Without the wrappers that check actions and the order of calls, as a team does: a third of the
    # time of a step.
    return ParallelTeam(
        lambda: aec_to_parallel(module.raw_env(max_cycles=_LIMIT)),
        copies,
        seed,
        limit=_LIMIT,
        name=name,
    )
