"""How a frozen policy is measured: blocks of episodes, a trade-off curve, one test.

An episode is 20 warm-up slots and 100 counted ones, against the long-run optimum. In the test the
exact optimal table (of whoever sees the channel) at the energy that the policy spent plays the same
arrivals, channels and uniforms; the difference is what counts, its noise being small.

Legend: H nodes, F flows, K most attempts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thrifty.scheduling import optimum
from thrifty.scheduling.channels import MarkovChannel
from thrifty.scheduling.measurement import Measured, jain, measure
from thrifty.scheduling.policy import PolicyScheduler
from thrifty.scheduling.queueing import Sight
from thrifty.scheduling.scenarios import Scenario
from thrifty.scheduling.schedulers import Scheduler, TableScheduler

Floats = NDArray[np.float64]

WARM_UP, COUNTED = 20, 100
"""Slots of a measured episode."""
_USERS = 1600  # in a block of episodes


def block(scenario: Scenario) -> int:
    """Return how many episodes are played at once."""
    return max(10, _USERS // scenario.flows)


class Assessment:
    """Measures policies of one scenario, block by block.

    Args:
        scenario: the problem, a chain.
        sight: what the policy sees.
        budget: E_0 [H].
        seed: of the test's episodes.

    Raises:
        ValueError: a recorded channel.
    """

    def __init__(self, scenario: Scenario, sight: Sight, budget: Floats, seed: int) -> None:
        if not isinstance(scenario.channel, MarkovChannel):
            raise ValueError("training needs a channel that is a chain: fit one to the record")
        self._scenario, self._sight, self._budget, self._seed = scenario, sight, budget, seed
        self.curve: list[dict[str, Any]] = []
        """Points of the trade-off curve measured so far."""
        self.tested = 0
        """Episodes of the finished test."""
        self._spent = np.zeros(scenario.hops)
        self._spent_episodes = 0
        self._own: list[dict[str, Any]] = []
        self._table: list[dict[str, Any]] = []

    def run(self, scheduler: Scheduler, episodes: int, seed: int) -> Measured:
        """Play so many episodes at once."""
        return measure(
            self._scenario,
            scheduler,
            environments=episodes,
            slots=COUNTED,
            warm_up=WARM_UP,
            seed=seed,
            sight=self._sight,
        )

    def summary(self, found: Measured) -> dict[str, Any]:
        """Return what records hold of a measurement."""
        there = optimum.solve(self._scenario, found.energy).optimum
        return {
            "throughput": found.throughput,
            "throughput_error": found.throughput_error,
            "energy": found.energy.tolist(),
            "optimum_at_energy": there,
            "of_optimum_at_energy": found.throughput / max(there, 1e-300),
        }

    def spend(self, scheduler: Scheduler, episodes: int, seed: int) -> Floats | None:
        """Play one block of a trial; return its energy [H] when all blocks are played."""
        many = min(block(self._scenario), episodes - self._spent_episodes)
        found = self.run(scheduler, many, seed + self._spent_episodes)
        self._spent = self._spent + many * found.energy
        self._spent_episodes += many
        if self._spent_episodes < episodes:
            return None
        mean = self._spent / self._spent_episodes
        self._spent, self._spent_episodes = np.zeros_like(self._spent), 0
        return np.asarray(mean)

    def curve_point(self, policy: Callable[[Any], PolicyScheduler], prices: Floats) -> None:
        """Measure a point of the trade-off curve."""
        seed = self._seed + 20_000_000 + len(self.curve)
        found = self.run(policy(prices), min(100, block(self._scenario)), seed)
        self.curve.append({"multiplier": prices.tolist(), **self.summary(found)})

    def test(self, policy: PolicyScheduler, episodes: int) -> dict[str, Any] | None:
        """Play one block of the test; return its result when all blocks are played.

        First the policy plays all of them, then the optimal table at the energy it spent.
        """
        size = block(self._scenario)
        sizes = [min(size, episodes - start) for start in range(0, episodes, size)]
        if len(self._own) < len(sizes):
            number = len(self._own)
            found = self.run(policy, sizes[number], self._seed + number)
            self._own.append(_kept(found, sizes[number]))
            return None
        energy = _mean(self._own, "energy")
        best = optimum.solve(self._scenario, energy)
        number = len(self._table)
        table = TableScheduler(self._scenario, best)
        found = measure(
            self._scenario,
            table,
            environments=sizes[number],
            slots=COUNTED,
            warm_up=WARM_UP,
            seed=self._seed + number,
            sight=Sight(),
        )
        self._table.append(_kept(found, sizes[number]))
        if len(self._table) < len(sizes):
            return None
        self.tested = episodes
        return self._result(energy, best)

    def _result(self, energy: Floats, best: optimum.Optimum) -> dict[str, Any]:
        each = np.concatenate([one["each"] for one in self._own])
        beside = np.concatenate([one["each"] for one in self._table])
        spent = np.concatenate([one["each_energy"] for one in self._own])
        beside_spent = np.concatenate([one["each_energy"] for one in self._table])
        # Both play the same randomness; what little their energies differ is charged, node by node.
        short = each - beside - (spent - beside_spent) @ best.multiplier
        error = float(short.std(ddof=1) / math.sqrt(len(short))) if len(short) > 1 else 0.0
        there = max(best.optimum, 1e-300)  # 0 for a policy that spends nothing
        at_budget = optimum.solve(self._scenario, self._budget).optimum
        delivered = _mean(self._own, "delivered")
        missed = _mean(self._own, "missed")
        ratio = missed / np.maximum(delivered + missed, 1e-300)
        counts = np.sum([one["delays"] for one in self._own], axis=0)
        return {
            "episodes": len(each),
            "throughput": float(each.mean()),
            "energy": energy.tolist(),
            "violation": float(np.max(energy / self._budget - 1.0)),
            "off_budget": float(np.max(np.abs(energy / self._budget - 1.0))),
            "optimum": at_budget,
            "optimum_at_energy": best.optimum,
            "of_optimum": float(each.mean()) / at_budget,
            "of_optimum_at_energy": float(each.mean()) / there,
            "paired": 1.0 + float(short.mean()) / there,
            "paired_error": error / there,
            "table_throughput": float(beside.mean()),
            "miss_ratio": ratio.tolist(),
            "delays": (counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1e-300)).tolist(),
            "fairness": jain(1.0 - ratio, self._scenario.weights),
            "energy_over_time": _mean(self._own, "energy_over_time").sum(axis=-1).tolist(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        return {
            "curve": list(self.curve),
            "tested": self.tested,
            "spent": self._spent.copy(),
            "spent_episodes": self._spent_episodes,
            "own": list(self._own),
            "table": list(self._table),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state."""
        self.curve, self.tested = list(state["curve"]), state["tested"]
        self._spent, self._spent_episodes = np.array(state["spent"]), state["spent_episodes"]
        self._own, self._table = list(state["own"]), list(state["table"])


def _kept(found: Measured, episodes: int) -> dict[str, Any]:
    return {
        "episodes": episodes,
        "each": found.each,
        "each_energy": found.each_energy,
        "energy": found.energy,
        "energy_over_time": found.energy_over_time,
        "delivered": found.delivered,
        "missed": found.missed,
        "delays": found.delays * found.delivered[:, None] * episodes,
    }


def _mean(blocks: list[dict[str, Any]], name: str) -> Floats:
    """The mean over all episodes of blocks that may differ in size."""
    total = sum(one["episodes"] for one in blocks)
    return np.asarray(sum(one["episodes"] * one[name] for one in blocks) / total)
