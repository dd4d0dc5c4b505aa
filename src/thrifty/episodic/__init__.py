"""Provable reinforcement learning in finite-horizon MDPs: models, exact planners, learners.

NumPy and Numba only: importing this package imports neither torch nor Gymnasium.
"""

from __future__ import annotations

from thrifty.episodic.environments import FeatureEnvironment, from_gymnasium
from thrifty.episodic.latent import LatentMDP
from thrifty.episodic.mdp import EpisodicMDP, LinearMDP, tabular
from thrifty.episodic.planning import Plan, evaluate, occupancy, optimal, uniform, value, worst

__all__ = [
    "EpisodicMDP",
    "FeatureEnvironment",
    "LatentMDP",
    "LinearMDP",
    "Plan",
    "evaluate",
    "from_gymnasium",
    "occupancy",
    "optimal",
    "tabular",
    "uniform",
    "value",
    "worst",
]
