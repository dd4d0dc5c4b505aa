"""What a slot of the scheduling environment costs, and what an exact optimum costs.

64 environments, one thread, seconds of this process alone.

Marks: the core, observation and reward included, takes at most 1000 ns per user and slot at 8 and
32 users (a million user-slots a second) and 1667 ns at 4; ``gymnasium.vector`` at most twice the
core. The optimum takes at most 0.3 s for S1, 2 s for S3, 5 s for S5. A learned policy (RSD4 with
its memories, untrained: the cost is the same) decides for 256 users within 2 ms, what the slot
before brought taken in. Acting multiplies the zeros of a sparse policy too: its rows, by the share
of weights that are cut, show what that brings, which is nothing.

An update of RSD4 (all networks, S2's users) is timed on the reference and on the engine, by the
share of weights that are cut, with few sequences and with many.

``--reference PATH`` names a checkout of the published code (github hupihe/RSD4, not part of this
package), whose environment is then timed beside ours; it plays one environment.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium
import numpy as np
import torch

from thrifty.bench.cases import one_core
from thrifty.bench.schema import NOT_MEASURED, Row, commit_of, compare
from thrifty.bench.timing import Seconds, interleave, summarise
from thrifty.scheduling import optimum
from thrifty.scheduling.backend import Backend
from thrifty.scheduling.environment import Face, VectorScheduling
from thrifty.scheduling.features import Features
from thrifty.scheduling.policy import PolicyScheduler
from thrifty.scheduling.queueing import Queues, Sight
from thrifty.scheduling.rsd4 import RSD4, RSD4Config
from thrifty.scheduling.scenarios import Scenario, copies, scenario
from thrifty.scheduling.sequences import Episodes

ENVIRONMENTS = 64
MARKS = {4: 1667.0, 8: 1000.0, 32: 1000.0}
"""Most nanoseconds per user and slot of the core, by users."""
OPTIMUM_MARKS = {"S1": 0.3, "S3": 2.0, "S5": 5.0}
"""Most seconds of an optimum, by scenario."""
VECTOR_MARK = 2.0
"""The vector environment's time over the core's, at most."""
DECISION_MARK = 2.0
"""Most milliseconds of a learned decision for 256 users."""
USERS = (4, 32, 128, 256)
"""Users that a learned policy decides for."""
CORE, VECTOR, PUBLISHED = "thrifty core", "thrifty gymnasium.vector", "published environment"
_SCENARIOS = ("S1", "S2", "S3")  # 4, 8 and 32 users
_METRIC = "time per user and slot"
_DECISIONS = 10  # in a sample
CUT = (0.9, 0.95)
"""Share of cut weights of the policies that decide for 256 users, beside the dense one."""
SPARSITIES = (0.0, 0.8, 0.9, 0.95)
"""Share of cut weights of the updates that are timed; dense ones run on the reference alone."""
UPDATES = {8: (96, 512), 64: (256, 4096)}
"""Sequences of an update that is timed, with its networks' width and its cells."""


@one_core()
def measure(
    *,
    reference: Path | None = None,
    rounds: int = 20,
    slots: int = 200,
    published_slots: int = 100,
    updates: Mapping[int, tuple[int, int]] = UPDATES,
) -> list[Row]:
    """Measure all cases; takes about two minutes.

    Args:
        reference: a checkout of the published code.
        rounds: samples of each.
        slots: played per sample.
        published_slots: played per sample by the published environment, at most 100.
        updates: sequences, with width and cells.

    Returns:
        Rows in nanoseconds per user and slot, and in milliseconds per optimum, decision and update.

    Raises:
        ValueError: the reference is no such checkout.
    """
    theirs = PUBLISHED if reference is None else f"{PUBLISHED} ({commit_of(reference)})"
    rows: list[Row] = []
    for name in _SCENARIOS:
        of = scenario(name)
        actions = {CORE: _core(of, slots), VECTOR: _vector(of, slots)}
        counts = dict.fromkeys(actions, ENVIRONMENTS * of.flows * slots)
        published = _published(reference, of.flows, published_slots)
        if published is not None:
            actions[theirs] = published
            counts[theirs] = of.flows * published_slots
        case = f"{of.flows} users"
        samples = interleave(actions, rounds=rounds, clock=time.process_time)
        for one, seconds in samples.items():
            rows += _rows(case, one, seconds / counts[one] * 1e9, _METRIC, "ns")
        if published is None:
            rows.append(
                Row(
                    case=case,
                    implementation=PUBLISHED,
                    metric=_METRIC,
                    statistic=NOT_MEASURED,
                    value=None,
                    unit="ns",
                )
            )
        rows = compare(rows, implementation=VECTOR, ratio_to=CORE)
        rows = compare(rows, implementation=theirs, ratio_to=CORE)
    optima = {name: _optimum(scenario(name)) for name in OPTIMUM_MARKS}
    for name, seconds in interleave(optima, rounds=rounds, clock=time.process_time).items():
        rows += _rows(name, "thrifty optimum", seconds * 1e3, "time of an exact optimum", "ms")
    return [*rows, *_decisions(rounds), *_updates(rounds, updates)]


def _decisions(rounds: int) -> list[Row]:
    """The time of one decision of a learned policy, one environment, by users and sparsity."""
    actions = {f"RSD4, {users} users": _decision(users, 0.0) for users in USERS}
    cut = {f"RSD4, {USERS[-1]} users, {100 * part:g} % cut": part for part in CUT}
    actions |= {case: _decision(USERS[-1], part) for case, part in cut.items()}
    rows: list[Row] = []
    for case, seconds in interleave(actions, rounds=rounds, clock=time.process_time).items():
        values, sparsity = seconds / _DECISIONS * 1e3, cut.get(case, 0.0)
        rows += _rows(case, "thrifty policy", values, "time of a decision", "ms", sparsity)
    return rows


