"""A network that is trained, with its averaged copy, its optimizer and its links."""

from __future__ import annotations

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from thrifty import sparse
from thrifty.sparse import LayerCost, TopologyEvolution

Module = TypeVar("Module", bound=nn.Module)


class TrainedNetwork(Generic[Module]):
    """One network with its target, its optimizer and its topology.

    Args:
        module: the network, made sparse in place.
        learning_rate: of Adam.
        sparsity: fraction of weights that are cut, in [0, 1); 0 is dense.
        evolve_every: optimizer steps between exchanges of links; 0 leaves them where they are.
        evolve_until: optimizer step at which exchanges end.
        seed: of the first links.
    """

    def __init__(
        self,
        module: Module,
        *,
        learning_rate: float,
        sparsity: float,
        evolve_every: int,
        evolve_until: int,
        seed: int,
    ) -> None:
        self.module = module
        self.topology = sparse.sparsify(
            module,
            sparsity=sparsity,
            allocate=sparse.er,
            generator=torch.Generator().manual_seed(seed),
        )
        schedule: sparse.SparsitySchedule = sparse.Static(sparsity)
        if evolve_every and evolve_until > 0:
            schedule = sparse.Cosine(sparsity, update_every=evolve_every, update_until=evolve_until)
        self.evolution = TopologyEvolution(self.topology, schedule, seed=seed)
        self.parameters = list(module.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=learning_rate, fused=True)
        self.target: Module = copy.deepcopy(module).requires_grad_(False)
        self._averaged: list[Tensor] = list(self.target.parameters())

    def descend(self, loss: Tensor, learning_rate: float) -> None:
        """Take one optimizer step down a loss, differentiated by this network alone."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, _LARGEST_GRADIENT)
        self.evolution.step(self.optimizer)

    @torch.no_grad()
    def average(self, tau: float) -> None:
        """Move the target a part of the way to the network."""
        torch._foreach_lerp_(self._averaged, list[Tensor](self.parameters), tau)
        self.topology.impose(self.target)

    def costs(self, name: str) -> tuple[LayerCost, ...]:
        """Return the rows of the FLOPs ledger under a name."""
        return sparse.layer_costs(name, sparse.layer_shapes(self.module), self.topology.nnz)

    def state_dict(self) -> dict[str, Any]:
        """Return weights, target, optimizer, masks and counters."""
        return {
            "module": dict(self.module.state_dict()),
            "target": dict(self.target.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "topology": self.topology.state_dict(),
            "evolution": self.evolution.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a stored state."""
        self.module.load_state_dict(state["module"])
        self.topology.load_state_dict(state["topology"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.evolution.load_state_dict(state["evolution"])
        self.target.load_state_dict(state["target"])
        self.topology.impose(self.target)


_LARGEST_GRADIENT = 10.0
