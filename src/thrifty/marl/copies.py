"""Copies of an ordinary environment, one Python object each, stepped one after the other.

Adapters of libraries say how one environment of theirs is begun, stepped and looked at (`Single`);
the rest is here. The state of a copy is not stored but replayed: an episode is its seed and its
actions. What comes back is compared, and where an environment cannot be seeded its running episodes
are given up on resuming.

Legend: E copies, N agents, O observation size, S state size, U actions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from thrifty.marl.team import (
    Bools,
    Floats,
    Integers,
    Mark,
    Outcome,
    Seen,
    Spec,
    check_actions,
    check_copies,
)


class View(NamedTuple):
    """What a team sees in one environment."""

    observation: Floats
    """[N, O]."""
    state: Floats
    """[S]."""
    available: Bools
    """[N, U]."""


class Result(NamedTuple):
    """What a step of one environment brought."""

    reward: float
    terminated: bool
    truncated: bool
    won: bool = False


class Single(Protocol):
    """One environment of a library."""

    spec: Spec
    seedable: bool
    """Whether ``begin`` with a seed and the same actions lead to the same episode."""

    def begin(self, seed: int) -> None:
        """Begin an episode."""
        ...

    def step(self, action_N: Sequence[int]) -> Result:
        """Take one step of all agents."""
        ...

    def view(self) -> View:
        """Return what is seen now."""
        ...

    def scene(self) -> list[Mark] | None:
        """Return a picture; None where there is none."""
        ...

    def close(self) -> None:
        """Free what it holds outside of this process."""
        ...


class Copies:
    """E environments of a library as a team's environment.

    Args:
        make: makes one environment.
        copies: E.
        seed: the episodes' seeds derive from it.
    """

    def __init__(self, make: Callable[[], Single], copies: int, seed: int) -> None:
        check_copies(copies, seed)
        self.copies = copies
        self._singles = [make() for _ in range(copies)]
        self.spec = self._singles[0].spec
        self._rng = np.random.default_rng(seed)
        self._seed_E = np.zeros(copies, np.int64)
        self._actions: list[list[list[int]]] = [[] for _ in range(copies)]
        self._views: dict[int, View] = {}  # by copy; looking takes long, so once after each change
        self.restart(np.ones(copies, bool))

    @property
    def seen(self) -> Seen:
        """Return what all copies see now."""
        views = [self._views[copy] for copy in range(self.copies)]
        return Seen(*(np.stack(parts) for parts in zip(*views, strict=True)))

    def restart(self, chosen_E: Bools) -> None:
        """Begin a new episode, with a seed of its own, in the chosen copies."""
        for copy in np.flatnonzero(chosen_E).tolist():
            self._seed_E[copy] = self._rng.integers(2**31)
            self._singles[copy].begin(int(self._seed_E[copy]))
            self._actions[copy] = []
            self._views[copy] = self._singles[copy].view()

    def step(self, action_EN: Integers) -> Outcome:
        """Take one step in every copy."""
        check_actions(action_EN, self.seen.available)
        results = []
        for single, taken, action_N in zip(
            self._singles, self._actions, action_EN.tolist(), strict=True
        ):
            taken.append(action_N)
            results.append(single.step(action_N))
        self._views = {copy: single.view() for copy, single in enumerate(self._singles)}
        reward, terminated, truncated, won = zip(*results, strict=True)
        return Outcome(
            np.array(reward, np.float32), np.array(terminated), np.array(truncated), np.array(won)
        )

    def scene(self) -> list[Mark] | None:
        """Return a picture of the first copy."""
        return self._singles[0].scene()

    def close(self) -> None:
        """Close all copies."""
        for single in self._singles:
            single.close()

    def state_dict(self) -> dict[str, Any]:
        """Return seeds, actions, and what is seen, to compare with."""
        seen = self.seen
        return {
            "rng": self._rng.bit_generator.state,
            "seeds": self._seed_E.copy(),
            "actions": [np.array(taken, np.int64) for taken in self._actions],
            "observation": seen.observation,
            "state": seen.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> bool:
        """Play the stored episodes again up to where they were.

        Returns:
            Whether they came back; if not, all copies are at the beginning of new ones.
        """
        self._rng.bit_generator.state = state["rng"]
        self._seed_E = np.array(state["seeds"], np.int64)
        if self._singles[0].seedable:
            for copy, single in enumerate(self._singles):
                single.begin(int(self._seed_E[copy]))
                self._actions[copy] = np.array(state["actions"][copy]).tolist()
                for action_N in self._actions[copy]:
                    single.step(action_N)
                self._views[copy] = single.view()
            seen = self.seen
            if np.array_equal(seen.observation, state["observation"]) and np.array_equal(
                seen.state, state["state"]
            ):
                return True
        warnings.warn(
            f"{self.spec.name} does not play an episode twice in the same way: the running ones "
            "are given up, and the resumed run differs from one that was never stopped",
            RuntimeWarning,
            stacklevel=2,
        )
        self.restart(np.ones(self.copies, bool))
        return False
