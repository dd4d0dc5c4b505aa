"""Provable reinforcement learning in finite-horizon MDPs: models, exact planners, learners.

NumPy and Numba only: importing this package imports neither torch nor Gymnasium.
"""

from __future__ import annotations

from thrifty.episodic.mdp import EpisodicMDP, LinearMDP, tabular
from thrifty.episodic.planning import Plan, evaluate, occupancy, optimal, uniform, value, worst

__all__ = [
    "EpisodicMDP",
    "LinearMDP",
    "Plan",
    "evaluate",
    "occupancy",
    "optimal",
    "tabular",
    "uniform",
    "value",
    "worst",
]
