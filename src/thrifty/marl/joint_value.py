"""A joint action-value that learns sparse: agents, mixer, optimizer, masks and their evolution.

Agents and mixer (hypernetworks included) are two parts with a topology each and one optimizer
between them, since their gradients are clipped together. The loss is differentiated with respect to
this network alone, so nothing leaks from one network of an algorithm into another's growth scores.

Legend: T steps, B episodes, N agents, I input size, S state size, U actions.

Reference: MAST (Hu et al., NeurIPS 2024), algorithms 1 to 3, sections 4.1 and 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from thrifty import sparse
from thrifty.marl.agents import AgentInputs, Agents, input_rows
from thrifty.marl.mixers import AdditiveMixer, CentralMixer, MonotonicMixer
from thrifty.marl.tied import TiedAgents
from thrifty.sparse import (
    LayerCost,
    Scope,
    Topology,
    TopologyEvolution,
    TopologyUpdate,
    ingredients,
)

Mixer = AdditiveMixer | MonotonicMixer | CentralMixer


@dataclass(frozen=True, kw_only=True, slots=True)
class PartSparsityConfig:
    """How sparse one part of a network is, how its links are chosen, and how they move."""

    sparsity: float = 0.0
    """Fraction of zero weights, in [0, 1). 0 is the plain dense network."""
    allocate: str = "er"
    """How links are divided among layers: er, erk, uniform, or module:function."""
    initial: str = "redrawn"
    """First mask: redrawn (random, density-corrected fan-in), subset (random, values kept), largest
    (largest weights kept), or module:function."""
    scope: Literal["layer", "agents", "group"] = "layer"
    """What is ranked together when links move: each layer, the same layer of all agents (which
    then exchange links; needs networks of their own), or all layers of the part."""
    drop: str = "magnitude"
    """Score of existing links, of which the lowest are dropped: magnitude, mest(NUMBER), ..."""
    grow: str = "gradient"
    """Growth rule: gradient (RigL), random (SET), mest(NUMBER), shares such as
    gradient*3 + random*1, or module:function."""
    drop_fraction: float = 0.5
    """Share of links replaced at the first evolution step; falls to 0 along a cosine."""
    update_every: int | None = None
    """Updates between evolution steps; None is 1/200 of the run's, at least 100."""
    update_until: int | None = None
    """Last update (exclusive) at which links move; 0 keeps the topology fixed, None moves them to
    the end of the run (outside of a run: fixed)."""
    moments: Literal["zero", "keep"] = "zero"
    """Optimizer moments of dropped and grown links. Kept, RMSprop's first step of a grown link is
    ten times the learning rate."""


def schedule_of(config: PartSparsityConfig) -> sparse.SparsitySchedule:
    """Return when links move and how many; outside of a run, unresolved, they stay."""
    if not config.update_until or config.update_every is None:
        return sparse.Static(config.sparsity)
    return sparse.Cosine(
        config.sparsity,
        initial_drop_fraction=config.drop_fraction,
        update_every=config.update_every,
        update_until=config.update_until,
    )


