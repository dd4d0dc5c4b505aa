"""One run of a learner for the iterated CVaR, as a stream of records that can stop anywhere.

A piece of work is a block of episodes played with one policy (one episode with comparisons). Record
kinds: start, switch (a new plan), progress, labels (comparisons taken in), end. ``regret`` is exact
and of the iterated CVaR at the run's risk level (:mod:`thrifty.episodic.risk_rollout`).

With people as annotators the queries and labels lie in the run's folder, which whoever runs the
experiment names by :meth:`RiskExperiment.place`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from thrifty.episodic import icvar_bpi, icvar_g, icvar_l, icvar_rm, risk_instances
from thrifty.episodic.annotators import SimulatedAnnotator, SimulatedSource
from thrifty.episodic.cvar import expectation, iterated_cvar, worst_path
from thrifty.episodic.experiment import record_points
from thrifty.episodic.icvar_g_ensemble import EnsembleICVaR, SoftmaxEnsemble
from thrifty.episodic.icvar_hf import ICVaRHF
from thrifty.episodic.label_folder import LabelFolder
from thrifty.episodic.lava_grid import LavaGrid
from thrifty.episodic.linear_mixture import LinearMixtureMDP, random_mixture
from thrifty.episodic.max_wp import MaxWP
from thrifty.episodic.mdp import EpisodicMDP, Floats
from thrifty.episodic.planning import evaluate, optimal, uniform, worst
from thrifty.episodic.preferences import Source
from thrifty.episodic.risk_config import (
    EnsembleConfig,
    FeaturesConfig,
    HardChainConfig,
    ICVaRBPIConfig,
    ICVaRGConfig,
    ICVaRHFConfig,
    ICVaRLConfig,
    ICVaRRMConfig,
    InventoryConfig,
    KernelClassConfig,
    LavaGridConfig,
    LinearHardChainConfig,
    MaxWPConfig,
    MixtureConfig,
    RiskConfig,
    TwoDoorConfig,
)
from thrifty.episodic.risk_rollout import RiskRollout
from thrifty.episodic.rollout import Learner

Record = dict[str, Any]

_LONGEST_BLOCK = 1000
_PAUSE = 0.2  # seconds between two looks for labels, while waiting for people


class Instance(Protocol):
    """What a configuration of an instance makes."""

    mdp: EpisodicMDP
    kernels: Floats | None
    features: Floats | None
