"""Returns of a policy over whole episodes, with seeds that do not depend on training.

Episode k of an evaluation always has the same seed, so two policies are compared on common random
numbers, and an evaluation can be taken up between two of its episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thrifty.rl.environments import Environments

Floats = NDArray[np.float32]
Policy = Callable[[Floats], Floats]


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


def run_episode(environments: Environments, policy: Policy, number: int) -> tuple[float, int]:
    """Run one episode and return its undiscounted return and its length.

    Args:
        environments: holding one environment; left in a new episode.
        policy: maps observations [1, O] to normalised actions [1, A].
        number: of the episode; decides its seed.

    Raises:
        ValueError: more than one environment.
    """
    if environments.count != 1:
        raise ValueError("episodes are evaluated one after the other: give count=1")
    environments.restart(number)
    while True:
        finished = environments.step(policy(environments.observation)).finished
        if finished:
            return finished[0]


def evaluate_policy(environments: Environments, policy: Policy, episodes: int) -> Evaluation:
    """Run a policy for a number of episodes.

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
    finished = [run_episode(environments, policy, number) for number in range(episodes)]
    return Evaluation([value for value, _ in finished], [length for _, length in finished])


def random_policy(action_dim: int, seed: int) -> Policy:
    """Return uniformly random actions, the control that every agent must beat.

    Args:
        action_dim: A.
        seed: of the actions.
    """
    rng = np.random.default_rng(seed)

    def policy(observation_EO: Floats) -> Floats:
        return rng.uniform(-1.0, 1.0, (len(observation_EO), action_dim)).astype(np.float32)

    return policy
