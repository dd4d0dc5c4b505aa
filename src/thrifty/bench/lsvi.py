"""LSVI-UCB and LSVI-UCB+ by the number of episodes, beside rlberry-scool's LSVI-UCB.

RiverSwim of 6 states and 20 stages (d = 12), one core, after compilation, in processor time, which
other work on the machine hardly disturbs. The constants are the recipes' defaults; plans are made
when a determinant has doubled.

Marks: K = 1,000,000 episodes within 10 s (LSVI-UCB) and 60 s (LSVI-UCB+), low quantile of three; at
least 0.8 of the throughput of K = 10,000; rlberry's LSVI-UCB on the same MDP at K = 100 and 200
(its cost grows like K^2, ours like K) about a thousand times slower; with continuous states
(:mod:`thrifty.episodic.latent`) an episode at K = 100,000 at most twice as dear as at 10,000.

rlberry-scool wants other versions of its dependencies than ours: give the interpreter of a virtual
environment of its own in THRIFTY_RLBERRY_PYTHON (``pip install rlberry-scool==0.7.3``). Without it
its rows say "not measured".
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from thrifty.bench.schema import NOT_MEASURED, Row, compare
from thrifty.bench.timing import interleave, summarise
from thrifty.episodic.feature_learner import FeatureLSVI
from thrifty.episodic.instances import river_swim
from thrifty.episodic.latent import LatentMDP
from thrifty.episodic.lsvi_ucb import LSVIUCB
from thrifty.episodic.lsvi_ucb_plus import LSVIUCBPlus
from thrifty.episodic.mdp import LinearMDP, tabular
from thrifty.episodic.rollout import run_episodes
from thrifty.episodic.weighting import constant_weighting

LEARNERS: dict[str, Callable[[LinearMDP], Any]] = {"LSVI-UCB": LSVIUCB, "LSVI-UCB+": LSVIUCBPlus}
THEIRS = "rlberry-scool LSVI-UCB"
INTERPRETER = "THRIFTY_RLBERRY_PYTHON"
SWIM = "RiverSwim(6), H=20"

# Runs there, on the same MDP with the same features (their agent pools the stages): seconds per K.
_SCRIPT = """
import json, sys, time
import numpy as np
from rlberry.envs.finite_mdp import FiniteMDP
from rlberry_scool.agents.features import FeatureMap
from rlberry_scool.agents.linear import LSVIUCBAgent

task = json.load(sys.stdin)
P, r = np.array(task["P"]), np.array(task["r"])

class OneHot(FeatureMap):
    def __init__(self, env):
        self.shape = (r.size,)
    def map(self, observation, action):
        phi = np.zeros(r.size)
        phi[int(observation) * r.shape[1] + int(action)] = 1.0
        return phi

seconds = []
for K in task["K"]:
    env = FiniteMDP(r, P, initial_state_distribution=0)
    env.reward_range = (0.0, 1.0)
    agent = LSVIUCBAgent(env, horizon=task["H"], feature_map_fn=OneHot, gamma=1.0,
                         bonus_scale_factor=0.3, reg_factor=0.001)
    start = time.process_time()
    agent.fit(K)
    seconds.append(time.process_time() - start)
