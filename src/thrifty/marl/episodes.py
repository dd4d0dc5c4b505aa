"""Replay of whole episodes, with its newest ones as a second, near-on-policy buffer.

An episode of L steps is a matrix of L + 1 rows; the last row holds what was seen at its end. Since
every episode enters both buffers of MAST, the small one is just the newest episodes of the large
one, and one first-in first-out store serves both.

Legend: T steps, B episodes, N agents, O observation size, S state size, U actions.

Reference: MAST (Hu et al., NeurIPS 2024), section 3.2.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thrifty.marl.team import Bools, Floats, Integers, Seen, Spec


class EpisodeBatch(NamedTuple):
    """Episodes side by side, padded to the longest, time first; T steps and T + 1 observations."""

    observation: Tensor  # [T + 1, B, N, O]
    state: Tensor  # [T + 1, B, S]
    available: Tensor  # bool [T + 1, B, N, U]; all True at padding
    action: Tensor  # int64 [T, B, N]
    reward: Tensor  # [T, B]
    terminated: Tensor  # [T, B], 1 or 0
    filled: Tensor  # [T, B], 1 where the step took place


class Rows:
    """Where the parts of a step stand in a row.

    Args:
        spec: sizes of the environment.
    """

    def __init__(self, spec: Spec) -> None:
        N = spec.agents
        ends = np.cumsum(
            [N * spec.observation_dim, spec.state_dim, N * spec.actions, N, 1, 1, 1]
        ).tolist()
        self.spec = spec
        self.observation = slice(0, ends[0])
        self.state = slice(ends[0], ends[1])
        self.available = slice(ends[1], ends[2])
        self.action = slice(ends[2], ends[3])
        self.reward, self.terminated, self.last = ends[3], ends[4], ends[5]
        self.width = ends[6]

    def see(self, rows_EC: Floats, seen: Seen) -> None:
        """Write what is seen into one row per copy; the rest becomes 0."""
        E = len(rows_EC)
        rows_EC[:] = 0.0
        rows_EC[:, self.observation] = seen.observation.reshape(E, -1)
        rows_EC[:, self.state] = seen.state
        rows_EC[:, self.available] = seen.available.reshape(E, -1)

    def act(self, rows_EC: Floats, action_EN: Integers, reward_E: Floats, over_E: Bools) -> None:
        """Write what was done and what it brought."""
        rows_EC[:, self.action] = action_EN
        rows_EC[:, self.reward] = reward_E
        rows_EC[:, self.terminated] = over_E

    def batch(self, episodes: list[Floats]) -> EpisodeBatch:
        """Return episodes as a padded batch of tensors."""
        spec, B = self.spec, len(episodes)
        T = max(map(len, episodes)) - 1
        rows_BTC = np.zeros((B, T + 1, self.width), np.float32)
        filled_BT = np.zeros((B, T), np.float32)
        for b, episode in enumerate(episodes):
            rows_BTC[b, : len(episode)] = episode
            rows_BTC[b, len(episode) :, self.available] = 1.0
            filled_BT[b, : len(episode) - 1] = 1.0
        rows = torch.from_numpy(rows_BTC).transpose(0, 1)
        shape = (T + 1, B, spec.agents, -1)
        return EpisodeBatch(
            observation=rows[..., self.observation].reshape(shape),
            state=rows[..., self.state].contiguous(),
            available=rows[..., self.available].reshape(shape) > 0.5,
            action=rows[:-1, :, self.action].long(),
            reward=rows[:-1, :, self.reward].contiguous(),
            terminated=rows[:-1, :, self.terminated].contiguous(),
            filled=torch.from_numpy(filled_BT).T.contiguous(),
        )


class EpisodeReplay:
    """A first-in first-out store of whole episodes; itself a row log for checkpoints.

    Args:
        capacity: largest number of episodes kept.
        rows: the layout of a row.

    Raises:
        ValueError: a capacity below 1.
    """

    def __init__(self, capacity: int, rows: Rows) -> None:
        if capacity < 1:
            raise ValueError(f"replay_episodes must be at least 1, got {capacity}")
        self.capacity, self.layout = capacity, rows
        self._episodes: deque[Floats] = deque()
        self.first = 0
        self.total = 0

    def __len__(self) -> int:
        """Return the number of stored episodes."""
        return len(self._episodes)

    def add(self, rows_LC: Floats) -> None:
        """Append an episode: L steps and the row seen at its end; the oldest makes room."""
        rows_LC = rows_LC.copy()
        rows_LC[-1, self.layout.last] = 1.0
        self._episodes.append(rows_LC)
        self.total += len(rows_LC)
        if len(self._episodes) > self.capacity:
            self.first += len(self._episodes.popleft())

    def sample(
        self, count: int, rng: np.random.Generator, *, recent: int = 0, among: int = 0
    ) -> EpisodeBatch:
        """Draw a minibatch of episodes, uniformly with repetition.

        Args:
            count: episodes from the whole replay.
            rng: advanced.
            recent: further episodes from the newest ``among``.
            among: how many episodes count as recent.
        """
        size = len(self._episodes)
        assert size, "an empty replay has nothing to draw from"
        chosen = rng.integers(0, size, count).tolist()
        if recent:
            chosen += rng.integers(max(0, size - among), size, recent).tolist()
        return self.layout.batch([self._episodes[index] for index in chosen])

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows [start, stop) of the log."""
        parts, at = [np.zeros((0, self.layout.width), np.float32)], self.first
        for episode in self._episodes:
            if at < stop and start < at + len(episode):
                parts.append(episode[max(start - at, 0) : stop - at])
            at += len(episode)
        return np.concatenate(parts)

    def load(self, log: Any) -> None:
        """Take over a stored row log.

        Raises:
            ValueError: its rows belong to an environment of other sizes, or an episode is cut.
        """
        rows = log.rows(log.first, log.total)
        if rows.shape[1] != self.layout.width:
            raise ValueError(
                f"the stored replay has rows of {rows.shape[1]} numbers, this environment needs "
                f"{self.layout.width}: it belongs to another configuration"
            )
        ends = np.flatnonzero(rows[:, self.layout.last] == 1.0) + 1
        if (ends[-1] if len(ends) else 0) != len(rows):
            raise ValueError("the stored replay ends inside an episode: the checkpoint is damaged")
        self._episodes = deque(part.copy() for part in np.split(rows, ends[:-1]) if len(part))
        self.first, self.total = log.first, log.total
