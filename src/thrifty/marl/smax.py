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

Copies are stepped by one compiled call without automatic reset, so the last observation survives.
First states are drawn many at a time; a copy that restarts takes its next one in the step that
follows. JAX reads what it is given where that lies and when its turn comes, so no array of ours is
written to after a call had it. The first calls take 10 to 40 seconds; where the variable
JAX_COMPILATION_CACHE_DIR names a folder, later processes do not wait. Needs the extra smax.

Legend: E copies, K first states of each.

Reference: Rutherford et al. (2024), JaxMARL, section 4.
"""

from __future__ import annotations

import contextlib
import functools
import io
import sys
import warnings
from collections.abc import Iterator, Mapping
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


_DRAWN = 8  # first states of a copy that are drawn at a time


class _Game(NamedTuple):
    """A map with its compiled functions; made once a process."""

    env: Any
    draw: Any
    """key, E -> first states [K, E], what is looked at in them, the next key."""
    settle: Any
    """states, first states, number of the first state and whether it is due, each [E] -> states."""
    advance: Any
    """key, the four of ``settle``, actions -> states, reward, what is looked at, the next key."""
    look: Any
    """states -> observation, state, available, a side lives (twice), steps."""


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Swallow deprecations inside JAX and JaxMARL's greeting."""
    nowhere = io.StringIO()
    # JaxMARL, where brax is missing, sets standard output to what it was in the beginning.
    original, sys.__stdout__ = sys.__stdout__, nowhere  # type: ignore[misc, assignment]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.__stdout__ = original  # type: ignore[misc]


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

    def settled(state: Any, first_K: Any, number: Any, due: Any) -> Any:
        def leaf(new_K: Any, old: Any) -> Any:
            return jax.numpy.where(due, new_K[number], old)

        return jax.tree.map(leaf, first_K, state)

    def step(key: Any, state: Any, action_N: Any) -> tuple[Any, ...]:
        actions = {agent: action_N[n] for n, agent in enumerate(env.agents)}
        _, state, reward, _, _ = env.step_env(key, state, actions)
        return state, reward[env.agents[0]] * _REWARD_SCALE, look(state)

    settle = jax.vmap(settled, (0, 1, 0, 0))

    def advance(key: Any, state: Any, first: Any, number: Any, due: Any, action: Any) -> Any:
        keys = jax.random.split(key, len(action) + 1)
        state = settle(state, first, number, due)
        return *jax.vmap(step)(keys[1:], state, action), keys[0]

    def draw(key: Any, copies: int) -> tuple[Any, ...]:
        keys = jax.random.split(key, _DRAWN * copies + 1)
        each = keys[1:].reshape(_DRAWN, copies, *keys.shape[1:])
        first = jax.vmap(jax.vmap(lambda one: env.reset(one)[1]))(each)
        return first, jax.vmap(jax.vmap(look))(first), keys[0]

    return _Game(
        env,
        jax.jit(draw, static_argnums=1),
        jax.jit(settle),
        jax.jit(advance),
        jax.jit(jax.vmap(look)),
    )


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
            with _silence():
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
        self._draw()
        self._state = jax.tree.map(lambda leaf: leaf[0], self._first)
        self._taken_E[:] = 1
        self._take(self._game.look(self._state))

    def _draw(self) -> None:
        """Draw first states, and begin with each copy's first one."""
        self._drawn_with = self._key
        self._first, looked, self._key = self._game.draw(self._key, self.copies)
        self._first_looked = [np.asarray(part) for part in looked]
        self._taken_E = np.zeros(self.copies, np.int64)
        self._number_E = np.zeros(self.copies, np.int64)
        self._due_E = np.zeros(self.copies, bool)

    def _settle(self) -> None:
        """Put the first states that are due into their copies."""
        self._state = self._game.settle(self._state, self._first, self._number_E, self._due_E)
        self._due_E = np.zeros(self.copies, bool)

    def _take(self, looked: tuple[Any, ...]) -> None:
        observation, state, available, ally, enemy, step = map(np.array, looked)
        self._seen = Seen(observation.astype(np.float32), state.astype(np.float32), available)
        self._ally_E, self._enemy_E, self._step_E = ally, enemy, step

    @property
    def seen(self) -> Seen:
        """Return what is seen now."""
        return self._seen

    def restart(self, chosen_E: Bools) -> None:
        """Begin a new episode in the chosen copies."""
        if (self._taken_E[chosen_E] == _DRAWN).any():
            self._settle()
            self._draw()
        self._number_E = np.where(chosen_E, self._taken_E, self._number_E)
        self._taken_E[chosen_E] += 1
        self._due_E = self._due_E | chosen_E
        copy_at = np.flatnonzero(chosen_E)
        number_at = self._number_E[copy_at]
        observation, state, available = self._seen
        # What was given out stays.
        self._seen = Seen(observation.copy(), state.copy(), available.copy())
        ours = (*self._seen, self._ally_E, self._enemy_E, self._step_E)
        for mine, first in zip(ours, self._first_looked, strict=True):
            mine[copy_at] = first[number_at, copy_at]

    def step(self, action_EN: Integers) -> Outcome:
        """Take one step in all copies."""
        check_actions(action_EN, self._seen.available)
        self._state, reward, looked, self._key = self._game.advance(
            self._key, self._state, self._first, self._number_E, self._due_E, action_EN
        )
        self._due_E = np.zeros(self.copies, bool)
        self._take(looked)
        terminated = ~self._ally_E | ~self._enemy_E
        truncated = ~terminated & (self._step_E >= self.spec.limit)
        won = self._ally_E & ~self._enemy_E
        return Outcome(np.asarray(reward, np.float32), terminated, truncated, won)

    def scene(self) -> list[Mark] | None:
        """Return all living units."""
        self._settle()
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
        """Return the arrays of the environments' state, and the random keys."""
        self._settle()
        leaves = self._jax.tree.leaves(self._state)
        return {
            "key": np.array(self._key),
            "drawn_with": np.array(self._drawn_with),
            "taken": self._taken_E.copy(),
            "leaves": [np.array(leaf) for leaf in leaves],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> bool:
        """Take over a stored state; the running episodes go on."""
        jnp = self._jax.numpy
        self._key = jnp.array(state["drawn_with"])
        self._draw()
        self._key = jnp.array(state["key"])
        self._taken_E = np.array(state["taken"], np.int64)
        structure = self._jax.tree.structure(self._state)
        leaves = [jnp.array(leaf) for leaf in state["leaves"]]
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
