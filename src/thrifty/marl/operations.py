"""A team's networks as single torch operations on the engine's kernels.

`CompiledAgents` pass over the episodes of a minibatch, padding left out, in one operation a
network; `CompiledMixer` is QMIX's mixer with its hypernetworks. Both read the compact networks of
`thrifty.engine.modules`, whose parameters stay torch's, and have no second derivatives. Float32 on
the CPU.

Legend: T steps, B episodes, N agents, O observation size, U actions, H hidden size, S state size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thrifty.engine import mixing, recurrent_values
from thrifty.engine.links import KIND, LinkedModule
from thrifty.engine.partials import WIDTH
from thrifty.engine.perceptron import RELU
from thrifty.engine.sparse_mlp import SparseMLP
from thrifty.engine.sparse_recurrent import SparseGRU
from thrifty.engine.vector import LANES
from thrifty.marl.agents import AgentInputs
from thrifty.marl.mixers import MonotonicMixer

Ints = NDArray[np.int64]


def addresses(parts: Sequence[LinkedModule]) -> Ints:
    """Return where values and biases of some compact layers stand, [parts, 2]."""
    return np.array([[part.values.data_ptr(), part.biases.data_ptr()] for part in parts])


def parameters(parts: Sequence[LinkedModule]) -> list[Tensor]:
    """Return values and biases of some compact layers, one after the other."""
    return [tensor for part in parts for tensor in (part.values, part.biases)]


def gradients(parts: Sequence[LinkedModule]) -> tuple[list[Tensor], Ints]:
    """Return tensors for their gradients, not filled, and where these stand, [parts, 2]."""
    tensors = [torch.empty_like(tensor) for tensor in parameters(parts)]
    return tensors, np.array([t.data_ptr() for t in tensors]).reshape(-1, 2)


class Sequences(NamedTuple):
    """What a network of agents works on."""

    observation: Tensor
    """[T, B, N, O], each contiguous, and those of a step's agents one behind the other."""
    last_action: Ints
    """[T B N]; -1 is none."""
    lanes: Ints
    """Which row each lane works on at each step, see `thrifty.engine.recurrent_values.pack`."""
    seen: Ints
    """Where its observation begins."""
    actions: int

    @classmethod
    def of(
        cls,
        observation: Tensor,
        last_action: Tensor,
        lengths: Ints,
        actions: int,
        agent: int | None,
    ) -> Sequences:
        """Lay out the sequences of all agents or of one.

        Args:
            observation: [T, B, N, O].
            last_action: int64 [T, B, N].
            lengths: observations of each episode, [B].
            actions: U.
            agent: its number, or None for all.
        """
        _, B, N, O = observation.shape  # noqa: E741 - the legend's letter
        if observation.stride()[2:] != (O, 1):
            observation = observation.contiguous()
        of_step, of_episode = observation.stride()[:2]
        numbers = np.arange(N) if agent is None else np.array([agent])
        each = np.repeat(lengths, len(numbers))
        row, seen = (
            (np.arange(B)[:, None] * episode + numbers * one).reshape(-1)
            for episode, one in ((N, 1), (of_episode, O))
        )
        return cls(
            observation,
            last_action.contiguous().numpy().reshape(-1),
            recurrent_values.pack(each, row, B * N),
            recurrent_values.pack(each, seen, of_step),
            actions,
        )


