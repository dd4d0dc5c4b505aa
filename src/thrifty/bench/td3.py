"""Updates per second of TD3: the engine beside Stable-Baselines3, sbx and the dense limits.

The cases are those of :mod:`thrifty.bench.cases`; beside them RLx2 as published (actor 90 %, critic
85 % sparse, three-step targets; the rule of its replay does not touch the update). Everyone draws
minibatches from the same 100,000 transitions on the same core.

Marks, ratio of updates per second to sbx at the same updates per call, low quantile and median:

    updates per call    halfcheetah 90 %, 95 %    humanoid 90 %, 95 %
                   1    8, 12                     7, 11
                  16    6, 9.5                    5.5, 9

Moving the links of every network once in 1,000 updates takes under 2 % of the time (halfcheetah).

What a second thread brings inside one learner (`engine_threads`) is stated; it has no mark. It
needs a second core that is free, and two learners side by side use that better (`bench loop`).
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from thrifty.bench import updates
from thrifty.bench.cases import (
    BATCH,
    HALFCHEETAH,
    HIDDEN,
    HUMANOID,
    TRANSITIONS,
    Case,
    one_core,
    random_replay,
)
from thrifty.bench.schema import Row, compare
from thrifty.bench.timing import interleave, summarise
from thrifty.control import TD3, SparsityConfig, TD3Config
from thrifty.control.compiled import CompiledLearner
from thrifty.control.fused import transitions_of
from thrifty.control.td3_fused import td3_update
from thrifty.engine.update import Update

MARKS = {
    ("halfcheetah", 0.9, 1): 8.0,
    ("halfcheetah", 0.95, 1): 12.0,
    ("humanoid", 0.9, 1): 7.0,
    ("humanoid", 0.95, 1): 11.0,
    ("halfcheetah", 0.9, 16): 6.0,
    ("halfcheetah", 0.95, 16): 9.5,
    ("humanoid", 0.9, 16): 5.5,
    ("humanoid", 0.95, 16): 9.0,
}
"""Least ratio to sbx by case, sparsity and updates per call."""
PUBLISHED = (0.9, 0.85)
AS_PUBLISHED = "halfcheetah, RLx2 as published"
EVOLUTION = "share of the time in evolution"
EVOLUTION_MARK = 2.0
"""Largest share of the time in moving links, in percent."""
INTERVAL = 1000
"""Updates between moves of links, for which that share is stated."""
SHARED = f"{updates.ENGINE}, shared"
_SHARED = 32  # updates of a sample; even, for the actor moves every second time
_PAIRS = 12  # of plain updates, for each pair in which links move
_NEVER = 1_000_000_000


def measure(*, rounds: int = 60, cases: tuple[Case, ...] = (HALFCHEETAH, HUMANOID)) -> list[Row]:
    """Measure all cases; takes about three minutes.

    Args:
        rounds: samples of each.
        cases: sizes; RLx2 as published is measured with the first one.

    Returns:
        Rows in updates per second.
    """
    rows: list[Row] = []
    for case in cases:
        rows += updates.measure(updates.Settings("TD3", case, rounds=rounds))
    published = updates.Settings(
        "TD3",
        cases[0],
        networks=(PUBLISHED,),
        masked=PUBLISHED,
        name=AS_PUBLISHED.replace("halfcheetah", cases[0].name),
        n_step=3,
        rounds=rounds,
    )
    rows += updates.measure(published)
    with one_core():
        for sparsity in (0.9, 0.95):
            rows += evolution(cases[0], sparsity, rounds=rounds)
    for sparsity in (0.9, 0.95):
        rows += shared(cases[0], sparsity, rounds=rounds)
    return rows


def evolution(case: Case, sparsity: float, *, rounds: int) -> list[Row]:
    """Measure what it costs to move the links of every network once in so many updates.

    Two updates are timed at a time, for the actor learns every second time: pairs in which no links
    move, and then one in which those of both networks do, in turn on one learner.

    Args:
        case: sizes.
        sparsity: of all networks.
        rounds: samples.

    Returns:
        Shares of the time in percent, from the low and from the median times of both kinds.
    """
    critic = SparsityConfig(sparsity=sparsity, update_every=2 * (_PAIRS + 1), update_until=_NEVER)
    config = TD3Config(
        actor_hidden=HIDDEN,
        critic_hidden=HIDDEN,
        batch_size=BATCH,
        critic=critic,
        actor=dataclasses.replace(critic, update_every=_PAIRS + 1),  # counts its own steps
    )
    replay = random_replay(case, TRANSITIONS)
    learner = CompiledLearner(
        config.build(case.observations, case.actions, seed=0), replay.columns, seed=0
    )

    plain: list[float] = []
    moving: list[float] = []
    for _ in range(rounds + 1):  # the first compiles
        for _ in range(_PAIRS + 1):
            start = time.perf_counter()
            learner.learn(replay)
            _, moved = learner.learn(replay)
            (moving if moved else plain).append(time.perf_counter() - start)
        assert moved.keys() == {"critic", "actor"}
    alone, together = summarise(np.array(plain[_PAIRS:])), summarise(np.array(moving[1:]))
    rows = []
    for statistic, pair in alone.items():
        extra = together[statistic] - pair
        rows.append(
            Row(
                case=f"{case.name}, links move every {INTERVAL:,} updates",
                implementation=updates.ENGINE,
                sparsity=sparsity,
                updates_per_call=1,
                metric=EVOLUTION,
                statistic=statistic,
                value=100.0 * extra / (INTERVAL / 2 * pair + extra),
                unit="%",
            )
        )
    return rows


def shared(case: Case, sparsity: float, *, rounds: int) -> list[Row]:
    """Measure updates that two threads share beside those of one, in turn, one update a call.

    Args:
        case: sizes.
        sparsity: of all networks.
        rounds: samples of each.

    Returns:
        Rows in updates per second.
    """
    replay = random_replay(case, TRANSITIONS)
    settings = updates.Settings("TD3", case)
    calls = {}
    for threads in (1, 2):
        learner = updates.build(settings, sparsity, sparsity)
        assert isinstance(learner, TD3)
        update = td3_update(learner, replay.columns, threads=threads)

        def call(update: Update = update) -> None:
            for _ in range(_SHARED):
                update.run(1, transitions_of(replay))

        calls[str(threads)] = call
    rows = [
        Row(
            case=f"{case.name}, {sparsity:.0%} sparse, one learner",
            implementation=updates.ENGINE if threads == "1" else SHARED,
            sparsity=sparsity,
            threads=int(threads),
            updates_per_call=1,
            metric=updates.METRIC,
            statistic=statistic,
            value=_SHARED / seconds,
            unit="1/s",
        )
        for threads, samples in interleave(calls, rounds=rounds).items()
        for statistic, seconds in summarise(samples).items()
    ]
    return compare(rows, implementation=SHARED, ratio_to=updates.ENGINE)
