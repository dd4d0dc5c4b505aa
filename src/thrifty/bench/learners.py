"""Several learners side by side, one process and one core each: what a second core brings."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from thrifty.bench.cases import Case, random_replay
from thrifty.control import SparsityConfig, TD3Config
from thrifty.control.fused import transitions_of
from thrifty.control.td3_fused import td3_update

_TRANSITIONS = 100_000
_PER_CALL = 16


def rates(
    case: Case, sparsity: float, *, rounds: int, seconds: float
) -> dict[int, NDArray[np.float64]]:
    """Return updates per second, in turn, of one learner and of two at the same time.

    Args:
        case: sizes.
        sparsity: of all networks.
        rounds: samples.
        seconds: of a sample.

    Returns:
        [rounds] by number of learners.
    """
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    workers = []
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    try:
        for number in range(2):
            here, there = context.Pipe()
            core = cores[number % len(cores)] if cores else None
            worker = context.Process(
                target=_learn, args=(there, case, sparsity, number, core), daemon=True
            )
            worker.start()
            there.close()
            workers.append(worker)
            pipes.append(here)
            here.recv()  # ready; one after the other, so that the second finds compiled code
        taken: dict[int, list[float]] = {1: [], 2: []}
        for number in range(rounds):
            alone = number % 2
            taken[1].append(_sample(pipes[alone : alone + 1], seconds))
            taken[2].append(_sample(pipes, seconds))
        return {count: np.array(values) for count, values in taken.items()}
    finally:
        for pipe in pipes:
            pipe.close()  # ends the worker
        for worker in workers:
            worker.join(timeout=10)


def _sample(pipes: list[Connection], seconds: float) -> float:
    """Let learners work until the same moment; return their updates per second together."""
    until = time.time() + 0.02 + seconds  # the wall clock, which processes share
    for pipe in pipes:
        pipe.send((until - seconds, until))
    return sum(float(pipe.recv()) for pipe in pipes)


def _learn(pipe: Connection, case: Case, sparsity: float, seed: int, core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    sparse = SparsityConfig(sparsity=sparsity)
    config = TD3Config(actor=sparse, critic=sparse)
    learner = config.build(case.observations, case.actions, seed=seed)
    replay = random_replay(case, _TRANSITIONS)
    update, transitions = td3_update(learner, replay.columns), transitions_of(replay)
    update.run(_PER_CALL, transitions)
    pipe.send(None)
    while True:
        try:
            begin, until = pipe.recv()
        except EOFError:
            return
        time.sleep(max(0.0, begin - time.time()))
        start, count = time.perf_counter(), 0
        while time.time() < until:
            update.run(_PER_CALL, transitions)
            count += _PER_CALL
        pipe.send(count / (time.perf_counter() - start))
