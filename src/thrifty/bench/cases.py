"""The cases of ``bench td3`` and ``bench sac``: sizes, data, and one core for everything.

Both networks at the stated sparsity (ER per network), 256 x 256, minibatches of 256, Adam, policy
delay 2 (TD3), one-step targets, noise on, minibatches drawn uniformly from a replay of 100,000
random transitions, float32, one thread.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from thrifty.rl.transitions import Replay

BATCH = 256
HIDDEN = (256, 256)
TRANSITIONS = 100_000
_TERMINATED = 100  # of the transitions, and as many cut by a time limit


@dataclass(frozen=True)
class Case:
    """The sizes of a task."""

    name: str
    observations: int
    actions: int


HALFCHEETAH = Case("halfcheetah", 17, 6)
HUMANOID = Case("humanoid", 348, 17)


def random_replay(case: Case, transitions: int = TRANSITIONS) -> Replay:
    """Return a full replay of standard normal observations and rewards, a few episodes ended.

    Args:
        case: sizes.
        transitions: capacity and content.
    """
    replay = Replay(transitions, case.observations, case.actions)
    rng = np.random.default_rng(0)
    matrix, at = replay.matrix, replay.columns
    rng.standard_normal(out=matrix, dtype=np.float32)
    np.tanh(matrix[:, at.action], out=matrix[:, at.action])
    np.tanh(matrix[:, at.policy_action], out=matrix[:, at.policy_action])
    matrix[:, [at.terminated, at.ended]] = 0.0
    matrix[:, at.valid] = 1.0
    ends = rng.choice(transitions, min(2 * _TERMINATED, transitions // 10), replace=False)
    matrix[ends, at.ended] = 1.0
    matrix[ends[: len(ends) // 2], at.terminated] = 1.0
    replay.total = transitions
    return replay


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Pin this thread, and the threads that it starts, to one core, torch to one thread.

    A process that is pinned already (``taskset -c 1``) stays where it is. Where the system cannot
    pin (macOS, Windows) only torch is told.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pins = hasattr(os, "sched_setaffinity")
    cores = os.sched_getaffinity(0) if pins else set()
    try:
        if pins:
            os.sched_setaffinity(0, {max(cores)})
        yield
    finally:
        if pins:
            os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)
