"""Credit packet by packet: the critic of a user is a sum over its packets.

    Q_n = sum_j B_j q(user, j, channel or memory, a_j)

Given the prices packets share nothing but what is learned about the channel, so with the channel
seen this is exact. A cell of B packets of which s got through gives, per packet, the targets

    p <- s / B,    v <- V(j - 1) of the next slot,    u <- w at the last hop, else V of the next hop

where V is the softmax value over sampled energies. There is no discount: a packet ends by itself.

Legend: T slots, B users (sequences), J cells, R rows (cells that hold packets), S samples, A
actors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from thrifty.scheduling.features import Features
from thrifty.scheduling.networks import PacketActor, PacketCritic
from thrifty.scheduling.sequences import Sequences
from thrifty.scheduling.softmax import sampled, softmax_value, straight_through

_CONTINUATION = 10.0  # weight of the squared errors of u and v beside the likelihood of p
_OUTSIDE = 1.0  # weight of what a proposal lies outside [0, 1]


class Rows(NamedTuple):
    """Cells of users."""

    user: Tensor
    """Which context each belongs to [R]."""
    cell: Tensor
    """Which cell [R]."""
    w: Tensor
    """What a delivery earns [R]."""
    cost: Tensor
    """Of a unit of energy [R]."""
    described: Tensor
    """What describes each to a head: cell and, over several hops, its link [R, H + K + L]."""


class Terms(NamedTuple):
    """What energies of users are worth and cost, and what describes their links."""

    w: Tensor
    """What a delivery earns [N]."""
    cost: Tensor
    """Of a unit of energy in each cell [N, J]."""
    link: Tensor | None
    """Of each hop [..., N, H, L], None over one hop."""


class PacketCredit:
    """Networks, proposals, targets and losses of the additive critic.

    Args:
        features: of the problem.
        width: of the networks.
        recurrent: with memory.
        prediction: weight of the auxiliary loss of actors, the likelihood of what got through,
            which teaches the memory.
        rows: most cells of an update.
    """

    def __init__(
        self, features: Features, *, width: int, recurrent: bool, prediction: float, rows: int
    ) -> None:
        self.features = features
        self._prediction = prediction
        self._width, self._recurrent, self._rows = width, recurrent, rows
        cells = torch.arange(features.cells)
        self._hop, self._left = cells // features.most, cells % features.most
        self._last_hop = self._hop == features.hops - 1
        self._described = features.of_cell.shape[1] + features.of_link

    def actor(self) -> PacketActor:
        """Return a new actor."""
        features = self.features
        return PacketActor(
            features.size,
            self._described,
            self._width,
            recurrent=self._recurrent,
            predicts=self._prediction > 0,
        )

    def critic(self) -> PacketCritic:
        """Return a new critic."""
        features = self.features
        return PacketCritic(features.size, self._described, self._width, recurrent=self._recurrent)

    # ------------------------------------------------------------------ acting

    def propose(self, actor: PacketActor, context: Tensor, queue: Tensor, terms: Terms) -> Tensor:
        """Return energies [N, J] for contexts [N, size], 0 in empty cells."""
        user, cell = queue.nonzero(as_tuple=True)
        rows = self._at(user, cell, terms)
        energy = torch.zeros(queue.shape)
        energy[user, cell] = actor(context, user, rows.described).clamp(0.0, 1.0)
        return energy

    def judge(
        self, critic: PacketCritic, context: Tensor, queue: Tensor, energy: Tensor, terms: Terms
    ) -> Tensor:
        """Return the worth of energies [N, J] in each cell [N, J]."""
        user, cell = queue.nonzero(as_tuple=True)
        worth = torch.zeros(queue.shape)
        rows = self._at(user, cell, terms)
        worth[user, cell] = self._worth(critic, context, rows, energy[user, cell])
        return worth

    def _worth(self, critic: PacketCritic, context: Tensor, rows: Rows, energy: Tensor) -> Tensor:
        """``p u + (1 - p) v - cost e``, [..., R]."""
        chance, u, v = self._parts(critic, context, rows, energy)
        chance = chance.sigmoid()
        return chance * u + (1 - chance) * v - rows.cost * energy

    def _parts(
        self, critic: PacketCritic, context: Tensor, rows: Rows, energy: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logit of p, u and v; what is known of them put in."""
        out = critic(context, rows.user, rows.described, energy)
        alive = self._left[rows.cell] > 0
        u = torch.where(self._last_hop[rows.cell], rows.w, out[..., 1] * alive)
        return out[..., 0], u, out[..., 2] * alive

    # ------------------------------------------------------------------ learning

    def rows(self, batch: Sequences, generator: torch.Generator) -> Tensor:
        """Return which (slot, user, cell) an update learns from [R, 3], at random where many."""
        found = batch.queue[:-1].nonzero()
        if len(found) > self._rows:
            found = found[torch.randint(len(found), (self._rows,), generator=generator)]
        return found

    def _at(self, user: Tensor, cell: Tensor, terms: Terms) -> Rows:
        """Rows of contexts [N], or of slots and users [slots * N]."""
        of = user % len(terms.w)
        described = self.features.of_cell[cell]
        if terms.link is not None:
            link = terms.link.flatten(0, -2)[user * self.features.hops + self._hop[cell]]
            described = torch.cat([described, link], dim=-1)
        return Rows(user, cell, terms.w[of], terms.cost[of, cell], described)

    def value(
        self,
        rows: Rows,
        actors: list[tuple[PacketActor, Tensor]],
        critics: list[tuple[PacketCritic, Tensor]],
        noise: Tensor | None,
        inverse_temperature: float,
    ) -> Tensor:
        """Return the softmax value of cells by each of A actors [A, R]; contexts are [users, size].

        Args:
            rows: the cells.
            actors: propose; with their contexts.
            critics: with their contexts; the least of their worths counts.
            noise: [S, R], or None for the proposal alone.
            inverse_temperature: of the softmax.
        """
        proposed = torch.stack(
            [actor(context, rows.user, rows.described) for actor, context in actors]
        )
        energy = sampled(proposed.clamp(0.0, 1.0), None if noise is None else noise[:, None])
        # Critics take the samples of all actors together.
        worths = [
            self._worth(critic, context, rows, energy.flatten(0, 1)) for critic, context in critics
        ]
        q = torch.stack(worths).amin(dim=0).reshape(energy.shape)
        return softmax_value(q, inverse_temperature)

    def targets(
        self,
        batch: Sequences,
        found: Tensor,
        terms: Terms,
        actors: list[tuple[PacketActor, Tensor]],
        critics: list[tuple[PacketCritic, Tensor]],
        noise: Tensor | None,
        inverse_temperature: float,
    ) -> list[tuple[Tensor, Tensor]]:
        """Return what a packet of each row is worth after success [R] and after failure [R].

        Args:
            batch: the sequences.
            found: the rows, as (slot, user, cell) [R, 3].
            terms: of the users, links in all slots [T + 1, B, H, L].
            actors: target actors, with their contexts [T + 1, B, size].
            critics: target critics with theirs.
            noise: [S, R, 2], or None.
            inverse_temperature: of the softmax.

        Returns:
            One pair for each actor.
        """
        slot, user, cell = found.T
        after = (slot + 1) * len(batch.flow) + user
        got = batch.success[slot, user, cell]
        alive = self._left[cell] > 0
        failed = batch.queue[slot, user, cell] > got
        moved = (alive & (got > 0) & ~self._last_hop[cell]).nonzero()[:, 0]
        stayed = (alive & failed).nonzero()[:, 0]
        to = torch.cat([cell[moved] + self.features.most - 1, cell[stayed] - 1])
        rows = self._at(torch.cat([after[moved], after[stayed]]), to, terms)
        own = None
        if noise is not None:
            own = torch.cat([noise[:, moved, 0], noise[:, stayed, 1]], dim=1)
        flat = [(actor, context.flatten(0, 1)) for actor, context in actors]
        flat_critics = [(critic, context.flatten(0, 1)) for critic, context in critics]
        values = self.value(rows, flat, flat_critics, own, inverse_temperature)
        result = []
        for value in values:
            forward, stay = torch.zeros(len(cell)), torch.zeros(len(cell))
            forward[moved], stay[stayed] = value[: len(moved)], value[len(moved) :]
            result.append((forward, stay))
        return result

    def critic_loss(
        self,
        critic: PacketCritic,
        context: Tensor,
        batch: Sequences,
        found: Tensor,
        terms: Terms,
        targets: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Return the loss of a critic with contexts [T, B, size], a mean over packets."""
        slot, user, cell = found.T
        rows = self._at(slot * len(batch.flow) + user, cell, terms)
        energy = batch.energy[slot, user, cell]
        logit, u, v = self._parts(critic, context.flatten(0, 1), rows, energy)
        got = batch.success[slot, user, cell]
        count = batch.queue[slot, user, cell]
        likelihood = got * F.softplus(-logit) + (count - got) * F.softplus(logit)
        later = (count - got) * (v - targets[1]) ** 2
        onward = torch.where(self._last_hop[cell], 0.0, got * (u - targets[0]) ** 2)
        return (likelihood + _CONTINUATION * (later + onward)).sum() / count.sum().clamp(min=1)

    def actor_loss(
        self,
        actor: PacketActor,
        context: Tensor,
        critic: PacketCritic,
        critic_context: Tensor,
        batch: Sequences,
        found: Tensor,
        terms: Terms,
    ) -> Tensor:
        """Return the loss of an actor: minus the worth of its energies, a mean over packets."""
        slot, user, cell = found.T
        rows = self._at(slot * len(batch.flow) + user, cell, terms)
        count = batch.queue[slot, user, cell]
        flat = context.flatten(0, 1)
        raw = actor(flat, rows.user, rows.described)
        energy = straight_through(raw)
        worth = self._worth(critic, critic_context.flatten(0, 1), rows, energy)
        outside = (raw - raw.clamp(0.0, 1.0)) ** 2
        loss: Tensor = (count * (_OUTSIDE * outside - worth)).sum()
        if actor.predictor is not None:
            tried = batch.energy[slot, user, cell]
            logit = actor.predictor(flat, rows.user, rows.described, tried)[..., 0]
            got = batch.success[slot, user, cell]
            likelihood = got * F.softplus(-logit) + (count - got) * F.softplus(logit)
            loss = loss + self._prediction * likelihood.sum()
        return loss / count.sum().clamp(min=1)
