"""One set of weights that every agent sees through a mask of its own.

Each agent has a network whose links are its own and whose values are everybody's: the optimizer
holds one set of values, the master, and steps on the sum of the agents' masked gradients. A link
that one agent grows while another has it takes the value that is there; one that nobody had starts
at 0, and one that nobody has any more is forgotten, moments included.

Reference: none; the choice lies between the two that MAST (Hu et al., NeurIPS 2024) leaves open,
shared parameters (its sizes) and agents that exchange links (its section 4.2).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from thrifty.marl.agents import Agents
from thrifty.sparse import Topology


class TiedAgents:
    """The values behind agents that differ in their masks alone.

    Args:
        agents: one network each; their values are made equal where they share a link.
        topology: of these agents; may be without names, where nothing is cut.
    """

    def __init__(self, agents: Agents, topology: Topology) -> None:
        self._nets, self._topology = list(agents.nets), topology
        self.master: nn.Module = copy.deepcopy(self._nets[0])
        self.join()

    def _held(self, name: str, net: int) -> Tensor | None:
        """The mask of one agent's parameter; None where it has none."""
        layer = f"nets.{net}.{name}"
        return self._topology.mask(layer) if layer in self._topology.names else None

    @torch.no_grad()
    def join(self) -> None:
        """Take each link's value from the first agent that has it, and give it to all that do."""
        for name, value in self.master.named_parameters():
            for net in reversed(range(len(self._nets))):
                own, held = self._nets[net].get_parameter(name), self._held(name, net)
                value.copy_(own if held is None else torch.where(held, own, value))
        self.spread()

    @torch.no_grad()
    def gather(self) -> None:
        """Set the master's gradient to the sum of the agents', which are masked already."""
        for name, value in self.master.named_parameters():
            grads = [net.get_parameter(name).grad for net in self._nets]
            value.grad = torch.stack([grad for grad in grads if grad is not None]).sum(0)

    @torch.no_grad()
    def spread(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Give the master's values to all agents; what nobody has becomes 0.

        Args:
            optimizer: its moments of what nobody has become 0 as well; None leaves them.
        """
        for name, value in self.master.named_parameters():
            masks = [self._held(name, net) for net in range(len(self._nets))]
            if masks[0] is not None:
                held = torch.stack([mask for mask in masks if mask is not None]).any(0)
                value.masked_fill_(~held, 0.0)  # a product would keep the sign, -0
                state = {} if optimizer is None else optimizer.state.get(value, {})
                for moment in state.values():
                    if isinstance(moment, Tensor) and moment.shape == value.shape:
                        moment.mul_(held)
            for net, mask in zip(self._nets, masks, strict=True):
                net.get_parameter(name).copy_(
                    value if mask is None else value.masked_fill(~mask, 0.0)
                )
