"""Continuous control: TD3 and SAC that train sparse, and the experiment that runs them."""

from __future__ import annotations

from thrifty.control.config import ControlConfig, ReplayConfig
from thrifty.control.experiment import ControlExperiment
from thrifty.control.sac import SAC, SACConfig
from thrifty.control.sparse_network import SparseNetwork, SparsityConfig
from thrifty.control.td3 import TD3, TD3Config

__all__ = [
    "SAC",
    "TD3",
    "ControlConfig",
    "ControlExperiment",
    "ReplayConfig",
    "SACConfig",
    "SparseNetwork",
    "SparsityConfig",
    "TD3Config",
]