def _updates(rounds: int, sizes: Mapping[int, tuple[int, int]]) -> list[Row]:
    """The time of an update, by sequences, sparsity and what runs it."""
    rows: list[Row] = []
    for sequences, (width, cells) in sizes.items():
        for sparsity in SPARSITIES:
            backends: list[Backend] = ["reference"] if sparsity == 0 else ["reference", "engine"]
            actions = {
                f"RSD4, {one}": _update(one, sparsity, sequences, width, cells) for one in backends
            }
            case = f"{sequences} sequences, width {width}, {100 * sparsity:g} % cut"
            samples = interleave(actions, rounds=max(1, rounds // 4), clock=time.process_time)
            for one, seconds in samples.items():
                rows += _rows(case, one, seconds * 1e3, "time of an update", "ms", sparsity)
    return compare(rows, implementation="RSD4, engine", ratio_to="RSD4, reference")


def _update(
    backend: Backend, sparsity: float, sequences: int, width: int, cells: int
) -> Callable[[], object]:
    of = scenario("S2")
    config = RSD4Config(
        sparsity=sparsity, sequences=sequences, width=width, rows=cells, prediction=1.0,
        backend=backend, critic_first=0, policy_delay=1, evolve_every=0,
    )  # fmt: skip
    sight = Sight(kind="hidden")
    learner = RSD4(config, Features(of, sight, queue=True), seed=0, updates=1000)
    episodes = Episodes(ENVIRONMENTS, ENVIRONMENTS, 60, of.flows, 1, of.most_attempts)
    queues = Queues(of, ENVIRONMENTS, sight=sight)
    energies = np.random.default_rng(0).random((60, *queues.queue.shape), dtype=np.float32)
    episodes.see(0, queues.view())
    for slot, energy in enumerate(energies):
        episodes.did(slot, energy, queues.step(energy.astype(np.float64)).success)
        episodes.see(slot + 1, queues.view())
    episodes.close()
    batch = episodes.draw(sequences, torch.Generator().manual_seed(0))
    prices = torch.full((sequences, 1), 0.7)
    return lambda: learner.update(batch, prices)


def _decision(users: int, sparsity: float) -> Callable[[], None]:
    of = scenario("S1") if users == 4 else copies(users)
    learner = RSD4(
        RSD4Config(sparsity=sparsity), Features(of, Sight(), queue=False), seed=0, updates=1
    )
    policy = PolicyScheduler(learner, [1.0])
    queues = Queues(of, 1)
    policy.reset(1)
    for _ in range(of.most_attempts):  # queues as full as they are in the long run
        policy.observe(queues.step(policy.energies(queues.view())))
    slot = queues.step(policy.energies(queues.view()))
    view = queues.view()

    def sample() -> None:
        for _ in range(_DECISIONS):
            policy.observe(slot)
            policy.energies(view)

    return sample


def _core(of: Scenario, slots: int) -> Callable[[], None]:
    """Energies in, observation and reward out."""
    face = Face(
        of, ENVIRONMENTS, sight="full", multiplier=0.5, pure_throughput=False,
        start="stationary", clock=None,
    )  # fmt: skip
    face.reset(0, None)
    energies = np.random.default_rng(0).random(face.queues.queue.shape)

    def sample() -> None:
        for _ in range(slots):
            slot = face.queues.step(energies)
            _ = slot.throughput - (slot.energy * face.multiplier).sum(axis=1)
            face.observation()

    return sample


def _vector(of: Scenario, slots: int) -> Callable[[], None]:
    env = VectorScheduling(ENVIRONMENTS, of, sight="full", multiplier=0.5)
    env.reset(seed=0)
    shape = (ENVIRONMENTS, *(env.single_action_space.shape or ()))
    actions = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)

    def sample() -> None:
        for _ in range(slots):
            env.step(actions)

    return sample


def _published(reference: Path | None, users: int, slots: int) -> Callable[[], None] | None:
    """The published environment's official instance of so many users, or None without its code."""
    if reference is None:
        return None
    path = reference / "env" / "scheduler_csi.py"
    spec = importlib.util.spec_from_file_location("published_scheduler", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ValueError(f"{reference} has no env/scheduler_csi.py: name a checkout of RSD4")
    module = importlib.util.module_from_spec(spec)
    aliases = {"gym": gymnasium, "gym.spaces": gymnasium.spaces}  # it wants the old package
    with mock.patch.dict(sys.modules, aliases):
        spec.loader.exec_module(module)
    env: Any = module.scheduler_csi(0.5, user_num=users)
    actions = np.random.default_rng(0).uniform(-1, 1, (slots, int(env.action_dim)))

    def sample() -> None:
        env.reset()
        for action in actions:
            env.step(action)

    return sample


def _optimum(of: Scenario) -> Callable[[], object]:
    return lambda: optimum.solve(of, of.budget)


def _rows(
    case: str,
    implementation: str,
    values: Seconds,
    metric: str,
    unit: str,
    sparsity: float | None = None,
) -> list[Row]:
    return [
        Row(
            case=case,
            implementation=implementation,
            sparsity=sparsity,
            metric=metric,
            statistic=statistic,
            value=value,
            unit=unit,
        )
        for statistic, value in summarise(values).items()
    ]
