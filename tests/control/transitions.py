"""Made-up transitions, as rows for plain loops and as the batches that learners take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from thrifty.rl import Batch, Replay

OBS, A, B = 4, 2, 16
GAMMA = 0.9


class Row(NamedTuple):
    """One transition."""

    observation: np.ndarray
    action: np.ndarray
    reward: float
    next_observation: np.ndarray
    terminated: bool
    truncated: bool


def episode_rows(seed: int, count: int = 60) -> list[Row]:
    """Transitions of short episodes, some terminated, some cut by a time limit."""
    rng = np.random.default_rng(seed)
    return [
        Row(
            rng.normal(size=OBS).astype(np.float32),
            rng.uniform(-1, 1, A).astype(np.float32),
            float(np.float32(rng.normal())),
            rng.normal(size=OBS).astype(np.float32),
            bool(rng.random() < 0.2),
            bool(rng.random() < 0.2),
        )
        for _ in range(count)
    ]


def window(rows: list[Row], start: int, n: int) -> list[Row]:
    """The transitions of the window that starts at a row."""
    chosen: list[Row] = []
    for row in rows[start : start + n]:
        chosen.append(row)
        if row.terminated or row.truncated:
            break
    return chosen


def make_batch(
    rows: list[Row], starts: list[int], n: int, dtype: torch.dtype = torch.float32
) -> Batch:
    """The same windows through the replay."""
    replay = Replay(len(rows), OBS, A)
    for row in rows:
        replay.add(
            observation=row.observation[None],
            action=row.action[None],
            policy_action=row.action[None],
            reward=np.array([row.reward], np.float32),
            next_observation=row.next_observation[None],
            terminated=np.array([row.terminated]),
            truncated=np.array([row.truncated]),
        )
    batch = replay.windows(np.array(starts), n_step=n, discount=GAMMA)
    return batch.to(torch.device("cpu"), dtype)


def batches(
    updates: int, n: int = 1, dtype: torch.dtype = torch.float32
) -> list[tuple[Batch, Tensor, Tensor]]:
    """Batches with the standard normal draws [B, A] and [n, B, A] that go with them."""
    made = []
    for update in range(updates):
        draw = torch.Generator().manual_seed(update)
        noise = torch.randn(B, A, generator=draw, dtype=dtype)
        path_noise = torch.randn(n, B, A, generator=draw, dtype=dtype)
        starts = torch.randint(0, 60, (B,), generator=draw).tolist()
        made.append((make_batch(episode_rows(update), starts, n, dtype), noise, path_noise))
    return made
