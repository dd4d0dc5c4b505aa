"""A network that learns sparse: module, optimizer, masks and their evolution in one place.

The loss is differentiated with respect to this network's own parameters only, so a loss that
merely flows through another network leaves no gradient there. That is what keeps growth scores
clean; the published SAC of RLx2 does not do it (see :mod:`thrifty.control.sac`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from thrifty import sparse
from thrifty.sparse import LayerCost, Topology, TopologyEvolution, TopologyUpdate, ingredients

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
    """Score of existing links, of which the lowest are dropped: magnitude, mest(NUMBER), ..."""
    grow: str = "gradient"
    """Growth rule: gradient (RigL), random (SET), mest(NUMBER), shares such as
    gradient*3 + random*1, or module:function."""
    drop_fraction: float = 0.5
    """Share of links replaced at the first evolution step; falls to 0 along a cosine."""
    update_every: int | None = None
    """Optimizer steps of this network between evolution steps; None is 1/300 of the run, at least
    500."""
    update_until: int | None = None
    """Last optimizer step (exclusive) at which links move; 0 keeps the topology fixed, None moves
    them to the end of the run (outside of a run: fixed)."""
    moments: Literal["zero", "keep"] = "zero"
    """Optimizer moments of dropped and grown links; the published code keeps them."""
    regrown: Literal["zero", "keep"] = "zero"
    """Value of a link dropped and regrown at once; the published code keeps it."""
    on_update: Literal["step", "skip"] = "step"
    """Whether an evolution step takes the optimizer step; the published code skips it."""


def schedule_of(config: SparsityConfig) -> sparse.SparsitySchedule:
    """Return when links move and how many; outside of a run, unresolved, they stay."""
    if not config.update_until or config.update_every is None:
        return sparse.Static(config.sparsity)
    return sparse.Cosine(
        config.sparsity,
        initial_drop_fraction=config.drop_fraction,
        update_every=config.update_every,
        update_until=config.update_until,
    )


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
            allocate=ingredients.allocation(config.allocate),
            initial=ingredients.initial(config.initial),
            generator=torch.Generator().manual_seed(seed),
        )
        self.evolution = TopologyEvolution(
            self.topology,
            schedule_of(config),
            drop=ingredients.score(config.drop),
            grow=ingredients.growth(config.grow),
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

    def costs(
        self, network: str, twin: Mapping[str, Sequence[int]] | None = None
    ) -> tuple[LayerCost, ...]:
        """Return the ledger's rows of this network under the given name.

        Args:
            network: its name.
            twin: weight shapes of the dense network to compare with, layer by layer; by default
                this network without its masks.
        """
        rows = sparse.layer_costs(network, sparse.layer_shapes(self.module), self.topology.nnz)
        if twin is None:
            return rows
        return tuple(
            replace(
                row,
                dense_parameters=other.dense_parameters,
                dense_forward_flops=other.dense_forward_flops,
            )
            for row, other in zip(rows, sparse.layer_costs(network, twin), strict=True)
        )

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


def twin_shapes(module: nn.Module, hidden: Sequence[int]) -> dict[str, tuple[int, int]]:
    """Return the weight shapes that a module of perceptrons would have with other hidden widths.

    Args:
        module: holds perceptrons with as many hidden layers as ``hidden`` has widths.
        hidden: widths of the twin.

    Raises:
        ValueError: another number of hidden layers.
    """
    shapes = sparse.layer_shapes(module)
    names = list(shapes)
    depth = len(hidden) + 1
    if len(names) % depth:
        raise ValueError(f"a twin of {len(hidden)} hidden layers does not fit {len(names)} layers")
    twin: dict[str, tuple[int, int]] = {}
    for start in range(0, len(names), depth):
        block = names[start : start + depth]
        widths = (shapes[block[0]][1], *hidden, shapes[block[-1]][0])
        twin |= {name: (widths[k + 1], widths[k]) for k, name in enumerate(block)}
    return twin


def check_targets(targets_at_start: str, *configs: SparsityConfig) -> None:
    """Refuse dense first targets of networks whose weights are drawn anew.

    Raises:
        ValueError: the target would be a copy of other weights than the network starts with.
    """
    if targets_at_start == "dense" and any(c.sparsity and c.initial == "redrawn" for c in configs):
        raise ValueError(
            'targets_at_start="dense" copies the weights before they are drawn anew: use '
            'initial="largest" or "subset" with it'
        )