class JointValue(nn.Module):
    """Individual values of a team and how they are mixed.

    Args:
        agents: the individual networks.
        mixer: from individual to joint values.
    """

    def __init__(self, agents: Agents, mixer: Mixer) -> None:
        super().__init__()
        self.agents = agents
        self.mixer = mixer

    def individual(self, inputs: AgentInputs) -> Tensor:
        """Return every agent's values at all observations of a minibatch, [T + 1, B, N, U].

        What stands at padding means nothing.
        """
        value_TBNU: Tensor = self.agents(inputs.rows)
        return value_TBNU

    def step(
        self, observation_BNO: Tensor, last_action_BN: Tensor, hidden_BNH: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the values of one step, [B, N, U], and the hidden states after it, [B, N, H].

        Args:
            observation_BNO: what is seen.
            last_action_BN: int64; -1 is none.
            hidden_BNH: hidden states before the step.
        """
        rows = input_rows(observation_BNO, last_action_BN, self.agents.actions)
        return self.agents.step(rows, hidden_BNH)

    def forward(self, value_TBN: Tensor, state_TBS: Tensor) -> Tensor:
        """Mix the values of chosen actions into joint values, [T, B]."""
        joint_TB: Tensor = self.mixer(value_TBN, state_TBS)
        return joint_TB


class Part:
    """The topology of agents or mixer, and its evolution.

    Args:
        module: made sparse in place.
        config: sparsity and evolution.
        seed: of the first mask and of random growth.
    """

    def __init__(self, module: nn.Module, config: PartSparsityConfig, seed: int) -> None:
        sparsity = config.sparsity if sparse.layer_shapes(module) else 0.0  # the sum has no weights
        self.module = module
        self.topology: Topology = sparse.sparsify(
            module,
            sparsity=sparsity,
            allocate=ingredients.allocation(config.allocate),
            initial=ingredients.initial(config.initial),
            scope=_scope(config.scope),
            generator=torch.Generator().manual_seed(seed),
        )
        self.evolution = TopologyEvolution(
            self.topology,
            schedule_of(config),
            drop=ingredients.score(config.drop),
            grow=ingredients.growth(config.grow),
            moments=config.moments,
            seed=seed,
        )


def _scope(name: Literal["layer", "agents", "group"]) -> Scope:
    if name == "agents":  # nets.3.fc1.weight and nets.0.fc1.weight are ranked together
        return lambda layer: layer.split(".", 2)[-1]
    return name


class SparseValue:
    """A joint value with its optimizer and its topologies.

    Args:
        module: agents and mixer; made sparse in place.
        agents: sparsity of the agents.
        mixer: sparsity of mixer and hypernetworks.
        optimizer: adam, or rmsprop as the published algorithms use (decay 0.99, epsilon 1e-5).
        learning_rate: of the optimizer.
        clip_norm: largest 2-norm of the masked gradient of the whole module.
        last_scale: factor on the last layers of the hypernetworks, after the masks are drawn.
        tied: the agents' networks differ in their masks alone, see `thrifty.marl.tied`.
        seed: of masks and random growth.
    """

    def __init__(
        self,
        module: JointValue,
        *,
        agents: PartSparsityConfig,
        mixer: PartSparsityConfig,
        optimizer: Literal["adam", "rmsprop"],
        learning_rate: float,
        clip_norm: float,
        last_scale: float,
        tied: bool = False,
        seed: int,
    ) -> None:
        self.module = module
        self.parts = {
            "agents": Part(module.agents, agents, seed),
            "mixer": Part(module.mixer, mixer, seed + 1),
        }
        module.mixer.shrink(last_scale)
        self.clip_norm = clip_norm
        self._inputs = self.parameters = list(module.parameters())
        self.tied: TiedAgents | None = None
        self.clears = agents.moments == "zero"
        if tied:
            self.tied = TiedAgents(module.agents, self.parts["agents"].topology)
            self.parameters = [*self.tied.master.parameters(), *module.mixer.parameters()]
        self.optimizer: torch.optim.Optimizer
        if optimizer == "adam":
            self.optimizer = torch.optim.Adam(self.parameters, lr=learning_rate, fused=True)
        else:
            self.optimizer = torch.optim.RMSprop(
                self.parameters, lr=learning_rate, alpha=0.99, eps=1e-5
            )

    @property
    def network(self) -> JointValue:
        """Return what computes the next update."""
        return self.module

    @property
    def acting(self) -> JointValue:
        """Return what acts."""
        return self.module

    def descend(self, loss: Tensor) -> tuple[float, dict[str, TopologyUpdate]]:
        """Take one optimizer step down a scalar loss, moving links where it is due.

        Args:
            loss: scalar; differentiated with respect to this network only.

        Returns:
            the norm of the masked gradient before clipping, and what moved, by part.
        """
        for parameter in self._inputs:
            parameter.grad = None
        loss.backward(inputs=self._inputs)
        for part in self.parts.values():
            part.evolution.before(self.optimizer)
        if self.tied is not None:
            self.tied.gather()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.optimizer.step()
        updates = {name: part.evolution.after(self.optimizer) for name, part in self.parts.items()}
        if self.tied is not None:
            self.tied.spread(self.optimizer if self.clears else None)
        return norm.item(), {name: u for name, u in updates.items() if u is not None}

    def plan(self, agents: PartSparsityConfig, mixer: PartSparsityConfig) -> None:
        """Take over the schedules of a run that begins."""
        self.parts["agents"].evolution.schedule = schedule_of(agents)
        self.parts["mixer"].evolution.schedule = schedule_of(mixer)

    def costs(self, network: str) -> tuple[LayerCost, ...]:
        """Return the ledger's rows, one network ``network.part`` a part; see `thrifty.marl.ledger`.

        Args:
            network: its name.
        """
        return tuple(
            row
            for name, part in self.parts.items()
            for row in sparse.layer_costs(
                f"{network}.{name}", sparse.layer_shapes(part.module), part.topology.nnz
            )
        )

    def density(self) -> dict[str, float]:
        """Return the share of links of every layer, by part and layer."""
        return {
            f"{name}.{layer}": part.topology.nnz.get(layer, math.prod(shape)) / math.prod(shape)
            for name, part in self.parts.items()
            for layer, shape in sparse.layer_shapes(part.module).items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer, masks and counters."""
        return {
            "module": dict(self.module.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "topology": {name: part.topology.state_dict() for name, part in self.parts.items()},
            "evolution": {name: part.evolution.state_dict() for name, part in self.parts.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state; shapes and names must agree."""
        self.module.load_state_dict(state["module"])
        for name, part in self.parts.items():
            part.topology.load_state_dict(state["topology"][name])
            part.evolution.load_state_dict(state["evolution"][name])
        if self.tied is not None:
            self.tied.join()
        self.optimizer.load_state_dict(state["optimizer"])
