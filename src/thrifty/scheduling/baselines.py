"""The schedulers that practitioners use, beside priced rules and planners, in one table.

* with a hard budget in every slot: the rules of ``priorities.py`` (EDF, PF, M-LWDF, EXP rule,
  MaxWeight, greedy), and per-slot water-filling: the myopic rule at the price that spends exactly
  E_0 in this slot.
* uniform: one energy for all. * myopic: ``max_e beta p(e) - price e`` at one price.
* drift plus penalty: the same with the price Z / V, Z a virtual queue of overspending.
* certainty equivalent: estimates chain and arrivals from what it sees, solves the estimated problem
  exactly, and again whenever its data have doubled.
* where the channel is hidden, late or noisy: the best blind table, the Bayes filter (which looks at
  what got through alone), and with a channel one slot late the optimal table on that.

The last groups meet the budget on average.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thrifty.scheduling import hidden, optimum
from thrifty.scheduling.arrivals import Arrivals
from thrifty.scheduling.belief import BeliefScheduler, filtered
from thrifty.scheduling.channels import MarkovChannel
from thrifty.scheduling.measurement import Measured, measure
from thrifty.scheduling.priorities import PRIORITIES, PriorityScheduler, Seeing
from thrifty.scheduling.queueing import Sight, Slot, View
from thrifty.scheduling.scenarios import Scenario, node_budget
from thrifty.scheduling.schedulers import (
    ConstantScheduler,
    Scheduler,
    TableScheduler,
    hopeful,
    phase_of,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_HALVINGS = 24  # of the log price of a slot
_FIRST_PLAN = 16  # slots seen before the first plan
_PRIOR = 0.1  # transitions taken as seen between any two states
_PRICE_SEED = 2_000_003  # of the runs that set the Bayes filter's price, apart from measurements
_PATIENCE = 50.0  # V, in budgets: slots of twice the budget that raise the price by 1


class WaterFilling:
    """The myopic rule at the price that spends exactly the budget in every slot.

    Where all packets at full energy cost less, all are sent at full energy.
    """

    def __init__(self, scenario: Scenario, budget: Any) -> None:
        self.name = "water-filling"
        self._scenario, self._seeing = scenario, Seeing(scenario)
        self._budget = node_budget(budget, scenario.hops)
        self._top = optimum.highest_price(scenario)
        self._hopeful = hopeful(scenario)

    def reset(self, environments: int) -> None:
        """There is nothing to forget."""

    def energies(self, view: View) -> Floats:
        """Return the energies of this slot."""
        scenario = self._scenario
        attenuation = self._seeing.attenuation(view, self.name)  # [M, F, H]
        packets = (view.queue * self._hopeful).sum(axis=-1)
        weights = scenario.weights[:, None]

        def spent(price: Floats) -> tuple[Floats, Any]:
            energy = scenario.law.best_energy(weights, price[:, None], attenuation)
            return energy, (energy * packets).sum(axis=1)

        low = np.full((len(packets), scenario.hops), np.log(self._top * 1e-6))
        high = np.full_like(low, np.log(self._top))
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            over = spent(np.exp(middle))[1] > self._budget
            low, high = np.where(over, middle, low), np.where(over, high, middle)
        energy, _ = spent(np.exp(high))
        rich = packets.sum(axis=1) <= self._budget
        energy = np.where(rich[:, None], 1.0, energy)
        return np.asarray(energy[..., None] * self._hopeful)

    def observe(self, slot: Slot) -> None:
        """There is nothing to learn."""


class PricedScheduler:
    """The myopic rule ``max_e beta p(e) - price e`` at a fixed price for each node."""

    def __init__(self, scenario: Scenario, prices: Any, *, name: str = "myopic") -> None:
        self.name = name
        self._scenario, self._seeing = scenario, Seeing(scenario)
        self._prices = node_budget(prices, scenario.hops)
        self._hopeful = hopeful(scenario)

    def reset(self, environments: int) -> None:
        """Begin with the same price everywhere."""
        self._price = np.tile(self._prices, (environments, 1))

    def energies(self, view: View) -> Floats:
        """Return the energies at the present price."""
        attenuation = self._seeing.attenuation(view, self.name)
        weights = self._scenario.weights[:, None]
        energy = self._scenario.law.best_energy(weights, self._price[:, None], attenuation)
        return np.asarray(energy[..., None] * self._hopeful)

    def observe(self, slot: Slot) -> None:
        """There is nothing to learn."""


class DriftPlusPenalty(PricedScheduler):
    """The myopic rule at the price Z / V; Z grows by what is spent beyond the budget.

    It knows the success law and nothing of arrivals or channels.

    Args:
        scenario: the problem.
        budget: one number or one for each node.
        v: V; larger is closer to the best myopic price, and slower. 50 budgets if left out.
    """

    def __init__(self, scenario: Scenario, budget: Any, *, v: float | None = None) -> None:
        super().__init__(scenario, 0.0, name="drift plus penalty")
        if v is not None and not v > 0:
            raise ValueError(f"drift plus penalty needs v > 0, got {v}")
        self._budget = node_budget(budget, scenario.hops)
        self._v = np.maximum(_PATIENCE * self._budget, 1e-9) if v is None else np.asarray(v)

    def observe(self, slot: Slot) -> None:
        """Move the virtual queue."""
        self._price = np.maximum(self._price + (slot.energy - self._budget) / self._v, 0.0)


class CertaintyEquivalent:
    """Estimates channel matrices and arrival rates, and acts by the estimated problem's optimum.

    It is told weights, deadlines, distances, channel values and which links share a matrix; it
    learns from all environments of a run together, so with M of them it sees M slots at once.

    Args:
        scenario: its arrivals and matrices are not read, only their sizes.
        budget: one number or one for each node.

    Raises:
        ValueError: a recorded channel.
    """

    def __init__(self, scenario: Scenario, budget: Any) -> None:
        if not isinstance(scenario.channel, MarkovChannel):
            raise ValueError("the certainty-equivalent planner needs a channel that is a chain")
        self.name = "certainty equivalent"
        self._scenario, self._channel = scenario, scenario.channel
        self._budget = node_budget(budget, scenario.hops)

    def reset(self, environments: int) -> None:
        """Begin with uniform matrices and without a plan."""
        self._counts = np.full(self._channel.kernels.shape, _PRIOR)
        self._arrived = np.zeros(self._scenario.flows)
        self._slots = 0
        self._before: tuple[Ints, Ints] | None = None
        self._plan: Scheduler = ConstantScheduler(self._scenario, 0.5)
        self._next_plan = _FIRST_PLAN

    def energies(self, view: View) -> Floats:
        """Learn from the channel's last move; return the present plan's energies."""
        if view.channel is None:
            raise ValueError(f"{self.name} needs to see the channel, which is hidden here")
        phase = phase_of(view, self._channel.period, self.name)
        if self._before is not None:
            state, slot = self._before
            matrix = np.array(self._channel.cycle)[slot]
            _, flows, hops, _, _ = self._counts.shape
            flow = np.arange(state.shape[1])[:, None] % flows
            hop = np.arange(state.shape[2]) % hops
            np.add.at(self._counts, (matrix[:, None, None], flow, hop, state, view.channel), 1.0)
        self._before = view.channel.copy(), phase.copy()
        if self._slots >= self._next_plan:
            self._next_plan *= 2
            self._plan = TableScheduler(self._scenario, self._solved())
        return self._plan.energies(view)

    def observe(self, slot: Slot) -> None:
        """Learn from the arrivals."""
        self._arrived += slot.arrived.mean(axis=0)
        self._slots += 1
        self._plan.observe(slot)

    def _solved(self) -> optimum.Optimum:
        kernels = self._counts / self._counts.sum(axis=-1, keepdims=True)
        estimated = dataclasses.replace(
            self._scenario,
            arrivals=Arrivals(self._arrived / self._slots),
            channel=dataclasses.replace(self._channel, kernels=kernels),
        )
        return optimum.solve(estimated, self._budget)


def uniform(scenario: Scenario, budget: Any) -> ConstantScheduler:
    """Return the constant energy (of each hop) that meets the budget in the long run, exactly."""
    budgets = node_budget(budget, scenario.hops)
    of = optimum.packets(scenario)
    energy = np.ones(scenario.hops)
    shape = (len(of.kernels), *of.attenuation.shape, scenario.most_attempts)
    for hop in range(scenario.hops):  # a node's energy depends on its own and those before it
        low, high = 0.0, 1.0
        for _ in range(40):
            energy[hop] = 0.5 * (low + high)
            table = np.broadcast_to(ConstantScheduler(scenario, energy).energy, shape)
            spent = optimum.run(of, np.zeros(scenario.hops), table=table).energy[hop]
            low, high = (low, energy[hop]) if spent > budgets[hop] else (energy[hop], high)
        energy[hop] = high
    return ConstantScheduler(scenario, energy)


def lineup(scenario: Scenario, *, sight: Sight) -> dict[str, Callable[[Any], Scheduler]]:
    """Return every scheduler that can act on what is seen, the optimal (or best known) one last.

    Returns:
        by name a function of the budget (one number or one for each node) that returns it.
    """
    rules: dict[str, Callable[[Any], Scheduler]] = {"uniform": partial(uniform, scenario)}
    rules |= {name: partial(PriorityScheduler, scenario, name=name) for name in PRIORITIES}
    if sight.kind != "full":
        if scenario.hops == 1:
            rules["blind"] = lambda budget: TableScheduler(
                scenario, hidden.blind(scenario, budget), name="blind"
            )
            rules["Bayes filter"] = partial(_filter, scenario)
        if scenario.hops == 1 and sight.delay == 1:
            rules["delayed table"] = lambda budget: TableScheduler(
                scenario, hidden.delayed(scenario, budget), name="delayed table"
            )
        return rules
    return rules | {
        "water-filling": partial(WaterFilling, scenario),
        "myopic": lambda budget: PricedScheduler(
            scenario, optimum.myopic(scenario, budget).multiplier
        ),
        "drift plus penalty": partial(DriftPlusPenalty, scenario),
        "certainty equivalent": partial(CertaintyEquivalent, scenario),
        "optimal table": lambda budget: TableScheduler(scenario, optimum.solve(scenario, budget)),
    }


def _filter(scenario: Scenario, budget: Any) -> BeliefScheduler:
    found = filtered(scenario, budget, environments=32, slots=400, seed=_PRICE_SEED)
    return BeliefScheduler(scenario, found.multiplier)


def table(
    scenario: Scenario,
    budget: Any,
    *,
    sight: Sight | None = None,
    also: Iterable[Scheduler] = (),
    environments: int = 32,
    slots: int = 1000,
    warm_up: int = 300,
    seed: int = 0,
) -> list[tuple[Measured, float, float]]:
    """Measure every scheduler on the same arrivals, channels and uniforms.

    Args:
        scenario: the problem, a chain.
        budget: one number or one for each node.
        sight: of the channel; the scenario's own if left out.
        also: schedulers of one's own or trained ones, measured after the others.
        environments: M.
        slots: counted, in each.
        warm_up: slots before them, in which rules that adapt settle.
        seed: of all runs.

    Returns:
        for each scheduler what was measured, its part of the optimum (channel seen) at the budget,
        and at the energy that it spent.
    """
    sight = sight or Sight(kind="hidden" if scenario.hidden else "full")
    best = optimum.solve(scenario, budget).optimum
    rows = []
    known = (make(budget) for make in lineup(scenario, sight=sight).values())
    for scheduler in chain(known, also):
        found = measure(
            scenario,
            scheduler,
            environments=environments,
            slots=slots,
            warm_up=warm_up,
            seed=seed,
            sight=sight,
        )
        there = optimum.solve(scenario, found.energy).optimum
        rows.append((found, found.throughput / best, found.throughput / max(there, 1e-300)))
    return rows
