"""What the trained networks decide for all users in a slot, in a few products over all of them.

The weights of all networks that act are put side by side once, and stay as they were then. What
does not change from slot to slot (descriptions and prices) passes the first layers once, at the
beginning; of a memory's input the sums over packets come first and its layer afterwards. The same
numbers as ``RSD4.act``, which is the page to read; a test holds one to the other.

Legend: P networks (actors, then critics), A of them actors, N users, J cells, R rows (cells that
hold packets), W width, E numbers of an attempt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from thrifty.scheduling.features import Features
from thrifty.scheduling.networks import (
    EVIDENCE,
    EVIDENCE_SCALE,
    ROOT,
    CellHead,
    Context,
    PacketActor,
    PacketCritic,
)


class Decision:
    """Decides with frozen networks of credit per packet.

    Args:
        features: of the problem.
        actors: A networks that propose.
        critics: as many, one for each, that judge; none where one actor acts alone.
    """

    def __init__(
        self, features: Features, actors: Sequence[PacketActor], critics: Sequence[PacketCritic]
    ) -> None:
        self._features, self._count = features, len(actors)
        contexts: list[Context] = [one.context for one in actors]
        contexts += [one.context for one in critics]
        self._recurrent = contexts[0].recurrent
        self._width = contexts[0].look.out_features
        with torch.no_grad():
            self._look = _beside([one.look for one in contexts])
            if self._recurrent:
                self._remember(contexts)
            shift = self._width if self._recurrent else 0  # what is remembered stands first here
            self._propose = _Heads([one.head for one in actors], features.of_cell, shift)
            self._judge = _Heads([one.head for one in critics], features.of_cell, shift)
        cells = torch.arange(features.cells)
        self._alive = (cells % features.most > 0).float()
        self._last_hop = cells >= features.cells - features.most

    def _remember(self, contexts: list[Context]) -> None:
        """Put the memories' weights side by side, those of a candidate g doubled.

        For tanh(g) = 2 sigma(2 g) - 1, so that all gates are one sigma.
        """
        self._attempt = _beside([one.attempt for one in contexts])
        enter, bias = _beside([one.enter for one in contexts])
        self._enter = enter[: self._features.size], bias
        told = enter[self._features.size :].unflatten(1, (len(contexts), -1))
        self._told = told.transpose(0, 1).contiguous()  # [P, 2 E + 2, W]
        twice = torch.ones(4, self._width)
        twice[2] = 2.0  # torch's order is i, f, g, o
        weights, biases = [], []
        for one in contexts:
            of_input, of_state, bias, more = (
                one.memory.get_parameter(f"{name}_l0")
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            weights.append(torch.cat([of_input, of_state], dim=1).T * twice.flatten())
            biases.append((bias + more) * twice.flatten())
        self._gates, self._gates_bias = torch.stack(weights), torch.stack(biases)[:, None]

    @torch.no_grad()
    def reset(self, flow: Tensor, prices: Tensor) -> None:
        """Begin with empty memories.

        Args:
            flow: number of each user's flow [N].
            prices: of energy at each hop [N, H].
        """
        features, users = self._features, len(flow)
        lasting = features.lasting(flow, prices)
        self._passing = lasting.shape[1]
        weight, bias = self._look
        self._look_lasting = torch.addmm(bias, lasting, weight[: self._passing])
        w, cost = features.worths(flow, prices)
        self._w, self._cost = w, features.costs(cost)
        self._flow, self._prices = flow, prices
        if self._recurrent:
            weight, bias = self._enter
            self._enter_lasting = torch.addmm(bias, lasting, weight[: self._passing])
            networks = len(self._gates)
            self._state = torch.zeros(networks, users, 3 * self._width)
            self._cell = torch.zeros(networks, users, self._width)
            self._tried: Tensor | None = None

    @torch.no_grad()
    def energies(self, queue: Tensor, channel: Tensor | None, phase: Tensor | None) -> Tensor:
        """Return the energies of a slot [N, J], 0 in empty cells.

        Args:
            queue: packets [N, J].
            channel: states seen [N, H], None if hidden.
            phase: slot of the channel's cycle [N], None if hidden.
        """
        users = len(queue)
        passing = self._features.passing(queue, channel, phase)
        now = torch.cat(passing, dim=-1) if passing else queue[:, :0]
        of = torch.addmm(self._look_lasting, now, self._look[0][self._passing :]).relu_()
        context = of.reshape(users, -1, self._width).transpose(0, 1)
        if self._recurrent:
            self._recall(now)
            self._state[..., 2 * self._width :] = context
            context = self._state[..., self._width :]
        user, cell = queue.nonzero(as_tuple=True)
        link = self._features.links(self._flow, self._prices, channel)
        if link is not None:
            link = link[user, cell // self._features.most]
        energy = self._propose(context[: self._count], user, cell, link, None)[..., 0]
        energy = energy.add_(0.5).clamp_(0.0, 1.0)  # [A, R]
        best = energy[0]
        if self._count > 1:
            worth = self._worths(context[self._count :], user, cell, link, energy)
            best = torch.where(worth[1] > worth[0], energy[1], energy[0])
        found = torch.zeros(queue.shape)
        found[user, cell] = best
        return found

    def observe(self, tried: Tensor) -> None:
        """Tell the memories what was tried in the slot [N, J, 4]."""
        self._tried = tried

    def _recall(self, now: Tensor) -> None:
        """Let the memories pass a slot; their state is what entered, is remembered, is seen."""
        width, networks, users = self._width, len(self._gates), len(now)
        weight, _ = self._enter
        entered = torch.addmm(self._enter_lasting, now, weight[self._passing :])
        own = self._state[..., :width]
        own.copy_(entered.reshape(users, networks, width).transpose(0, 1))
        if self._tried is not None:
            own += self._evidence(self._tried) @ self._told
        own.relu_()
        gates = torch.baddbmm(self._gates_bias, self._state[..., : 2 * width], self._gates)
        i, f, g, o = gates.sigmoid_().chunk(4, dim=-1)
        self._cell.mul_(f).addcmul_(i, g.mul_(2.0).sub_(1.0))
        torch.mul(o, self._cell.tanh(), out=self._state[..., width : 2 * width])

    def _evidence(self, tried: Tensor) -> Tensor:
        """Sums over packets for every network's memory [P, N, 2 E + 2]."""
        users, cells, _ = tried.shape
        networks = len(self._gates)
        weight, bias = self._attempt
        of = F.silu(torch.addmm(bias, tried[..., 2:].reshape(-1, 2), weight), inplace=True)
        counts = (tried[..., :2] * EVIDENCE_SCALE).transpose(1, 2)
        told = counts @ of.reshape(users, cells, -1)  # [N, 2, P E]
        told = told.reshape(users, 2, networks, EVIDENCE).permute(2, 0, 1, 3)
        sums = counts.sum(dim=-1).expand(networks, users, 2)
        return torch.cat([told.reshape(networks, users, -1), sums], dim=-1)

    def _worths(
        self, context: Tensor, user: Tensor, cell: Tensor, link: Tensor | None, energy: Tensor
    ) -> Tensor:
        """Each critic's worth of its actor's energies [A, R]."""
        out = self._judge(context, user, cell, link, energy)
        chance, alive = out[..., 0].sigmoid(), self._alive[cell]
        u = torch.where(self._last_hop[cell], self._w[user], out[..., 1] * alive)
        v = out[..., 2] * alive
        return v + chance * (u - v) - self._cost[user, cell] * energy


