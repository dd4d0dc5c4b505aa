"""Agents from run folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from thrifty.agents.agent import Agent
from thrifty.agents.sac import SAC
from thrifty.agents.td3 import TD3
from thrifty.agents.team import TeamAgent
from thrifty.agents.value_decomposition import QMIX, RES, VDN, WQMIX
from thrifty.control import ControlConfig, TD3Config
from thrifty.marl import RESConfig, TeamConfig, WQMIXConfig
from thrifty.runs import read_checkpoint, read_run


def load_run_policy(directory: Path | str) -> Agent | TeamAgent:
    """Return the agent of a run's newest checkpoint, for prediction and evaluation.

    Args:
        directory: a run folder that ``thrifty train`` wrote.

    Raises:
        ValueError: no run, no checkpoint, or a run without a policy.
    """
    run = read_run(directory, "thrifty.recipes")
    checkpoint = read_checkpoint(directory)
    if checkpoint is None:
        raise ValueError(f"{directory} has no checkpoint yet; run: thrifty resume {directory}")
    config = run.config
    # Prediction needs no engine; both backends store the same state.
    if isinstance(config, TeamConfig):
        config = dataclasses.replace(config, backend="reference")
        team = _team_of(config).over(config.environment, config, run.seed)
        team.learner.load_state_dict(checkpoint.experiment["learner"])
        team._experiment.step = checkpoint.experiment["step"]
        return team
    if not isinstance(config, ControlConfig):
        raise ValueError(f"{directory} is a run of {run.recipe}, which has no policy to play")
    kind = TD3 if isinstance(config.algorithm, TD3Config) else SAC
    config = dataclasses.replace(config, backend="reference")
    agent: Agent = kind.over(config.environment, config, run.seed)
    agent.learner.load_state_dict(checkpoint.experiment["learner"])
    agent._experiment.step = checkpoint.experiment["step"]
    return agent


def _team_of(config: TeamConfig) -> type[TeamAgent]:
    if isinstance(config.algorithm, WQMIXConfig):
        return WQMIX
    if isinstance(config.algorithm, RESConfig):
        return RES
    return VDN if config.algorithm.mixer == "vdn" else QMIX
