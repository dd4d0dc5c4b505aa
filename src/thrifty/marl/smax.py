"""SMAX, JaxMARL's fight between two sides, as a team's environment. It is not StarCraft.

Rules, maps and the scripted enemy imitate the StarCraft challenge; win rates of the two cannot be
compared, and everything here is labelled SMAX.

| here | there |
|---|---|
| enemy | ``HeuristicEnemySMAX``: shoots the closest; walls kill (JaxMARL's baselines) |
| state | ``world_state``, raw: coordinates up to 32 |
| available | ``get_avail_actions``; the dead may only stop |
| reward | the library's times 10 (JaxMARL's baselines); at most 20 in an episode |
| end | terminated where a side is dead, truncated at the step limit; ``done`` there merges them |

Copies are stepped by one compiled call without automatic reset, so the last observation survives;
restarting is a second one. The first call of each takes 10 to 40 seconds; where the variable
JAX_COMPILATION_CACHE_DIR names a folder, later processes do not wait. Needs the extra smax.

Reference: Rutherford et al. (2024), JaxMARL, section 4.
"""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from thrifty.marl.team import (
    Bools,
    Integers,
    Mark,
    Outcome,
    Seen,
    Spec,
    Team,
    check_actions,
    check_copies,
)

_REWARD_SCALE = 10.0


class _Game(NamedTuple):
    """A map with its compiled functions, each over copies; made once a process."""

    env: Any
    fresh: Any
    """keys -> state."""
    begin: Any
    """keys, state, chosen -> state, what is looked at."""
    advance: Any
    """keys, state, actions -> state, reward, what is looked at."""
    look: Any
    """state -> observation, state, available, a side lives (twice), steps."""


@functools.cache
def _game(map_name: str) -> _Game:
    import jax
    from jaxmarl.environments.smax import HeuristicEnemySMAX
    from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO

    if map_name not in MAP_NAME_TO_SCENARIO:
        raise ValueError(f"SMAX has no map {map_name!r}; it has {', '.join(MAP_NAME_TO_SCENARIO)}")
    env: Any = HeuristicEnemySMAX(
        scenario=MAP_NAME_TO_SCENARIO[map_name],
        see_enemy_actions=True,
        walls_cause_death=True,
        attack_mode="closest",
    )
    N = env.num_allies

    def look(state: Any) -> tuple[Any, ...]:
        observation = env.get_obs(state)
        available = env.get_avail_actions(state)
        alive = state.state.unit_alive
        return (
            jax.numpy.stack([observation[agent] for agent in env.agents]),
            env.get_world_state(state),
            jax.numpy.stack([available[agent] for agent in env.agents]) > 0,
            alive[:N].any(),
            alive[N:].any(),
            state.state.step,
        )

    def advance(key: Any, state: Any, action_N: Any) -> tuple[Any, ...]:
        actions = {agent: action_N[n] for n, agent in enumerate(env.agents)}
        _, state, reward, _, _ = env.step_env(key, state, actions)
        return state, reward[env.agents[0]] * _REWARD_SCALE, look(state)

    def begin(key: Any, state: Any, chosen: Any) -> tuple[Any, ...]:
        _, fresh = env.reset(key)
        state = jax.tree.map(lambda new, old: jax.numpy.where(chosen, new, old), fresh, state)
        return state, look(state)

    def fresh(key: Any) -> Any:
        return env.reset(key)[1]

    return _Game(env, *(jax.jit(jax.vmap(one)) for one in (fresh, begin, advance, look)))


