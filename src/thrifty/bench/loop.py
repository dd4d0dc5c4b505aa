"""The whole loop at 95 % sparsity: environment steps with one update each, ours and theirs.

HalfCheetah-v5, one thread, networks of 256 x 256, minibatches of 256, one update per step, timed in
turn in one process on one core: our run on the engine, sbx's ``learn``, Stable-Baselines3's
``learn``. Links move every 1,000 updates, in all networks at once; the share of the time that the
pieces of work take in which they do is stated apart. Beside it, two learners on two cores against
one.

Marks: our loop makes at least 8 times the steps per second of sbx's; the moving links take under
2 % of the time; two learners on two cores make at least 1.8 times the updates per second of one.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from thrifty.bench import baselines, learners, updates
from thrifty.bench.baselines import Package
from thrifty.bench.cases import BATCH, HALFCHEETAH, HIDDEN, one_core
from thrifty.bench.schema import NOT_MEASURED, Row
from thrifty.bench.timing import Seconds, interleave, summarise
from thrifty.control import (
    ControlConfig,
    ControlExperiment,
    ReplayConfig,
    SACConfig,
    SparsityConfig,
    TD3Config,
)
from thrifty.engine.loading import Backend
from thrifty.rl.environments import make_environment

ENVIRONMENT = "HalfCheetah-v5"
CASE = f"{ENVIRONMENT}, step with one update"
METRIC = "environment_steps_per_second"
SPARSITY = 0.95
MARK = 8.0
"""Least ratio of our steps per second to sbx's."""
EVOLUTION_MARK = 2.0
"""Largest share of the time in moving links, in percent."""
INTERVAL = 1000
"""Updates between moves of links."""
TWO_LEARNERS = 1.8
"""Least ratio of two learners' updates per second to one learner's."""
_NEVER = 1_000_000_000
_PACKAGES: tuple[Package, ...] = ("sbx", "SB3")


def measure(
    *, rounds: int = 20, steps: int = 200, seconds: float = 10.0, moves: int = 8
) -> list[Row]:
    """Measure all cases; takes about three minutes.

    Args:
        rounds: samples of each.
        steps: environment steps per sample of ours; theirs makes a quarter of them.
        seconds: that two learners, and one, are watched for.
        moves: how often links move while their share of the time is taken.

    Returns:
        Rows in environment steps, and for the learners updates, per second.
    """
    rows: list[Row] = []
    with one_core():
        for learner in ("TD3", "SAC"):
            rows += loops(learner, rounds, steps)
            rows += _evolution(learner, moves)
    return rows + _two_learners(rounds, seconds)


