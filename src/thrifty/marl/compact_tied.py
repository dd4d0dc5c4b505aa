"""Agents with masks of their own over one set of values, in compact form.

Each agent's network holds its links alone; the master of `thrifty.marl.tied` holds the values, and
the reference's optimizer steps on it, so moments are the reference's at any time. What the master
holds where nobody has a link means nothing until `bring` makes it 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from thrifty.engine.modules import compact
from thrifty.engine.twin import parts_of
from thrifty.marl.agents import Agents
from thrifty.marl.tied import TiedAgents
from thrifty.sparse import Topology


class _Piece(NamedTuple):
    """A stretch of a compact parameter, and the master's places that it stands for."""

    parameter: Tensor
    begin: int
    value: Tensor
    places: Tensor
    """int64, in the flat value."""


class CompactTied:
    """Compact agents and their master.

    Args:
        agents: the reference's.
        topology: of them; without names they are taken as they are.
        tied: their master.

    Attributes:
        compact: the compact agents.
    """

    def __init__(self, agents: Agents, topology: Topology, tied: TiedAgents) -> None:
        self._tied = tied
        self.compact: nn.Module = compact(agents, topology) if topology.names else agents
        self._pieces = list(_pieces(self.compact, agents, tied.master))

    @torch.no_grad()
    def gather(self) -> None:
        """Set the master's gradient to the sum of the agents'."""
        for master in self._tied.master.parameters():
            master.grad = torch.zeros_like(master)
        for parameter, begin, value, places in self._pieces:
            assert parameter.grad is not None
            assert value.grad is not None
            piece = parameter.grad.view(-1)[begin : begin + len(places)]
            value.grad.view(-1).index_add_(0, places, piece)

    @torch.no_grad()
    def spread(self) -> None:
        """Give the master's values to the compact agents."""
        for parameter, begin, value, places in self._pieces:
            piece = parameter.view(-1)[begin : begin + len(places)]
            torch.index_select(value.view(-1), 0, places, out=piece)

    def bring(self, optimizer: torch.optim.Optimizer | None) -> None:
        """Bring the reference's agents up to date; see `TiedAgents.spread`."""
        self._tied.spread(optimizer)


def _pieces(small: nn.Module, agents: Agents, master: nn.Module) -> Iterator[_Piece]:
    parameters = dict(small.named_parameters())
    for name, parts in parts_of(small, agents).items():
        begin = 0
        for part, mask in parts:
            value = master.get_parameter(part.split(".", 2)[-1])  # nets.3.fc1.weight
            held = torch.ones_like(value, dtype=torch.bool) if mask is None else mask
            places = held.flatten().nonzero().squeeze(1)
            yield _Piece(parameters[name], begin, value, places)
            begin += len(places)
