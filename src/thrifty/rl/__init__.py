"""What every off-policy agent needs and no agent owns: networks, replay, targets, episodes.

Each ingredient is a function or a small class in a file named for it. Nothing here knows an
algorithm, a paper or the runner.
"""

from __future__ import annotations

from thrifty.rl.environments import Environments, Step
from thrifty.rl.evaluate import Evaluation, evaluate_policy, random_policy, run_episode
from thrifty.rl.networks import DeterministicActor, GaussianActor, TwinCritic
from thrifty.rl.targets import polyak_update
from thrifty.rl.transitions import Batch, Replay

__all__ = [
    "Batch",
    "DeterministicActor",
    "Environments",
    "Evaluation",
    "GaussianActor",
    "Replay",
    "Step",
    "TwinCritic",
    "evaluate_policy",
    "polyak_update",
    "random_policy",
    "run_episode",
]