class _Heads:
    """Heads of several networks side by side."""

    def __init__(self, heads: list[CellHead], of_cell: Tensor, shift: int) -> None:
        if not heads:
            return
        weight, bias = _stacked([one.of_context for one in heads])
        self._of_context = weight.roll(-shift, dims=1), bias
        first = of_cell.shape[1]
        weights = torch.stack([one.of_cell.weight.T for one in heads])
        self._of_cell, self._of_link = of_cell @ weights[:, :first], weights[:, first:]
        actions = [one.of_action.weight.T for one in heads if one.of_action is not None]
        self._of_action = torch.stack(actions) if actions else None
        self._hidden = _stacked([one.hidden for one in heads])
        self._out = _stacked([one.out for one in heads])

    def __call__(
        self,
        context: Tensor,
        user: Tensor,
        cell: Tensor,
        link: Tensor | None,
        energy: Tensor | None,
    ) -> Tensor:
        """Return [heads, R, outputs].

        Args:
            context: [heads, N, size].
            user: of each row [R].
            cell: of each row [R].
            link: what describes its link [R, L]; None over one hop.
            energy: [heads, R], None for heads without.
        """
        weight, bias = self._of_context
        entered = torch.baddbmm(bias, context, weight).index_select(1, user)
        entered += self._of_cell.index_select(1, cell)
        if link is not None:
            entered += link @ self._of_link
        if energy is not None:
            assert self._of_action is not None
            tried = torch.stack([energy, (energy + ROOT).sqrt_()], dim=-1)
            entered.baddbmm_(tried, self._of_action)
        weight, bias = self._hidden
        hidden = torch.baddbmm(bias, F.silu(entered, inplace=True), weight)
        weight, bias = self._out
        return torch.baddbmm(bias, F.silu(hidden, inplace=True), weight)


def _beside(layers: list[torch.nn.Linear]) -> tuple[Tensor, Tensor]:
    """Layers with one input, as one layer: weight [in, P out] and bias [P out]."""
    weight = torch.cat([one.weight for one in layers]).T.contiguous()
    return weight, torch.cat([one.bias for one in layers])


def _stacked(layers: list[torch.nn.Linear]) -> tuple[Tensor, Tensor]:
    """Layers with an input each: weight [P, in, out] and bias [P, 1, out]."""
    weight = torch.stack([one.weight.T for one in layers])
    return weight, torch.stack([one.bias[None] for one in layers])
