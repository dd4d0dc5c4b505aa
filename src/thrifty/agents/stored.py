"""Agents from run folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from thrifty.agents.agent import Agent
from thrifty.agents.sac import SAC
from thrifty.agents.scheduler import TrainedScheduler
from thrifty.agents.td3 import TD3
from thrifty.agents.team import TeamAgent
from thrifty.agents.value_decomposition import QMIX, RES, VDN, WQMIX
from thrifty.control import ControlConfig, TD3Config
from thrifty.marl import RESConfig, TeamConfig, WQMIXConfig
from thrifty.runs import Run, read_checkpoint, read_run
from thrifty.runs.store import restore
from thrifty.scheduling.config import SchedulingConfig


def load_run_policy(directory: Path | str) -> Agent | TeamAgent | TrainedScheduler:
    """Return the agent of a run's newest checkpoint, for prediction and evaluation.

    Args:
        directory: a run folder that ``thrifty train`` wrote.

    Raises:
        ValueError: no run, no checkpoint, or a run without a policy.
    """
    run, state = _stored(directory)
    config = run.config
    if isinstance(config, SchedulingConfig):
        return _scheduler(config, run, state, None)
    # Prediction needs no engine; both backends store the same state.
    if isinstance(config, TeamConfig):
        config = dataclasses.replace(config, backend="reference")
        team = _team_of(config).over(config.environment, config, run.seed)
        restore(team.learner, state["learner"], directory)
        team._experiment.step = state["step"]
        return team
    if not isinstance(config, ControlConfig):
        raise ValueError(
            f"{directory} is a run of {run.recipe}, which has no policy to play: "
            f"`thrifty report {directory}` shows what was learned"
        )
    kind = TD3 if isinstance(config.algorithm, TD3Config) else SAC
    config = dataclasses.replace(config, backend="reference")
    agent: Agent = kind.over(config.environment, config, run.seed)
    restore(agent.learner, state["learner"], directory)
    agent._experiment.step = state["step"]
    return agent


def load_scheduler(directory: Path | str, *, multiplier: Any = None) -> TrainedScheduler:
    """Return the policy of a scheduling run's newest checkpoint, as a scheduler.

    Args:
        directory: a run folder that ``thrifty train rsd4.s1`` or its like wrote.
        multiplier: price of energy, one number or one for each node, for a policy that was trained
            for all prices (``--mode conditioned``); the calibrated one if left out.

    Raises:
        ValueError: no run, no checkpoint, a run that does not schedule, or a price that cannot be.

    Example:
        >>> load_scheduler("runs/s1").evaluate(400).of_optimum  # doctest: +SKIP
        0.9959
    """
    run, state = _stored(directory)
    config = run.config
    if not isinstance(config, SchedulingConfig):
        raise ValueError(
            f"{directory} is a run of {run.recipe}, which does not schedule: "
            "thrifty.agents.load_run_policy reads agents and teams"
        )
    return _scheduler(config, run, state, multiplier)


def _scheduler(config: SchedulingConfig, run: Run, state: Any, multiplier: Any) -> TrainedScheduler:
    learner = dataclasses.replace(config.algorithm, backend="reference")
    experiment = dataclasses.replace(config, algorithm=learner).build(run.seed)
    restore(experiment, state, run.directory)
    return TrainedScheduler(experiment, multiplier)


def _stored(directory: Path | str) -> tuple[Run, Any]:
    if Path(directory).is_file():
        raise ValueError(
            f"{directory} is a file: name a run's folder; what agent.save wrote is played in "
            "Python, thrifty.TD3.load(file).evaluate()"
        )
    run = read_run(directory, "thrifty.recipes")
    checkpoint = read_checkpoint(directory)
    if checkpoint is None:
        raise ValueError(f"{directory} has no checkpoint yet; run: thrifty resume {directory}")
    return run, checkpoint.experiment


def _team_of(config: TeamConfig) -> type[TeamAgent]:
    if isinstance(config.algorithm, WQMIXConfig):
        return WQMIX
    if isinstance(config.algorithm, RESConfig):
        return RES
    return VDN if config.algorithm.mixer == "vdn" else QMIX
