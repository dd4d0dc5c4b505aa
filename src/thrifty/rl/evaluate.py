"""Returns of a policy over whole episodes, with seeds that do not depend on training.

Every evaluation with the same seed sees the same episodes, so two policies are compared on common
random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thrifty.rl.environments import Environments

Floats = NDArray[np.float32]


class Evaluation(NamedTuple):
    """Undiscounted returns and lengths of the episodes of one evaluation."""

    returns: list[float]
    lengths: list[int]

    @property
    def return_mean(self) -> float:
        """Return the mean return."""
        return float(np.mean(self.returns))

    @property
    def return_std(self) -> float:
        """Return the standard deviation of the returns over episodes (not over seeds)."""
        return float(np.std(self.returns))


def evaluate_policy(
    environments: Environments, policy: Callable[[Floats], Floats], episodes: int
) -> Evaluation:
    """Run a policy for a number of episodes, starting from the environments' first seed.

    Args:
        environments: holding one environment; restarted.
        policy: maps observations [1, O] to normalised actions [1, A].
        episodes: how many.

    Returns:
        Returns and lengths, in the order of the episodes.

    Raises:
        ValueError: fewer than one episode asked for, or more than one environment.
    """
    if episodes < 1:
        raise ValueError(f"an evaluation needs at least one episode, got {episodes}")
    if environments.count != 1:
        raise ValueError("an evaluation takes its episodes one after the other: give count=1")
    environments.restart()
    finished: list[tuple[float, int]] = []
    while len(finished) < episodes:
        finished += environments.step(policy(environments.observation)).finished
    return Evaluation([value for value, _ in finished], [length for _, length in finished])


def evaluate_random(environments: Environments, episodes: int, seed: int) -> Evaluation:
    """Run uniformly random actions, the control that every agent must beat.

    Args:
        environments: holding one environment; restarted.
        episodes: how many.
        seed: of the actions.

    Returns:
        Returns and lengths.
    """
    rng = np.random.default_rng(seed)

    def policy(observation_EO: Floats) -> Floats:
        shape = (len(observation_EO), environments.action_dim)
        return rng.uniform(-1.0, 1.0, shape).astype(np.float32)

    return evaluate_policy(environments, policy, episodes)
