"""What a team of agents sees, does and gets: the interface of all multi-agent environments here.

An environment is E copies stepped together, as arrays. One reward is shared by the team. An episode
ends because the game is over (terminated) or because time is up (truncated); the two are never
merged, and both ends leave the last observation and state in place until `restart` is called, so
that a learner can bootstrap from them.

Legend: E copies, N agents, O observation size, S state size, U actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]


class Spec(NamedTuple):
    """Sizes and facts of one environment."""

    name: str
    agents: int
    actions: int
    observation_dim: int
    state_dim: int
    limit: int
    """Longest episode in steps, after which it is truncated."""
    largest_return: float | None = None
    """Largest undiscounted return that an episode can have; None where it is not known."""
    wins: bool = False
    """Whether an episode can be won."""


class Seen(NamedTuple):
    """What the team sees now."""

    observation: Floats
    """[E, N, O]."""
    state: Floats
    """[E, S]."""
    available: Bools
    """[E, N, U]: True where an action may be taken; at least one for each agent."""


class Outcome(NamedTuple):
    """What one step of all copies brought; what is seen after it is `Team.seen`."""

    reward: Floats
    """[E]."""
    terminated: Bools
    """[E]: the game is over."""
    truncated: Bools
    """[E]: time was up and the game not over."""
    won: Bools
    """[E]: the episode ended with a win."""


class Mark(NamedTuple):
    """One thing in a picture of the game, for the film of an episode."""

    x: float
    y: float
    side: int
    """0 the team, 1 its opponents, 2 anything else."""
    share: float
    """How much of it is left, in [0, 1]: health, or 1."""


class Team(Protocol):
    """E copies of a cooperative game."""

    spec: Spec
    copies: int

    @property
    def seen(self) -> Seen:
        """Return what the team sees now, after a step or a restart."""
        ...

    def restart(self, chosen_E: Bools) -> None:
        """Begin a new episode in the chosen copies."""
        ...

    def step(self, action_EN: Integers) -> Outcome:
        """Take one step in all copies; a copy whose episode is over must be restarted before."""
        ...

    def scene(self) -> list[Mark] | None:
        """Return a picture of the first copy; None for games without space."""
        ...

    def close(self) -> None:
        """Free what the copies hold outside of this process."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future, random numbers included."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> bool:
        """Take over a stored state; return whether the running episodes go on."""
        ...


def check_copies(copies: int, seed: int) -> None:
    """Refuse a number of copies or a seed that cannot work.

    Raises:
        ValueError: fewer than one copy, or a negative seed.
    """
    if copies < 1:
        raise ValueError(f"environments must be at least 1, got {copies}")
    if seed < 0:
        raise ValueError(f"the seed must be an integer of at least 0, got {seed}")


def check_actions(action_EN: Integers, available_ENU: Bools) -> None:
    """Refuse actions that are not available.

    Raises:
        ValueError: wrong shape, or the first agent whose action is not available.
    """
    shape = available_ENU.shape[:2]
    if action_EN.shape != shape:
        raise ValueError(f"actions have shape {action_EN.shape}, expected {shape}")
    inside = (action_EN >= 0) & (action_EN < available_ENU.shape[2])
    at = np.clip(action_EN, 0, available_ENU.shape[2] - 1)
    allowed = inside & np.take_along_axis(available_ENU, at[..., None], axis=2)[..., 0]
    if not allowed.all():
        copy, agent = np.argwhere(~allowed)[0]
        raise ValueError(
            f"action {action_EN[copy, agent]} of agent {agent} in copy {copy} is not available: "
            f"choose among {np.flatnonzero(available_ENU[copy, agent]).tolist()}"
        )
