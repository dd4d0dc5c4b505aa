"""Cooperative teams: QMIX, VDN, Weighted QMIX and RES that train sparse, and what they play."""

from __future__ import annotations

from thrifty.marl.config import TeamConfig
from thrifty.marl.experiment import TeamExperiment
from thrifty.marl.joint_value import PartSparsityConfig
from thrifty.marl.qmix import QMIX, QMIXConfig
from thrifty.marl.res import RES, RESConfig
from thrifty.marl.team import Outcome, Seen, Spec, Team
from thrifty.marl.wqmix import WQMIX, WQMIXConfig

__all__ = [
    "QMIX",
    "RES",
    "WQMIX",
    "Outcome",
    "PartSparsityConfig",
    "QMIXConfig",
    "RESConfig",
    "Seen",
    "Spec",
    "Team",
    "TeamConfig",
    "TeamExperiment",
    "WQMIXConfig",
]