def config(learner: str, backend: Backend) -> ControlConfig:
    """Return a run that neither ends nor evaluates nor reports, with updates from the start."""
    delay = 2 if learner == "TD3" else 1  # an interval counts the network's own steps
    critic = SparsityConfig(sparsity=SPARSITY, update_every=INTERVAL, update_until=_NEVER)
    actor = dataclasses.replace(critic, update_every=INTERVAL // delay)
    settings: dict[str, Any] = {
        "actor_hidden": HIDDEN,
        "critic_hidden": HIDDEN,
        "batch_size": BATCH,
        "n_step_delay": 0,
        "actor": actor,
        "critic": critic,
    }
    return ControlConfig(
        environment=ENVIRONMENT,
        steps=_NEVER,
        learning_starts=1000,
        evaluate_every=0,
        random_episodes=0,
        record_every=_NEVER,
        replay=ReplayConfig(capacity=1_000_000),
        algorithm=TD3Config(**settings) if learner == "TD3" else SACConfig(**settings),
        backend=backend,
    )


def _advance(experiment: ControlExperiment, steps: int) -> Callable[[], None]:
    records = experiment.records()

    def sample() -> None:
        end = experiment.step + steps
        while experiment.step < end:
            next(records)

    return sample


def loops(learner: str, rounds: int, steps: int) -> list[Row]:
    """Measure the loops of one algorithm; see :func:`measure`."""
    few = max(1, steps // 4)
    engine, reference = f"thrifty {learner}, engine", f"thrifty {learner}, reference"
    actions: dict[str, Callable[[], None]] = {}
    made: dict[str, int] = {}
    gaps: list[Row] = []
    ours: tuple[tuple[str, Backend, int], ...] = (
        (engine, "engine", steps),
        (reference, "reference", few),
    )
    for name, backend, count in ours:
        experiment = config(learner, backend).build(0)
        _advance(experiment, 1001)()  # past the random actions
        actions[name], made[name] = _advance(experiment, count), count
    for package in _PACKAGES:
        name = f"{package} {learner}"
        try:
            call = baselines.loop(package, learner, make_environment(ENVIRONMENT), few)
        except ModuleNotFoundError:
            print(f"{name} is not measured: {baselines.REMEDY}")
            gaps.append(_gap(name))
            continue
        actions[name], made[name] = call, few
    rows = list(gaps)
    for name, taken in interleave(actions, rounds=rounds).items():
        rows += _rows(name, taken / made[name], SPARSITY if name in (engine, reference) else 0.0)
    return updates.against(rows, engine, [f"sbx {learner}", f"SB3 {learner}", reference])


def _evolution(learner: str, moves: int) -> list[Row]:
    """The share of the time that links take to move: of each interval's pieces of work."""
    name = f"thrifty {learner}, engine"
    metric = "share of the time in moving links"
    shares = np.array(shares_of_moves(config(learner, "engine").build(0), moves))
    return [
        Row(
            case=f"{CASE}, links move every {INTERVAL:,} updates",
            implementation=name,
            sparsity=SPARSITY,
            updates_per_call=1,
            metric=metric,
            statistic=statistic,
            value=value,
            unit="%",
        )
        for statistic, value in summarise(shares).items()
    ]


def shares_of_moves(experiment: ControlExperiment, moves: int) -> list[float]:
    """Return the percentage of the time in pieces of work that moved links, by interval.

    A piece of work with news comes with its first record, so the time until that record is its own;
    records behind it cost nothing. Such a piece is an update as well, whose time is charged too.
    The first move, which may compile, begins the first interval and is not counted.

    Args:
        experiment: one whose networks move their links at the same updates.
        moves: intervals.
    """
    shares: list[float] = []
    records = experiment.records()
    total = 0.0
    counted, moved = -1, False
    while counted < moves:
        start = time.perf_counter()
        record = next(records)
        seconds = time.perf_counter() - start
        total += seconds
        if record is not None and record["kind"] == "topology":
            if not moved:
                if counted >= 0:
                    shares.append(100.0 * seconds / total)
                counted += 1
                total = 0.0
            moved = True
        else:
            moved = False
    return shares


def _rows(implementation: str, seconds: Seconds, sparsity: float) -> list[Row]:
    return [
        Row(
            case=CASE,
            implementation=implementation,
            sparsity=sparsity,
            updates_per_call=1,
            metric=METRIC,
            statistic=statistic,
            value=1.0 / value,
            unit="1/s",
        )
        for statistic, value in summarise(seconds).items()
    ]


def _gap(implementation: str) -> Row:
    return Row(
        case=CASE,
        implementation=implementation,
        metric=METRIC,
        statistic=NOT_MEASURED,
        value=None,
        unit="1/s",
    )


def _two_learners(rounds: int, seconds: float) -> list[Row]:
    rates = learners.rates(HALFCHEETAH, SPARSITY, rounds=rounds, seconds=seconds / rounds)
    rows = [
        Row(
            case="halfcheetah, learners side by side",
            implementation=name,
            sparsity=SPARSITY,
            threads=threads,
            updates_per_call=updates.PER_CALL[-1],
            metric=updates.METRIC,
            statistic=statistic,
            value=1.0 / value,
            unit="1/s",
        )
        for name, threads in (("one learner", 1), ("two learners", 2))
        for statistic, value in summarise(1.0 / rates[threads]).items()
    ]
    return updates.against(rows, "two learners", ["one learner"])
