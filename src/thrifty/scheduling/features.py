"""What a scheduling agent knows of one user in one slot, as numbers for a network.

A user is a flow: one shared network serves all, so a user is described (weight, distances, number
of attempts, price of energy) and never numbered. Over several hops the nodes of a flow's path are
merged into one user: it sees the queues and channels of all its hops and the price of each node,
and a cell is told the distance, price and channel of its own link besides.

Worths are scaled: with the weight beta and prices l_1 .. l_H, everything is divided by
``beta + mean(l)``. A delivery then earns ``w = beta / (beta + mean(l))`` and a unit of energy at
hop h costs ``l_h / (beta + mean(l))``, so worths lie within [-1, 1] whatever the price.

Legend: F flows, H hops, K most attempts, J = H K cells of a flow, C channel states, O features of a
user, L of a link; N users (any leading shape) in the same slot or over a sequence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thrifty.scheduling.queueing import Sight
from thrifty.scheduling.scenarios import Scenario

_HARMONICS = 4  # of the channel's cycle
_LARGEST_LOG = 6.0  # of a price over a weight
_LOG_SCALE = 3.0


class Features:
    """Turns queues, channels and prices into the inputs of networks.

    Args:
        scenario: the problem.
        sight: what is seen of the channel.
        queue: whether the network sees how many packets wait.
    """

    def __init__(self, scenario: Scenario, sight: Sight, *, queue: bool) -> None:
        self.hops, self.most = scenario.hops, scenario.most_attempts
        self.cells = self.hops * self.most
        """J, cells of a flow."""
        self.queue = queue
        channel = scenario.channel
        self._states = 0 if sight.kind == "hidden" else channel.states
        period = channel.period if sight.phase else 1
        self._waves = _harmonics(period) if 1 < period <= _LONGEST_CYCLE else None
        self.weights = torch.tensor(scenario.weights, dtype=torch.float32)
        """beta [F]."""
        self.mask = torch.tensor(scenario.cells.reshape(scenario.flows, -1))
        """Cells that a packet of the flow can be in [F, J]."""
        self.attenuation = torch.tensor(3 * np.log(scenario.distances), dtype=torch.float32)
        """log d^3 [F, H]."""
        self.rates = torch.tensor(scenario.arrivals.mean, dtype=torch.float32).clamp(min=1e-3)
        """Mean packets per slot [F]."""
        attempts = torch.tensor(scenario.attempts / scenario.most_attempts, dtype=torch.float32)
        parts = [self.attenuation, attempts[:, None]]
        if queue:
            parts.append(self.mask.float())
        self._described = torch.cat(parts, dim=-1)
        lasting = self._described.shape[1] + self.hops
        self.size = lasting + self.hops * self._states + (self.cells if queue else 0)
        """O, numbers that describe a user in a slot."""
        self.size += 0 if self._waves is None else self._waves.shape[1]
        self.of_cell = torch.cat(
            [torch.eye(self.hops).repeat_interleave(self.most, 0),
             torch.eye(self.most).repeat(self.hops, 1)], dim=-1,
        )  # fmt: skip
        """What describes a cell: its hop and its slots left, one of each [J, H + K]."""
        self.of_link = 2 + self._states if self.hops > 1 else 0
        """L, numbers that describe a cell's own link; 0 over one hop, where the user's do."""

    def observe(
        self,
        flow: Tensor,
        prices: Tensor,
        queue: Tensor,
        channel: Tensor | None,
        phase: Tensor | None,
    ) -> Tensor:
        """Return what describes users [..., N, O].

        Args:
            flow: number of each [N].
            prices: of energy at each hop [N, H].
            queue: packets [..., N, J].
            channel: states seen [..., N, H], None if hidden.
            phase: slot of the channel's cycle [..., N], None if hidden.
        """
        lasting = self.lasting(flow, prices)
        return torch.cat(
            [lasting.expand(*queue.shape[:-1], -1), *self.passing(queue, channel, phase)], dim=-1
        )

    def lasting(self, flow: Tensor, prices: Tensor) -> Tensor:
        """Return the first of these numbers, which are the same in all slots [N, lasting]."""
        return torch.cat([self._described[flow], self._ratio(flow, prices)], dim=-1)

    def _ratio(self, flow: Tensor, prices: Tensor) -> Tensor:
        ratio = torch.log(prices / self.weights[flow, None].clamp(min=1e-9) + 1e-9)
        return ratio.clamp(-_LARGEST_LOG, _LARGEST_LOG) / _LOG_SCALE

    def passing(self, queue: Tensor, channel: Tensor | None, phase: Tensor | None) -> list[Tensor]:
        """Return those that follow them, which change from slot to slot, in parts [..., N, *]."""
        parts = []
        if self._states:
            assert channel is not None, "a sight that shows the channel"
            seen = torch.nn.functional.one_hot(channel.long(), self._states)
            parts.append(seen.flatten(-2).float())
        if self._waves is not None:
            assert phase is not None, "a sight that shows the phase"
            parts.append(self._waves[phase.long()])
        if self.queue:
            parts.append(torch.log1p(queue.float()))
        return parts

    def links(self, flow: Tensor, prices: Tensor, channel: Tensor | None) -> Tensor | None:
        """Return what describes the link of each hop [..., N, H, L]; None over one hop.

        Args:
            flow: number of each user [N].
            prices: [N, H].
            channel: states seen [..., N, H], None if hidden.
        """
        if not self.of_link:
            return None
        fixed = torch.stack([self.attenuation[flow], self._ratio(flow, prices)], dim=-1)
        if not self._states:
            return fixed
        assert channel is not None, "a sight that shows the channel"
        seen = torch.nn.functional.one_hot(channel.long(), self._states).float()
        return torch.cat([fixed.expand(*seen.shape[:-1], 2), seen], dim=-1)

    def worths(self, flow: Tensor, prices: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a delivery earns [N] and a unit of energy costs at each hop [N, H], scaled.

        Args:
            flow: number of each user [N].
            prices: [N, H].
        """
        weight = self.weights[flow]
        scale = (weight + prices.mean(dim=-1)).clamp(min=1e-9)
        return weight / scale, prices / scale[:, None]

    def costs(self, cost_of_hop: Tensor) -> Tensor:
        """Return the cost of a unit of energy in each cell [..., J] from that of each hop."""
        return cost_of_hop.repeat_interleave(self.most, dim=-1)

    def tried(self, flow: Tensor, success: Tensor, failure: Tensor, energy: Tensor) -> Tensor:
        """Return what a memory is told of a slot [..., N, J, 4].

        Args:
            flow: number of each user [N].
            success: packets that got through [..., N, J].
            failure: packets that did not.
            energy: of an attempt.
        """
        links = self.attenuation[flow].repeat_interleave(self.most, dim=-1)
        return torch.stack([success, failure, energy, links.expand(energy.shape)], dim=-1)


_LONGEST_CYCLE = 1000  # slots; what repeats more slowly (a record) has no phase to learn


def _harmonics(period: int) -> Tensor:
    """Sines and cosines of a cycle's slots [Q, 2 harmonics]."""
    angle = 2 * np.pi * np.outer(np.arange(period), np.arange(1, _HARMONICS + 1)) / period
    return torch.tensor(np.concatenate([np.sin(angle), np.cos(angle)], axis=1)).float()


def tensor(array: NDArray[Any] | None) -> Tensor | None:
    """Return an array of whole numbers as a tensor; None stays None."""
    return None if array is None else torch.from_numpy(np.ascontiguousarray(array))