print(json.dumps(seconds))
"""


def measure(
    *,
    rounds: int = 3,
    short: int = 10_000,
    long: int = 1_000_000,
    few: tuple[int, ...] = (100, 200),
    continuous: tuple[int, int] = (10_000, 100_000),
) -> list[Row]:
    """Time the learners.

    Args:
        rounds: samples of each.
        short: episodes of the short run.
        long: episodes of the long run.
        few: episodes of the runs beside rlberry's.
        continuous: episodes of the two runs with continuous states.
    """
    return [*_swim(rounds, short, long), *_beside(rounds, few), *_continuous(continuous)]


def _swim(rounds: int, short: int, long: int) -> list[Row]:
    mdp = tabular(river_swim())
    actions = {
        f"{name}, K={K:,}": _run(learner, mdp, K)
        for name, learner in LEARNERS.items()
        for K in (short, long)
    }
    for learner in LEARNERS.values():
        _run(learner, mdp, 100)()  # compiled here
    samples = interleave(actions, rounds=rounds, warm_up=0, clock=time.process_time)
    rows = []
    for name in LEARNERS:
        for K in (short, long):
            label = f"{name}, K={K:,}"
            for statistic, seconds in summarise(samples[label]).items():
                rows += [
                    Row(case=SWIM, implementation=label, statistic=statistic, metric=metric,
                        value=value, unit=unit)
                    for metric, value, unit in (
                        ("processor time of a run", seconds, "s"),
                        ("throughput", K / seconds, "episodes per second"),
                    )
                ]  # fmt: skip
        throughput = [row for row in rows if row.metric == "throughput"]
        others = [row for row in rows if row.metric != "throughput"]
        rows = others + compare(
            throughput, implementation=f"{name}, K={long:,}", ratio_to=f"{name}, K={short:,}"
        )
    return rows


def _run(learner: Callable[[LinearMDP], Any], mdp: LinearMDP, K: int) -> Callable[[], object]:
    return lambda: run_episodes(mdp, learner(mdp), K, 0, progress=False)


def _beside(rounds: int, few: tuple[int, ...]) -> list[Row]:
    mdp = tabular(river_swim())
    name = "thrifty LSVI-UCB"
    rows = []
    theirs = _rlberry(few)
    samples = interleave(
        {str(K): _run(LSVIUCB, mdp, K) for K in few},
        rounds=max(rounds, 5),
        clock=time.process_time,
    )
    for number, K in enumerate(few):
        case = f"{SWIM}, K={K:,}"
        metric = "time of a run"
        own = 1e3 * summarise(samples[str(K)])["median"]
        both = [
            Row(case=case, implementation=name, metric=metric, statistic="median", value=own,
                unit="ms"),
        ]  # fmt: skip
        if theirs is None:
            both.append(
                Row(case=case, implementation=THEIRS, metric=metric, statistic=NOT_MEASURED,
                    value=None, unit="ms")
            )  # fmt: skip
        else:
            both.append(
                Row(case=case, implementation=THEIRS, metric=metric, statistic="median",
                    value=1e3 * theirs[number], unit="ms")
            )  # fmt: skip
        rows += compare(both, implementation=THEIRS, ratio_to=name)
    ratios = [row.ratio for row in rows if row.ratio is not None]
    if len(ratios) > 1:
        rows.append(
            Row(case=SWIM, implementation=THEIRS, statistic="median",
                metric=f"growth of the ratio from K={few[0]:,} to K={few[-1]:,}",
                value=ratios[-1] / ratios[0], unit="times")
        )  # fmt: skip
    return rows


def _rlberry(few: tuple[int, ...]) -> list[float] | None:
    """Seconds of processor time of rlberry's agent for each K; None where it is not there."""
    interpreter = os.environ.get(INTERPRETER)
    if not interpreter:
        return None
    swim = river_swim()
    task = {"P": swim.P[0].tolist(), "r": swim.r[0].tolist(), "H": swim.H, "K": few}
    try:
        done = subprocess.run(
            [interpreter, "-c", _SCRIPT],
            input=json.dumps(task),
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as problem:
        raise ValueError(f"{INTERPRETER}={interpreter} cannot be run: {problem}") from problem
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"{INTERPRETER}={interpreter} cannot run rlberry-scool: {reason}")
    seconds: list[float] = json.loads(done.stdout.strip().splitlines()[-1])
    return seconds


def _continuous(sizes: tuple[int, int]) -> list[Row]:
    """Seconds per episode at both lengths, of learners with and without monotone values."""
    rows = []
    learners: dict[str, Callable[[LatentMDP], FeatureLSVI]] = {
        "LSVI-UCB, features": lambda environment: FeatureLSVI(
            environment, weighting=constant_weighting(0.3, 1.0), monotone=False
        ),
        "LSVI-UCB+, features": FeatureLSVI,
    }
    for name, made in learners.items():
        labels = [f"{name}, K={K:,}" for K in sizes]
        measured = []
        for label, K in zip(labels, sizes, strict=True):
            environment = LatentMDP(5, 3, 5, np.random.default_rng(0))
            run_episodes(environment, made(environment), 2, 0, progress=False)  # compiled here
            learner = made(environment)
            start = time.process_time()
            run_episodes(environment, learner, K, 0, progress=False)
            seconds = time.process_time() - start
            measured.append(
                Row(
                    case=environment.name,
                    implementation=label,
                    metric="processor time of an episode, amortised",
                    statistic="median",
                    value=1e6 * seconds / K,
                    unit="microseconds",
                )
            )
        rows += compare(measured, implementation=labels[1], ratio_to=labels[0])
    return rows
