"""A team at work: copies of an environment, what the team remembers, and episodes as they grow.

A copy begins its next episode as soon as one is over; nothing waits for the slowest.

Legend: E copies, N agents, C columns of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from thrifty.marl.episodes import Rows
from thrifty.marl.learner import Learner, Memory
from thrifty.marl.team import Floats, Mark, Seen, Team


class Finished(NamedTuple):
    """An episode that is over."""

    rows: Floats
    """[L + 1, C]: its steps, and what was seen at its end."""
    total: float
    """Undiscounted return."""
    won: bool


class Rollout:
    """Plays all copies, one step at a time.

    Args:
        team: the environment.
        learner: acts.
        rows: layout of a step.
    """

    def __init__(self, team: Team, learner: Learner, rows: Rows) -> None:
        self.team, self.rows = team, rows
        self.memory: Memory = learner.memory(team.copies)
        self._episode_ELC = np.zeros((team.copies, team.spec.limit + 1, rows.width), np.float32)
        self._length_E = np.zeros(team.copies, np.int64)

    def step(self, learner: Learner, epsilon: float, rng: np.random.Generator) -> list[Finished]:
        """Take one step in every copy; copies whose episode is over begin anew.

        Raises:
            ValueError: an observation or reward is not a number, or an episode passes its limit.
        """
        team, every = self.team, np.arange(self.team.copies)
        seen = team.seen
        check_seen(seen, team.spec.name)
        row_EC = np.zeros((team.copies, self.rows.width), np.float32)
        self.rows.see(row_EC, seen)
        action_EN, self.memory = learner.act(
            seen.observation, seen.available, self.memory, epsilon=epsilon, rng=rng
        )
        outcome = team.step(action_EN)
        if not np.isfinite(outcome.reward).all():
            raise ValueError(f"{team.spec.name} pays a reward that is not finite")
        self.rows.act(row_EC, action_EN, outcome.reward, outcome.terminated)
        self._episode_ELC[every, self._length_E] = row_EC
        self._length_E += 1
        over_E = outcome.terminated | outcome.truncated
        if (~over_E & (self._length_E >= team.spec.limit)).any():
            raise ValueError(
                f"{team.spec.name} goes on after its limit of {team.spec.limit} steps: an "
                "environment must say truncated there"
            )
        if not over_E.any():
            return []
        last = team.seen
        # Nothing is chosen after a termination, and some environments offer nothing there.
        last = last._replace(available=last.available | outcome.terminated[:, None, None])
        check_seen(last, team.spec.name)
        self.rows.see(row_EC, last)
        finished = []
        for copy in np.flatnonzero(over_E):
            length = int(self._length_E[copy])
            self._episode_ELC[copy, length] = row_EC[copy]
            episode = self._episode_ELC[copy, : length + 1].copy()
            total = float(episode[:-1, self.rows.reward].sum())
            finished.append(Finished(episode, total, bool(outcome.won[copy])))
        self._length_E[over_E] = 0
        learner.forget(self.memory, over_E)
        team.restart(over_E)
        return finished

    def state_dict(self) -> dict[str, Any]:
        """Return environment, memory and running episodes."""
        return {
            "team": self.team.state_dict(),
            "hidden": self.memory.hidden.clone(),
            "last_action": self.memory.last_action.copy(),
            "length": self._length_E.copy(),
            "episodes": [
                self._episode_ELC[copy, :length].copy()
                for copy, length in enumerate(self._length_E)
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state; episodes that the environment cannot go on with are dropped."""
        if not self.team.load_state_dict(state["team"]):
            return
        self.memory = Memory(
            torch.as_tensor(state["hidden"]).clone(), np.array(state["last_action"], np.int64)
        )
        self._length_E = np.array(state["length"], np.int64)
        for copy, rows in enumerate(state["episodes"]):
            self._episode_ELC[copy, : len(rows)] = rows


class Played(NamedTuple):
    """An episode that was played to its end."""

    total: float
    length: int
    won: bool


def play(
    team: Team,
    learner: Learner,
    *,
    discount: float = 1.0,
    epsilon: float = 0.0,
    rng: np.random.Generator | None = None,
) -> list[Played]:
    """Play one episode in every copy, from its beginning to its end.

    Copies that are done wait: what they go on with does not count.

    Args:
        team: freshly begun.
        learner: acts.
        discount: of the returns, per step.
        epsilon: chance of a random action; 0 is greedy.
        rng: of these; needed where epsilon is not 0.
    """
    E = team.copies
    memory = learner.memory(E)
    total_E, length_E = np.zeros(E), np.zeros(E, np.int64)
    going_E, won_E = np.ones(E, bool), np.zeros(E, bool)
    while going_E.any():
        seen = team.seen
        action_EN, memory = learner.act(
            seen.observation, seen.available, memory, epsilon=epsilon, rng=rng
        )
        outcome = team.step(action_EN)
        total_E += np.where(going_E, discount**length_E * outcome.reward, 0.0)
        length_E += going_E
        over_E = outcome.terminated | outcome.truncated
        won_E |= going_E & over_E & outcome.won
        going_E &= ~over_E
        if going_E.any() and over_E.any():
            learner.forget(memory, over_E)
            team.restart(over_E)
    return [
        Played(float(total), int(length), bool(won))
        for total, length, won in zip(total_E, length_E, won_E, strict=True)
    ]


def film(team: Team, learner: Learner, frames: int = 60) -> dict[str, Any] | None:
    """Play one greedy episode in the first copy and keep pictures of it.

    Args:
        team: freshly begun.
        learner: acts.
        frames: how many pictures at most, evenly spread, the first and the last included.

    Returns:
        ``frames`` (``step`` and ``marks``: x, y, side, share), ``return``, ``won``, ``length``;
        None for a game without space. An episode with fewer steps has fewer pictures.
    """
    if team.scene() is None:
        return None
    memory, total = learner.memory(team.copies), 0.0
    scenes: list[list[Mark]] = [team.scene() or []]
    while True:
        seen = team.seen
        action_EN, memory = learner.act(seen.observation, seen.available, memory)
        outcome = team.step(action_EN)
        total += float(outcome.reward[0])
        scenes.append(team.scene() or [])
        over_E = outcome.terminated | outcome.truncated
        if over_E[0]:
            break
        if over_E.any():
            learner.forget(memory, over_E)
            team.restart(over_E)
    last = len(scenes) - 1
    kept = sorted({round(last * k / max(1, frames - 1)) for k in range(frames)})
    return {
        "frames": [
            {
                "step": index,
                "marks": [[round(m.x, 2), round(m.y, 2), m.side, round(m.share, 3)]
                          for m in scenes[index]],
            }
            for index in kept
        ],
        "return": total,
        "won": bool(outcome.won[0]),
        "length": last,
    }  # fmt: skip


def check_seen(seen: Seen, name: str) -> None:
    """Refuse what an environment must not show.

    Raises:
        ValueError: NaN or infinity, or an agent without any available action.
    """
    if not (np.isfinite(seen.observation).all() and np.isfinite(seen.state).all()):
        raise ValueError(f"{name} shows an observation or state that is not finite")
    stuck = np.argwhere(~seen.available.any(2))
    if len(stuck):
        raise ValueError(
            f"{name} leaves agent {stuck[0][1]} of copy {stuck[0][0]} without any available "
            "action: the dead need one that does nothing"
        )