class SMAX:
    """E copies of one map.

    Args:
        copies: E.
        seed: of all random numbers.
        map_name: such as 3m, 2s3z, 3s5z.
        name: shown in records and reports.

    Raises:
        ValueError: JaxMARL is not installed, or has no such map.
    """

    def __init__(self, copies: int, seed: int, map_name: str, name: str = "SMAX") -> None:
        check_copies(copies, seed)
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")  # deprecations inside JAX, and a greeting
                import jax
                import jaxmarl  # noqa: F401 - to tell its absence from other faults

                self._game = _game(map_name)
        except ImportError:
            raise ValueError(f"{name} needs JaxMARL: pip install 'thrifty[smax]'") from None
        env = self._game.env
        self.copies = copies
        self._jax = jax
        self._key = jax.random.PRNGKey(seed)
        self.spec = Spec(
            name=name,
            agents=env.num_allies,
            actions=int(env.action_spaces[env.agents[0]].n),
            observation_dim=int(env.obs_size),
            state_dim=int(env.state_size),
            limit=int(env.max_steps),
            largest_return=2 * _REWARD_SCALE,
            wins=True,
        )
        self._state = self._game.fresh(self._keys())
        self._take(self._game.look(self._state))

    def _keys(self) -> Any:
        """Return a key for each copy, and move on."""
        keys = self._jax.random.split(self._key, self.copies + 1)
        self._key = keys[0]
        return keys[1:]

    def _take(self, looked: tuple[Any, ...]) -> None:
        observation, state, available, ally, enemy, step = map(np.asarray, looked)
        self._seen = Seen(observation.astype(np.float32), state.astype(np.float32), available)
        self._ally_E, self._enemy_E, self._step_E = ally, enemy, step

    @property
    def seen(self) -> Seen:
        """Return what is seen now."""
        return self._seen

    def restart(self, chosen_E: Bools) -> None:
        """Begin a new episode in the chosen copies."""
        self._state, looked = self._game.begin(self._keys(), self._state, chosen_E)
        self._take(looked)

    def step(self, action_EN: Integers) -> Outcome:
        """Take one step in all copies."""
        check_actions(action_EN, self._seen.available)
        self._state, reward, looked = self._game.advance(self._keys(), self._state, action_EN)
        self._take(looked)
        terminated = ~self._ally_E | ~self._enemy_E
        truncated = ~terminated & (self._step_E >= self.spec.limit)
        won = self._ally_E & ~self._enemy_E
        return Outcome(np.asarray(reward, np.float32), terminated, truncated, won)

    def scene(self) -> list[Mark] | None:
        """Return all living units."""
        units = self._state.state
        types = np.asarray(units.unit_types[0])
        whole = np.asarray(self._game.env.unit_type_health)[types]
        return [
            Mark(float(x), float(y), int(unit >= self.spec.agents), float(health / most))
            for unit, ((x, y), health, most, alive) in enumerate(
                zip(
                    np.asarray(units.unit_positions[0]),
                    np.asarray(units.unit_health[0]),
                    whole,
                    np.asarray(units.unit_alive[0]),
                    strict=True,
                )
            )
            if alive
        ]

    def close(self) -> None:
        """Do nothing: all is in this process."""

    def state_dict(self) -> dict[str, Any]:
        """Return the arrays of the environments' state and the random key."""
        leaves = self._jax.tree.leaves(self._state)
        return {"key": np.array(self._key), "leaves": [np.array(leaf) for leaf in leaves]}

    def load_state_dict(self, state: Mapping[str, Any]) -> bool:
        """Take over a stored state; the running episodes go on."""
        jnp = self._jax.numpy
        self._key = jnp.asarray(state["key"])
        structure = self._jax.tree.structure(self._state)
        leaves = [jnp.asarray(leaf) for leaf in state["leaves"]]
        self._state = self._jax.tree.unflatten(structure, leaves)
        self._take(self._game.look(self._state))
        return True


def make(name: str, rest: str, copies: int, seed: int) -> Team:
    """Make copies of a map.

    Args:
        name: as the user wrote it.
        rest: the map, what follows ``smax-``.
        copies: how many.
        seed: of all random numbers.
    """
    return SMAX(copies, seed, rest, name=f"SMAX {rest}")
