"""Measuring a scheduler: long runs of many environments, with common random numbers.

Warm-up slots are played and not counted; what is compared with the long-run optimum must have them.
Two schedulers measured with one seed meet the same arrivals, channels and uniforms.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thrifty.scheduling.queueing import Queues, Sight
from thrifty.scheduling.scenarios import Scenario
from thrifty.scheduling.schedulers import Scheduler

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """What a scheduler did, per slot and environment unless said otherwise.

    Args:
        name: of the scheduler.
        throughput: weighted deliveries.
        throughput_error: standard error over environments (0 for one environment).
        energy: of each node [H].
        energy_over_time: of each node in every counted slot, mean over environments [slots, H].
        energy_error: its standard error [H].
        each: weighted throughput of every environment [M], for paired comparisons.
        each_energy: energy of every environment at each node [M, H].
        delivered: packets of each flow [F].
        missed: packets of each flow [F].
        miss_ratio: of the packets decided, the part missed [F].
        delays: of the packets delivered, the part that took 1, 2, ... slots [F, K].
        fairness: Jain's index of the delivered parts, flows counted by weight; 1 is equal.
    """

    name: str
    throughput: float
    throughput_error: float
    energy: Floats
    energy_over_time: Floats
    energy_error: Floats
    each: Floats
    each_energy: Floats
    delivered: Floats
    missed: Floats
    miss_ratio: Floats
    delays: Floats
    fairness: float


def measure(
    scenario: Scenario,
    scheduler: Scheduler,
    *,
    environments: int = 32,
    slots: int = 2000,
    warm_up: int = 20,
    seed: int = 0,
    sight: Sight | None = None,
    start: str = "stationary",
    clock: int | None = None,
) -> Measured:
    """Play a scheduler and count.

    Args:
        scenario: the problem.
        scheduler: is reset first.
        environments: M, run at once.
        slots: counted, in each.
        warm_up: slots before them.
        seed: of all random numbers.
        sight: hidden for a scenario that says so, else full, if left out.
        start: see :class:`~thrifty.scheduling.queueing.Queues`.
        clock: as there.

    Raises:
        ValueError: no slot to count, or energies outside [0, 1].
    """
    if slots < 1 or warm_up < 0:
        raise ValueError(f"measuring needs slots >= 1 and warm_up >= 0, got {slots} and {warm_up}")
    sight = sight or Sight(kind="hidden" if scenario.hidden else "full")
    queues = Queues(scenario, environments, sight=sight, start=start, clock=clock)
    queues.reset(seed)
    scheduler.reset(environments)
    over_time = np.empty((warm_up + slots, scenario.hops))
    for slot in range(warm_up + slots):
        if slot == warm_up:
            queues.clear_tally()
        energies = scheduler.energies(queues.view())
        if not (energies.min() >= 0.0 and energies.max() <= 1.0):
            raise ValueError(f"{scheduler.name} gave energies outside [0, 1]")
        found = queues.step(energies)
        over_time[slot] = found.energy.mean(axis=0)
        scheduler.observe(found)
    return _tallied(scheduler.name, queues, over_time[warm_up:])


def _tallied(name: str, queues: Queues, over_time: Floats) -> Measured:
    slots = queues.slots
    delivered = queues.delivered / slots
    missed = queues.missed / slots
    each = delivered @ queues.scenario.weights
    energy = queues.spent.sum(axis=1) / slots
    decided = np.maximum((delivered + missed).sum(axis=0), 1e-300)
    ratio = missed.sum(axis=0) / decided
    counts = queues.delays.sum(axis=0)
    return Measured(
        name=name,
        throughput=float(each.mean()),
        throughput_error=float(_error(each)),
        energy=energy.mean(axis=0),
        energy_over_time=over_time,
        energy_error=np.asarray(_error(energy)),
        each=each,
        each_energy=energy,
        delivered=delivered.mean(axis=0),
        missed=missed.mean(axis=0),
        miss_ratio=ratio,
        delays=counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1),
        fairness=jain(1.0 - ratio, queues.scenario.weights),
    )


def jain(shares: Any, weights: Any) -> float:
    """Return Jain's index ``(sum w x)^2 / (sum w . sum w x^2)``; 1 where nothing is shared out.

    Example:
        >>> jain([1.0, 0.0], [1.0, 1.0])
        0.5
    """
    shares, weights = np.asarray(shares, dtype=float), np.asarray(weights, dtype=float)
    squares = float(weights.sum() * (weights @ shares**2))
    return float(weights @ shares) ** 2 / squares if squares > 0 else 1.0


def _error(values: Floats) -> Any:
    if len(values) < 2:
        return np.zeros(values.shape[1:])
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))
