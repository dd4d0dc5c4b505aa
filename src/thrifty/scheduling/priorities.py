"""Rules with a hard budget: packets in order of a priority, each with full energy.

At each node at most E_0 is spent in every slot. Symbols: r = p(1, c), the chance at full energy in
the channel seen; R the flow's smoothed rate of deliveries; D slots waited; Q packets in the flow's
queue; beta weight; k slots left (1 is the last chance).

With a hidden channel r is the long-run average. Over several hops a packet's D and k count end to
end, each node ranks its own packets, and what can no longer arrive is not sent.

Legend: M environments, F flows, H hops, K most attempts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thrifty.scheduling.channels import MarkovChannel
from thrifty.scheduling.queueing import Slot, View
from thrifty.scheduling.scenarios import Scenario, node_budget
from thrifty.scheduling.schedulers import hopeful

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SMOOTHING = 0.01  # of the rate R, per slot


class Facts(NamedTuple):
    """What a priority may depend on; all of [M, F, H, K] when broadcast."""

    chance: Floats
    """r [M, F, H, 1]."""
    weight: Floats
    """beta [F, 1, 1]."""
    left: Floats
    """k [K]."""
    waited: Floats
    """D [F, 1, K]."""
    queued: Floats
    """Q [M, F, H, 1]."""
    oldest: Floats
    """Largest D in the flow's queue, 0 where it is empty [M, F, H, 1]."""
    rate: Floats
    """R [M, F, 1, 1]."""


Priority = Callable[[Facts], Floats]


def earliest_deadline(facts: Facts) -> Floats:
    """Smallest k first, ties by beta r."""
    return np.asarray(-facts.left * 1e6 + facts.weight * facts.chance)


def proportional_fair(facts: Facts) -> Floats:
    """Return r / R."""
    return facts.chance / facts.rate


def largest_weighted_delay(facts: Facts) -> Floats:
    """Return beta D r / R (M-LWDF)."""
    return facts.weight * facts.waited * facts.chance / facts.rate


def exponential_rule(facts: Facts) -> Floats:
    """Return exp((D - mean) / (1 + sqrt(mean))) r / R; the mean is over the flows that hold packets
    at the node, of the D of the oldest of each.
    """
    holding = np.maximum((facts.queued > 0).sum(axis=1, keepdims=True), 1)
    mean = facts.oldest.sum(axis=1, keepdims=True) / holding  # [M, 1, H, 1]
    urgency = np.exp((facts.waited - mean) / (1.0 + np.sqrt(mean)))
    return np.asarray(urgency * facts.chance / facts.rate)


def max_weight(facts: Facts) -> Floats:
    """Return beta r Q."""
    return facts.weight * facts.chance * facts.queued


def greedy(facts: Facts) -> Floats:
    """Return beta r."""
    return facts.weight * facts.chance


PRIORITIES: dict[str, Priority] = {
    "EDF": earliest_deadline,
    "PF": proportional_fair,
    "M-LWDF": largest_weighted_delay,
    "EXP rule": exponential_rule,
    "MaxWeight": max_weight,
    "greedy": greedy,
}
"""The rules with a hard budget by name."""


class Seeing:
    """What rules need to turn the channel seen into attenuations and chances."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        channel = scenario.channel
        by_state = scenario.law.probability(1.0, scenario.attenuation)  # [F, H, C]
        if isinstance(channel, MarkovChannel):
            law = channel.stationary().mean(axis=0)
        else:
            counts = [(channel.states_at == state).mean(axis=0) for state in range(channel.states)]
            law = np.stack(counts, axis=-1)
        self._average = (law * by_state).sum(axis=-1)  # [F, H]
        self._by_state = by_state
        flows, hops = scenario.distances.shape
        self._link = (np.arange(flows)[:, None], np.arange(hops))

    def chance(self, view: View) -> Floats:
        """Return r of every link [M, F, H]."""
        if view.channel is None:
            return np.broadcast_to(self._average, view.queue.shape[:3])
        return np.asarray(self._by_state[(*self._link, view.channel)])

    def attenuation(self, view: View, name: str) -> Floats:
        """Return that of every link [M, F, H].

        Raises:
            ValueError: the channel is hidden.
        """
        if view.channel is None:
            raise ValueError(f"{name} needs to see the channel, which is hidden here")
        return np.asarray(self.scenario.attenuation[(*self._link, view.channel)])


class PriorityScheduler:
    """Full energy in order of a priority, until the slot's budget is spent.

    The cell in which the budget ends gets what is left, spread over its packets.

    Args:
        scenario: the problem.
        budget: per slot, one number or one for each node.
        name: one of :data:`PRIORITIES`.
    """

    def __init__(self, scenario: Scenario, budget: Any, name: str) -> None:
        self.name = name
        self._priority = PRIORITIES[name]
        self._seeing = Seeing(scenario)
        self._budget = node_budget(budget, scenario.hops)
        left = np.arange(1, scenario.most_attempts + 1, dtype=np.float64)
        self._left = left
        self._hopeful = hopeful(scenario)
        self._waited = np.maximum(scenario.attempts[:, None] - left + 1.0, 0.0)[:, None, :]
        self._scenario = scenario

    def reset(self, environments: int) -> None:
        """Begin with the rates that offered traffic would have."""
        self._rate = np.tile(self._scenario.arrivals.mean, (environments, 1))

    def energies(self, view: View) -> Floats:
        """Return the energies of this slot."""
        queue = view.queue
        facts = Facts(
            self._seeing.chance(view)[..., None],
            self._scenario.weights[:, None, None],
            self._left,
            self._waited,
            queue.sum(axis=-1, keepdims=True).astype(np.float64),
            np.where(queue > 0, self._waited, 0.0).max(axis=-1, keepdims=True),
            np.maximum(self._rate, 1e-6)[:, :, None, None],
        )
        priority = np.broadcast_to(self._priority(facts), queue.shape)
        return spend(priority, queue * self._hopeful, self._budget) * self._hopeful

    def observe(self, slot: Slot) -> None:
        """Smooth the rates of delivery."""
        self._rate += _SMOOTHING * (slot.delivered - self._rate)


def spend(priority: Floats, queue: Ints, budget: Floats) -> Floats:
    """Return energies [M, F, H, K]: 1 in order of priority until each node's budget is spent."""
    environments, flows, hops, most = queue.shape

    def by_node(array: Any) -> Any:
        return np.swapaxes(array, 1, 2).reshape(environments, hops, flows * most)

    order = np.argsort(-by_node(priority), axis=-1, kind="stable")
    count = np.take_along_axis(by_node(queue), order, axis=-1)
    before = np.cumsum(count, axis=-1) - count
    part = np.clip((budget[:, None] - before) / np.maximum(count, 1), 0.0, 1.0)
    energy = np.empty_like(part)
    np.put_along_axis(energy, order, part, axis=-1)
    return np.swapaxes(energy.reshape(environments, hops, flows, most), 1, 2)
