"""A team's networks in compact form on the engine; links move on the reference's own modules.

`CompiledValue` takes the place of a `SparseValue`. Most updates run on the links alone. Where links
are about to move, and where somebody wants the state, the reference is brought up to date,
optimizer included (`thrifty.engine.twin`); the update in which they move is the reference's. So
masks, moments and checkpoints are the reference's, and a run goes from one backend to the other
through its checkpoint.

Agents and QMIX's mixer are one operation each (`thrifty.marl.operations`); the unrestricted mixer
of Weighted QMIX runs as `thrifty.engine.modules` makes it, and a part without masks as it is.
Agents that differ in their masks alone keep one set of values (`thrifty.marl.compact_tied`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thrifty.engine import recurrent_values
from thrifty.engine.cache import announce
from thrifty.engine.modules import compact
from thrifty.engine.sparse_mlp import SparseMLP
from thrifty.engine.sparse_recurrent import SparseGRU
from thrifty.engine.twin import Twin
from thrifty.marl.agents import AgentInputs, Agents, RecurrentAgent, input_rows
from thrifty.marl.compact_tied import CompactTied
from thrifty.marl.joint_value import JointValue, PartSparsityConfig, SparseValue
from thrifty.marl.mixers import MonotonicMixer
from thrifty.marl.operations import CompiledAgent, CompiledAgents, CompiledMixer
from thrifty.sparse import LayerCost, Topology, TopologyUpdate


class CompactValue:
    """A joint value of two compact parts; called like a `JointValue`.

    Args:
        agents: compact, or plain where nothing is cut.
        mixer: likewise.
    """

    def __init__(self, agents: nn.Module, mixer: nn.Module) -> None:
        self.agents, self.mixer = agents, mixer
        self._agents = _fused_agents(agents)
        fits = isinstance(mixer, MonotonicMixer) and _is_fused(mixer)
        self._mixer = CompiledMixer(mixer) if fits else mixer  # type: ignore[arg-type]

    def individual(self, inputs: AgentInputs) -> Tensor:
        """Return every agent's values at all observations of a minibatch, [T + 1, B, N, U]."""
        if self._agents is not None:
            return self._agents(inputs)
        value_TBNU: Tensor = self.agents(inputs.rows)
        return value_TBNU

    def step(
        self, observation_BNO: Tensor, last_action_BN: Tensor, hidden_BNH: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the values of one step, [B, N, U], and the hidden states after it, [B, N, H]."""
        if self._agents is not None:
            return self._agents.step(observation_BNO, last_action_BN, hidden_BNH)
        assert isinstance(self.agents, Agents)
        rows = input_rows(observation_BNO, last_action_BN, self.agents.actions)
        return self.agents.step(rows, hidden_BNH)

    def __call__(self, value_TBN: Tensor, state_TBS: Tensor) -> Tensor:
        """Mix the values of chosen actions into joint values, [T, B]."""
        joint_TB: Tensor = self._mixer(value_TBN, state_TBS)
        return joint_TB


def _fused_agents(agents: nn.Module) -> CompiledAgents | None:
    assert isinstance(agents, Agents)
    nets = []
    for net in agents.nets:
        assert isinstance(net, RecurrentAgent)
        parts: Any = (net.fc1, net.gru, net.fc2)
        if isinstance(parts[0], nn.Linear):
            return None  # agents without masks
        assert isinstance(parts[0], SparseMLP)
        assert isinstance(parts[1], SparseGRU)
        assert isinstance(parts[2], SparseMLP)
        nets.append(CompiledAgent(parts))
    return CompiledAgents(nets)


def _is_fused(mixer: MonotonicMixer) -> bool:
    networks = (mixer.hyper_w1, mixer.hyper_b1, mixer.hyper_w2, mixer.value)
    return all(isinstance(network[0], SparseMLP) for network in networks)


class CompiledTarget:
    """A target network in compact form, made anew where it is copied to.

    Args:
        reference: the target; its state is this one's.
        topologies: of the network that it follows, by part.
    """

    def __init__(self, reference: JointValue, topologies: Mapping[str, Topology]) -> None:
        self.reference, self._topologies = reference, topologies
        self._make()

    def _make(self) -> None:
        """Compact what is not zero: the links when the copy was made, which have moved since."""
        parts = {}
        for name in ("agents", "mixer"):
            part = copy.deepcopy(getattr(self.reference, name))
            if self._topologies[name].names:
                part = compact(part, Topology.from_zeros(part))
            parts[name] = part
        self._network = CompactValue(**parts)

    def individual(self, inputs: AgentInputs) -> Tensor:
        """Return every agent's values at all observations of a minibatch, [T + 1, B, N, U]."""
        return self._network.individual(inputs)

    def __call__(self, value_TBN: Tensor, state_TBS: Tensor) -> Tensor:
        """Mix the values of chosen actions into joint values, [T, B]."""
        return self._network(value_TBN, state_TBS)

    def state_dict(self) -> dict[str, Any]:
        """Return the reference's state."""
        return dict(self.reference.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state of either form."""
        self.reference.load_state_dict(state)
        self._make()


class CompiledValue:
    """A sparse joint value that learns on the engine.

    Args:
        reference: taken over and kept; its parts with names are made compact.
    """

    def __init__(self, reference: SparseValue) -> None:
        announce(recurrent_values.forward)
        self.reference = reference
        self.parts = reference.parts
        self._take()

    @property
    def network(self) -> JointValue | CompactValue:
        """Return what computes the next update: where links are about to move, the reference."""
        if not self._links_move_next():
            return self._compact
        self._bring()
        return self.reference.module

    @property
    def acting(self) -> CompactValue:
        """Return what acts."""
        return self._compact

    def _links_move_next(self) -> bool:
        return any(
            part.topology.names and part.evolution.schedule.is_due(part.evolution.steps + 1)
            for part in self.parts.values()
        )

    def descend(self, loss: Tensor) -> tuple[float, dict[str, TopologyUpdate]]:
        """Take one optimizer step down a scalar loss, moving links where it is due.

        Args:
            loss: scalar, made with :attr:`network`.

        Returns:
            the norm of the gradient before clipping, and what moved, by part.
        """
        if self._links_move_next():
            done = self.reference.descend(loss)
            self._take()
            return done
        for parameter in self._inputs:
            parameter.grad = None
        loss.backward(inputs=self._inputs)
        if self._tied is not None:
            self._tied.gather()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.reference.clip_norm)
        for optimizer in self._optimizers:
            optimizer.step()
        if self._tied is not None:
            self._tied.spread()
        for part in self.parts.values():
            part.evolution.steps += 1
        return norm.item(), {}

    def _take(self) -> None:
        """Make the compact form anew from the reference."""
        reference = self.reference
        modules: dict[str, nn.Module] = {}
        self._twins: list[Twin[nn.Module]] = []
        self._optimizers: list[torch.optim.Optimizer] = []
        self._inputs: list[Tensor] = []
        self._parameters: list[Tensor] = []
        self._tied: CompactTied | None = None
        for name, part in self.parts.items():
            if name == "agents" and reference.tied is not None:
                assert isinstance(part.module, Agents)
                self._tied = CompactTied(part.module, part.topology, reference.tied)
                modules[name] = self._tied.compact
                self._inputs += self._tied.compact.parameters()
                self._parameters += reference.tied.master.parameters()
                continue
            if part.topology.names:
                twin = Twin(
                    part.module,
                    part.topology,
                    reference.optimizer,
                    moments=part.evolution.moments,
                )
                self._twins.append(twin)
                self._optimizers.append(twin.optimizer)
                modules[name] = twin.compact
            else:
                modules[name] = part.module
            self._inputs += modules[name].parameters()
            self._parameters += modules[name].parameters()
        for parameter in reference.parameters:
            parameter.grad = None  # the reference's optimizer steps where a part is not compact
        if len(self._twins) < len(self.parts):
            self._optimizers.append(reference.optimizer)
        self._compact = CompactValue(**modules)

    def _bring(self) -> None:
        """Bring the reference up to date."""
        for twin in self._twins:
            twin.bring_dense()
        if self._tied is not None:
            self._tied.bring(self.reference.optimizer if self.reference.clears else None)

    def plan(self, agents: PartSparsityConfig, mixer: PartSparsityConfig) -> None:
        """Take over the schedules of a run that begins."""
        self.reference.plan(agents, mixer)

    def costs(self, network: str) -> tuple[LayerCost, ...]:
        """Return the ledger's rows; see `SparseValue.costs`."""
        return self.reference.costs(network)

    def density(self) -> dict[str, float]:
        """Return the share of links of every layer, by part and layer."""
        return self.reference.density()

    @property
    def module(self) -> JointValue:
        """Return agents and mixer of the reference, up to date."""
        self._bring()
        return self.reference.module

    def state_dict(self) -> dict[str, Any]:
        """Return the reference's state, up to date."""
        self._bring()
        return self.reference.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state of either backend."""
        self.reference.load_state_dict(state)
        self._take()
