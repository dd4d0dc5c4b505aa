"""Provable reinforcement learning in finite-horizon MDPs: models, exact planners, learners.

NumPy and Numba only: importing this package imports neither torch nor Gymnasium.
"""

from __future__ import annotations

from thrifty.episodic.environments import FeatureEnvironment, from_gymnasium
from thrifty.episodic.feature_learner import FeatureLSVI
from thrifty.episodic.latent import LatentMDP
from thrifty.episodic.lsvi_ucb import LSVIUCB
from thrifty.episodic.lsvi_ucb_plus import LSVIUCBPlus
from thrifty.episodic.mdp import EpisodicMDP, LinearMDP, tabular
from thrifty.episodic.planning import Plan, evaluate, occupancy, optimal, uniform, value, worst
from thrifty.episodic.rollout import EpisodeRun, run_episodes
from thrifty.episodic.ucbvi import UCBVI

__all__ = [
    "LSVIUCB",
    "UCBVI",
    "EpisodeRun",
    "EpisodicMDP",
    "FeatureEnvironment",
    "FeatureLSVI",
    "LSVIUCBPlus",
    "LatentMDP",
    "LinearMDP",
    "Plan",
    "evaluate",
    "from_gymnasium",
    "occupancy",
    "optimal",
    "run_episodes",
    "tabular",
    "uniform",
    "value",
    "worst",
]
