"""A network that is trained, with its averaged copy, its optimizer and its links.

On the engine network and copy are compact: they store and compute their links only. Around a step
that exchanges links the dense forms take over, optimizer state included; they also hold what is
stored, so a state is the same whatever ran the updates.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from thrifty import sparse
from thrifty.sparse import LayerCost, TopologyEvolution

if TYPE_CHECKING:
    from thrifty.engine.twin import Twin

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
        self._dense = module
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
        self._optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate, fused=True)
        self._dense_target: Module = copy.deepcopy(module).requires_grad_(False)
        self._twin: Twin[Module] | None = None
        self._compact_target: Module
        self._at_work = False
        """Whether the compact forms hold the present numbers."""

    def use_engine(self) -> None:
        """Let the engine run what follows; needs links that are cut, and compiled code."""
        from thrifty.engine.twin import Twin

        self._twin = Twin(self._dense, self.topology, self._optimizer)
        self._to_compact()

    @property
    def module(self) -> Module:
        """The network that the next step descends; dense where it exchanges links."""
        self._settle()
        return self._twin.compact if self._twin is not None and self._at_work else self._dense

    @property
    def target(self) -> Module:
        """The averaged copy, in the form of the network."""
        self._settle()
        return self._compact_target if self._at_work else self._dense_target

    @property
    def dense_target(self) -> Module:
        """The averaged copy with all weights, those that are cut being 0."""
        self._look()
        return self._dense_target

    def descend(self, loss: Tensor, learning_rate: float) -> None:
        """Take one optimizer step down a loss, differentiated by this network alone."""
        module = self._dense
        optimizer: torch.optim.Optimizer = self._optimizer
        if self._twin is not None and self._at_work:
            module, optimizer = self._twin.compact, self._twin.optimizer
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.zero_grad(set_to_none=True)
        trained = [one for one in module.parameters() if one.requires_grad]
        loss.backward(inputs=trained)
        if self._at_work:
            torch.nn.utils.clip_grad_norm_(trained, _LARGEST_GRADIENT)
            optimizer.step()
            self.evolution.steps += 1
            return
        self.evolution.step(optimizer, clip_norm=_LARGEST_GRADIENT)
        if self._twin is not None:
            self.topology.impose(self._dense_target)
            self._twin.take_dense()
            self._to_compact()

    @torch.no_grad()
    def average(self, tau: float) -> None:
        """Move the target a part of the way to the network."""
        averaged, trained = (list[Tensor](one.parameters()) for one in (self.target, self.module))
        torch._foreach_lerp_(averaged, trained, tau)
        if not self._at_work:
            self.topology.impose(self._dense_target)

    def _to_compact(self) -> None:
        from thrifty.engine.modules import compact

        self._compact_target = compact(self._dense_target, self.topology.on(self._dense_target))
        self._at_work = True

    def _settle(self) -> None:
        """Take the form that the next step needs; it follows from the steps taken alone."""
        if self._at_work and self.evolution.schedule.is_due(self.evolution.steps + 1):
            self._look()
            self._at_work = False

    @torch.no_grad()
    def _look(self) -> None:
        """Bring the dense forms up to date."""
        if self._twin is None or not self._at_work:
            return
        from thrifty.engine.modules import expand

        self._twin.bring_dense()
        expanded, _ = expand(self._compact_target, self.topology)
        self._dense_target.load_state_dict(expanded.state_dict())

    def costs(self, name: str) -> tuple[LayerCost, ...]:
        """Return the rows of the FLOPs ledger under a name."""
        return sparse.layer_costs(name, sparse.layer_shapes(self._dense), self.topology.nnz)

    def state_dict(self) -> dict[str, Any]:
        """Return weights, target, optimizer, masks and counters."""
        self._look()
        return {
            "module": dict(self._dense.state_dict()),
            "target": dict(self._dense_target.state_dict()),
            "optimizer": self._optimizer.state_dict(),
            "topology": self.topology.state_dict(),
            "evolution": self.evolution.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a stored state."""
        self._dense.load_state_dict(state["module"])
        self.topology.load_state_dict(state["topology"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.evolution.load_state_dict(state["evolution"])
        self._dense_target.load_state_dict(state["target"])
        self.topology.impose(self._dense_target)
        if self._twin is not None:
            self._twin.take_dense()
            self._to_compact()


_LARGEST_GRADIENT = 10.0
