"""Agents for people: construct, learn, predict, save, load, in the manner of Stable-Baselines3.

An agent is a thin face over an in-memory :class:`thrifty.control.ControlExperiment`. Keyword names
are Stable-Baselines3's where a counterpart exists. By default an agent is RLx2's: sparse actor and
critic with an evolving topology, delayed multi-step targets and a replay of dynamic capacity;
``actor_sparsity=0, critic_sparsity=0, n_steps=1, dynamic_buffer=False`` is the plain algorithm.

Time constants (warm-up, evolution interval, n-step delay, replay checks) are fractions of the first
``learn`` call's length, see :mod:`thrifty.control.times`.
"""

from __future__ import annotations

from thrifty.agents.agent import Agent
from thrifty.agents.sac import SAC
from thrifty.agents.scheduler import TrainedScheduler
from thrifty.agents.stored import load_run_policy, load_scheduler
from thrifty.agents.td3 import TD3
from thrifty.agents.team import TeamAgent
from thrifty.agents.value_decomposition import QMIX, RES, VDN, WQMIX

__all__ = [
    "QMIX",
    "RES",
    "SAC",
    "TD3",
    "VDN",
    "WQMIX",
    "Agent",
    "TeamAgent",
    "TrainedScheduler",
    "load_run_policy",
    "load_scheduler",
]