class CompiledAgent:
    """One recurrent network in compiled form.

    Args:
        parts: the compact first layer, GRU and last layer; all with biases.
    """

    def __init__(self, parts: tuple[SparseMLP, SparseGRU, SparseMLP]) -> None:
        self.parts = parts
        self.table = np.concatenate([part.links.table for part in parts])
        self.table[0, RELU] = 1
        enter, memory, leave = parts
        self.hidden, self.outputs = memory.hidden_size, leave.links.outputs
        rows = recurrent_values.scratch_rows(enter.links.inputs, self.hidden, self.outputs)
        self.scratch = rows * LANES
        biases = 5 * self.hidden + self.outputs  # W_hh's of r and z are W_ih's
        self.partials = (sum(part.links.values for part in parts) + biases) * WIDTH

    def tape(self, steps: int) -> Tensor:
        """Return room for the states of so many steps."""
        return torch.empty(steps * self.hidden * LANES, **KIND)

    def forward(
        self,
        on: Sequences,
        q: Tensor,
        tape: Tensor,
        *,
        keep: bool = False,
        state: Tensor | None = None,
        following: Tensor | None = None,
    ) -> None:
        """Fill q, [T, B, N, U], where some lane works; see the kernel of this name."""
        scratch = torch.empty(self.scratch, **KIND)
        recurrent_values.forward(
            self.table,
            *map(tuple, addresses(self.parts).tolist()),
            *self._inputs(on),
            0 if state is None else state.data_ptr(),
            q.data_ptr(),
            0 if following is None else following.data_ptr(),
            tape.data_ptr(),
            keep,
            scratch.data_ptr(),
        )

    def backward(self, on: Sequences, dq: Tensor, tape: Tensor) -> list[Tensor]:
        """Return the gradients of all parameters."""
        tensors, places = gradients(self.parts)
        scratch, partials = torch.empty(self.scratch, **KIND), torch.zeros(self.partials, **KIND)
        recurrent_values.backward(
            self.table,
            *map(tuple, addresses(self.parts).tolist()),
            *self._inputs(on),
            dq.data_ptr(),
            tape.data_ptr(),
            scratch.data_ptr(),
            partials.data_ptr(),
            *map(tuple, places.tolist()),
        )
        return tensors

    def _inputs(self, on: Sequences) -> tuple[Any, ...]:
        _, B, N, width = on.observation.shape
        seen = on.observation.data_ptr()
        return on.lanes, on.seen, seen, width, on.last_action, on.actions, N, B * N


class _Agents(torch.autograd.Function):
    """The operation (parameters) -> values of all steps."""

    @staticmethod
    def forward(ctx: Any, agent: CompiledAgent, on: Sequences, *_: Tensor) -> Tensor:
        tape = agent.tape(len(on.lanes) + 1)
        q = torch.zeros(*on.observation.shape[:3], agent.outputs, **KIND)
        agent.forward(on, q, tape, keep=True)
        ctx.agent, ctx.on, ctx.tape = agent, on, tape
        return q

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        assert not torch.is_grad_enabled(), "compiled agents have no second derivatives"
        return (None, None, *ctx.agent.backward(ctx.on, slopes[0].contiguous(), ctx.tape))


