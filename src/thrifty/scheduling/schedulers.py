"""What a scheduler is, and those that act by a table.

A scheduler sees a :class:`~thrifty.scheduling.queueing.View` and answers with an energy for every
cell; after the slot it is told what happened. It serves all environments of a run at once.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from thrifty.scheduling.optimum import Optimum
from thrifty.scheduling.queueing import Slot, View
from thrifty.scheduling.scenarios import Scenario

Floats = NDArray[np.float64]

_GOLDEN = 0.6180339887498949  # multiples of it fill the unit interval evenly


class Scheduler(Protocol):
    """One interface for all rules, planners and learned policies."""

    name: str
    """How tables call it."""

    def reset(self, environments: int) -> None:
        """Begin with so many environments, without memory of what was."""

    def energies(self, view: View) -> Floats:
        """Return the energy of an attempt in every cell [M, F, H, K], in [0, 1]."""

    def observe(self, slot: Slot) -> None:
        """Be told what the slot brought; its arrays change with the next slot."""


def hopeful(scenario: Scenario) -> NDArray[np.bool_]:
    """Return at which hop and with how many slots left a packet can still arrive [H, K]."""
    hops_after = scenario.hops - 1 - np.arange(scenario.hops)[:, None]
    return np.asarray(np.arange(scenario.most_attempts) >= hops_after)


def phase_of(view: View, period: int, name: str) -> NDArray[np.int64]:
    """Return the slot of a channel's cycle in each environment [M], 0 where there is no cycle.

    Raises:
        ValueError: there is one and it is hidden.
    """
    if period == 1:
        return np.zeros(len(view.queue), dtype=np.int64)
    if view.phase is None:
        raise ValueError(f"{name} needs to see the phase of the channel's cycle")
    return view.phase


class TableScheduler:
    """Acts by a table of energies, or by two of them mixed.

    With two tables all packets that arrived in one slot keep to one of them, and the slots are
    dealt out evenly, so the long-run average is the mixture's.

    Args:
        scenario: the problem.
        optimum: tables and shares, from ``optimum.solve``, ``hidden.blind`` and the like.
        name: for tables.
        episode: slots after which all ends; a packet then counts as having the attempts until
            there, as in ``optimum.packets_of_episode``. None: it goes on.
    """

    def __init__(
        self,
        scenario: Scenario,
        optimum: Optimum,
        *,
        name: str = "optimal table",
        episode: int | None = None,
    ) -> None:
        self.name = name
        self._scenario = scenario
        self._tables = optimum.tables  # [Q, F, S, H, K]
        self._share = optimum.shares[0]
        self._episode = episode
        left = np.arange(scenario.most_attempts)
        self._left = left
        self._age = scenario.attempts[:, None] - 1 - left  # slots since arrival [F, K]
        self._slot = 0

    def reset(self, environments: int) -> None:
        """Begin at slot 0."""
        self._slot = 0

    def energies(self, view: View) -> Floats:
        """Return the table's energies for the channels seen (any table entry if hidden)."""
        rows = [self._rows(table, view) for table in self._tables]
        if len(rows) == 1:
            return rows[0]
        cohort = (self._slot - self._age) * _GOLDEN % 1.0  # [F, K]
        first = (cohort < self._share)[:, None, :]
        return np.where(first, rows[0], rows[1])

    def _rows(self, table: Floats, view: View) -> Floats:
        environments, flows, hops, _ = view.queue.shape
        if view.channel is None:
            state = np.zeros((environments, flows), dtype=np.int64)
        else:
            states = self._scenario.channel.states
            digits = np.moveaxis(view.channel, -1, 0)
            state = np.ravel_multi_index(tuple(digits), (states,) * hops)
        phase = phase_of(view, len(table), self.name)
        rows = table[phase[:, None], np.arange(flows), state]
        if self._episode is None:
            return np.asarray(rows)
        remaining = np.clip(self._episode - 1 - self._slot, 0, None)
        return np.asarray(rows[..., np.minimum(self._left, remaining)])

    def observe(self, slot: Slot) -> None:
        """Count the slot."""
        self._slot += 1


class ConstantScheduler:
    """The same energy for every packet that can still arrive ("uniform").

    Args:
        scenario: the problem.
        energy: of an attempt, one number or one for each hop.
        name: for tables.
    """

    def __init__(self, scenario: Scenario, energy: Any, *, name: str = "uniform") -> None:
        self.name = name
        per_hop = np.broadcast_to(np.asarray(energy, dtype=np.float64), (scenario.hops,))
        self.energy = per_hop[:, None] * hopeful(scenario)
        """By hop and slots left [H, K]."""

    def reset(self, environments: int) -> None:
        """There is nothing to forget."""

    def energies(self, view: View) -> Floats:
        """Return the constant."""
        return np.broadcast_to(self.energy, view.queue.shape)

    def observe(self, slot: Slot) -> None:
        """There is nothing to learn."""
