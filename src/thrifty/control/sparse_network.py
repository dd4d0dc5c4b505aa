"""A network that learns sparse: module, optimizer, masks and their evolution in one place.

The loss is differentiated with respect to this network's own parameters only, so a loss that
merely flows through another network leaves no gradient there. That is what keeps growth scores
clean; the published SAC of RLx2 does not do it (see :mod:`thrifty.control.sac`).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from thrifty import sparse
from thrifty.sparse import LayerCost, Topology, TopologyEvolution, TopologyUpdate

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, kw_only=True, slots=True)
class SparsityConfig:
    """How sparse one network is, how its links are chosen, and how they move."""

    sparsity: float = 0.0
    """Fraction of zero weights, in [0, 1). 0 is the plain dense network."""
    allocate: str = "er"
    """How links are divided among layers: er, erk, uniform, or module:function."""
    initial: str = "redrawn"
    """First mask: redrawn (random, density-corrected fan-in), subset (random, values kept), largest
    (largest weights kept; published), or module:function."""
    drop: str = "magnitude"
    """Score of existing links; the lowest are dropped."""
    grow: str = "gradient"
    """Score of candidate links; the highest are grown: gradient (RigL), random (SET), or
    module:function."""
    drop_fraction: float = 0.5
    """Share of links replaced at the first evolution step; falls to 0 along a cosine."""
    update_every: int = 10_000
    """Optimizer steps of this network between evolution steps."""
    update_until: int = 0
    """Last optimizer step (exclusive) at which links move; 0 keeps the topology fixed."""
    moments: Literal["zero", "keep"] = "zero"
    """Optimizer moments of dropped and grown links; the published code keeps them."""
    regrown: Literal["zero", "keep"] = "zero"
    """Value of a link dropped and regrown at once; the published code keeps it."""
    on_update: Literal["step", "skip"] = "step"
    """Whether an evolution step takes the optimizer step; the published code skips it."""


def ingredient(name: str) -> Any:
    """Return a function of :mod:`thrifty.sparse` by name, or any ``module:function``.

    Raises:
        ValueError: no such function; the message lists what exists.
    """
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as problem:
            raise ValueError(f"cannot import {name!r}: {problem}") from problem
    if name not in sparse.__all__:
        known = ", ".join(n for n in sparse.__all__ if n.islower())
        raise ValueError(f"thrifty.sparse has no {name!r}; it has {known}")
    return getattr(sparse, name)


class SparseNetwork(Generic[Module]):
    """One network with its optimizer and its topology.

    Args:
        module: the network; made sparse in place.
        config: sparsity and evolution.
        learning_rate: of Adam.
        seed: of the first mask and of random growth.
    """

    def __init__(
        self, module: Module, config: SparsityConfig, *, learning_rate: float, seed: int
    ) -> None:
        self.module = module
        self.topology: Topology = sparse.sparsify(
            module,
            sparsity=config.sparsity,
            allocate=ingredient(config.allocate),
            initial=ingredient(config.initial),
            generator=torch.Generator().manual_seed(seed),
        )
        schedule: sparse.SparsitySchedule
        if config.update_until > 0:
            schedule = sparse.Cosine(
                config.sparsity,
                initial_drop_fraction=config.drop_fraction,
                update_every=config.update_every,
                update_until=config.update_until,
            )
        else:
            schedule = sparse.Static(config.sparsity)
        self.evolution = TopologyEvolution(
            self.topology,
            schedule,
            drop=ingredient(config.drop),
            grow=sparse.top(ingredient(config.grow)),
            moments=config.moments,
            regrown=config.regrown,
            on_update=config.on_update,
            seed=seed,
        )
        self.parameters = list(module.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=learning_rate, fused=True)

    def descend(
        self, loss: Tensor, *, extra_gradient: Mapping[str, Tensor] | None = None
    ) -> TopologyUpdate | None:
        """Take one optimizer step down a scalar loss, evolving the topology where it is due.

        Args:
            loss: scalar; differentiated with respect to this network only.
            extra_gradient: by layer name, added to the gradient in growth scores only.

        Returns:
            What an evolution step changed, or None.
        """
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=self.parameters)
        return self.evolution.step(self.optimizer, extra_gradient=extra_gradient)

    def costs(self, network: str) -> tuple[LayerCost, ...]:
        """Return the ledger's rows of this network under the given name."""
        return sparse.layer_costs(network, sparse.layer_shapes(self.module), self.topology.nnz)

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer, masks and counters."""
        return {
            "module": dict(self.module.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "topology": self.topology.state_dict(),
            "evolution": self.evolution.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a stored state; shapes and names must agree."""
        self.module.load_state_dict(state["module"])
        self.topology.load_state_dict(state["topology"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.evolution.load_state_dict(state["evolution"])