class CompiledMixer:
    """QMIX's mixer in compiled form.

    Args:
        mixer: compact; each of its perceptrons is one compact chain with biases.
    """

    def __init__(self, mixer: MonotonicMixer) -> None:
        networks = (mixer.hyper_w1, mixer.hyper_b1, mixer.hyper_w2, mixer.value)
        chains = [network[0] for network in networks]
        self.parts = [chain for chain in chains if isinstance(chain, SparseMLP)]
        self.agents, self.embed = mixer.agents, mixer.embed
        links = [part.links for part in self.parts]
        self.table = np.concatenate([one.table for one in links])
        before = np.cumsum([[len(one.shapes), one.values, one.biases] for one in links], axis=0)
        self.begins = np.concatenate([np.zeros((1, 3), np.int64), before])
        self.state, self.widest = links[0].inputs, max(one.width for one in links)
        outputs = int(self.begins[-1, mixing.OUTPUTS])
        self.scratch = LANES * mixing.scratch_rows(
            self.state, self.agents, self.embed, outputs, self.widest
        )
        self.partials = (int(self.begins[-1, mixing.LINKS]) + outputs) * WIDTH

    def forward(self, value: Tensor, state: Tensor) -> Tensor:
        """Return the joint values of rows of individual values and states."""
        total = torch.empty(value.shape[:-1], **KIND)
        scratch = torch.empty(self.scratch, **KIND)
        mixing.forward(*self._inputs(value, state), total.data_ptr(), scratch.data_ptr())
        return total

    def backward(
        self, value: Tensor, state: Tensor, slope: Tensor, *, wanted: bool
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Return the gradients of the individual values and, where wanted, of all parameters."""
        d_value = torch.empty_like(value)
        tensors, places = gradients(self.parts)
        scratch = torch.empty(self.scratch, **KIND)
        partials = torch.zeros(self.partials if wanted else 0, **KIND)
        mixing.backward(
            *self._inputs(value, state),
            slope.data_ptr(),
            scratch.data_ptr(),
            self.widest,
            wanted,
            partials.data_ptr(),
            places,
            d_value.data_ptr(),
        )
        return d_value, [tensor if wanted else None for tensor in tensors]

    def _inputs(self, value: Tensor, state: Tensor) -> tuple[Any, ...]:
        return (
            self.table,
            self.begins,
            addresses(self.parts),
            self.agents,
            self.embed,
            value.data_ptr(),
            state.data_ptr(),
            self.state,
            value.numel() // self.agents,
        )

    def __call__(self, value: Tensor, state: Tensor) -> Tensor:
        """Return the joint values, [...], of individual values [..., N] and states [..., S]."""
        value, state = value.contiguous(), state.contiguous()
        weights = parameters(self.parts)
        if torch.is_grad_enabled() and any(t.requires_grad for t in (value, *weights)):
            total: Tensor = _mix(self, value, state, *weights)
            return total
        return self.forward(value, state)


class _Mixer(torch.autograd.Function):
    """The operation (individual values, parameters) -> joint values; states have no gradient."""

    @staticmethod
    def forward(ctx: Any, mixer: CompiledMixer, value: Tensor, state: Tensor, *_: Tensor) -> Tensor:
        ctx.mixer = mixer
        ctx.save_for_backward(value, state)
        return mixer.forward(value, state)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        assert not torch.is_grad_enabled(), "a compiled mixer has no second derivatives"
        value, state = ctx.saved_tensors
        wanted = any(ctx.needs_input_grad[3:])
        d_value, rest = ctx.mixer.backward(value, state, slopes[0].contiguous(), wanted=wanted)
        return (None, d_value, None, *rest)


_mix: Any = _Mixer.apply
_pass: Any = _Agents.apply


class CompiledAgents:
    """All networks of a team's agents.

    Args:
        nets: one for all agents, or one for each.
    """

    def __init__(self, nets: Sequence[CompiledAgent]) -> None:
        self.nets = list(nets)

    def _each(
        self, observation: Tensor, last_action: Tensor, lengths: Ints, actions: int
    ) -> list[tuple[CompiledAgent, Sequences]]:
        alone = len(self.nets) == 1
        return [
            (net, Sequences.of(observation, last_action, lengths, actions, None if alone else n))
            for n, net in enumerate(self.nets)
        ]

    def __call__(self, inputs: AgentInputs) -> Tensor:
        """Return the values at all observations of a minibatch, [T + 1, B, N, U]; 0 at padding."""
        observation = inputs.batch.observation
        lengths = inputs.batch.filled.sum(0).long().numpy() + 1
        each = self._each(observation, inputs.last_action, lengths, inputs.actions)
        if torch.is_grad_enabled():
            parts = [_pass(net, on, *parameters(net.parts)) for net, on in each]
            total: Tensor = sum(parts[1:], start=parts[0])  # each is 0 where others work
            return total
        q = torch.zeros(*observation.shape[:3], inputs.actions, **KIND)
        for net, on in each:
            net.forward(on, q, net.tape(2))
        return q

    def step(
        self, observation_BNO: Tensor, last_action_BN: Tensor, hidden_BNH: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the values of one step, [B, N, U], and the hidden states after it, [B, N, H]."""
        B, N, _ = observation_BNO.shape
        actions = self.nets[0].outputs
        q, following = torch.empty(B, N, actions, **KIND), torch.empty_like(hidden_BNH)
        hidden = hidden_BNH.contiguous()
        one = np.ones(B, np.int64)
        for net, on in self._each(observation_BNO[None], last_action_BN[None], one, actions):
            net.forward(on, q, net.tape(2), state=hidden, following=following)
        return q, following
