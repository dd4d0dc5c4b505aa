"""Recurrent values over packed lanes, and one GRU unit at a time, against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from thrifty.engine import recurrent_values
from thrifty.engine.modules import compact
from thrifty.engine.partials import WIDTH
from thrifty.engine.perceptron import RELU
from thrifty.engine.vector import LANES
from thrifty.sparse import er, sparsify


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=200))
@settings(max_examples=60, deadline=None)
def test_every_row_is_in_one_lane_and_sequences_stay_whole(lengths: list[int]) -> None:
    count = len(lengths)
    rows = recurrent_values.pack(np.array(lengths), np.arange(count), count)
    found = rows[rows >= 0]
    wanted = {s + t * count for s, length in enumerate(lengths) for t in range(length)}
    assert len(found) == len(wanted)
    assert set(found.tolist()) == wanted
    for lane in rows.T:
        work = lane[lane >= 0]
        assert (lane[: len(work)] >= 0).all()  # idle only at the end
        begins = work < count
        assert begins[:1].all()
        # Behind a row follows the same sequence's next one, or a first one.
        assert (begins[1:] | (np.diff(work) == count)).all()
    # Longest first into the emptiest lane: never beyond 4/3 of the best (Graham 1969).
    best = max(max(lengths), -(-sum(lengths) // LANES))
    assert len(rows) <= 4 / 3 * best + max(lengths)


class Net(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.gru = nn.GRU(hidden, hidden)
        self.fc2 = nn.Linear(hidden, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc2(self.gru(torch.relu(self.fc1(x)))[0])
        return out


@pytest.mark.parametrize("sparsity", [0.3, 0.8, 0.95])
@pytest.mark.parametrize(
    ("episodes", "agents", "seen"), [(1, 1, 3), (30, 3, 40), (70, 2, 16), (5, 1, 17)]
)
def test_values_and_gradients_are_those_of_torch(
    sparsity: float, episodes: int, agents: int, seen: int
) -> None:
    torch.manual_seed(episodes)
    hidden, actions, T = 12, 5, 9
    inputs, step = seen + actions + agents, episodes * agents
    net = Net(inputs, hidden, actions)
    for parameter in net.parameters():
        parameter.data.mul_(2.0)  # gates that are not all near one half
    topology = sparsify(net, sparsity=sparsity, allocate=er)
    small = compact(net, topology)
    parts = (small.fc1, small.gru, small.fc2)
    observation = torch.randn(T, episodes, agents, seen)
    last = torch.randint(0, actions, (T, episodes, agents))
    last[0] = -1
    lengths = torch.randint(1, T + 1, (episodes,)).repeat_interleave(agents).numpy()
    lanes = recurrent_values.pack(lengths, np.arange(step), step)
    places = recurrent_values.pack(lengths, np.arange(step) * seen, step * seen)
    there = torch.from_numpy(np.arange(T)[:, None] < lengths[None]).reshape(T, episodes, agents, 1)

    table = np.concatenate([part.links.table for part in parts])
    table[0, RELU] = 1
    weights = [(part.values.data_ptr(), part.biases.data_ptr()) for part in parts]
    q, dq = torch.zeros(2, T, episodes, agents, actions)
    dq.copy_(torch.randn_like(dq) * there)
    tape = torch.empty((len(lanes) + 1) * hidden * LANES)
    scratch = torch.empty(recurrent_values.scratch_rows(inputs, hidden, actions) * LANES)
    common = (
        lanes,
        places,
        observation.data_ptr(),
        seen,
        last.reshape(-1).numpy(),
        actions,
        agents,
        step,
    )
    recurrent_values.forward(
        table, *weights, *common, 0, q.data_ptr(), 0, tape.data_ptr(), True, scratch.data_ptr()
    )
    gradients = [torch.empty_like(p) for part in parts for p in (part.values, part.biases)]
    at = [(a.data_ptr(), b.data_ptr()) for a, b in zip(gradients[::2], gradients[1::2])]  # noqa: B905
    numbers = sum(part.links.values for part in parts) + 5 * hidden + actions
    partials = torch.zeros(numbers * WIDTH)
    recurrent_values.backward(
        table,
        *weights,
        *common,
        dq.data_ptr(),
        tape.data_ptr(),
        scratch.data_ptr(),
        partials.data_ptr(),
        *at,
    )

    one_hot = nn.functional.one_hot(last + 1, actions + 1)[..., 1:].float()
    number = torch.eye(agents).expand(T, episodes, agents, agents)
    x = torch.cat([observation, one_hot, number], -1)
    expected = net(x.reshape(T, step, inputs)).reshape(q.shape)
    torch.testing.assert_close(q, expected * there, rtol=1e-5, atol=1e-6)
    (expected * dq).sum().backward()
    mask = topology.mask
    wanted = [
        net.fc1.weight.grad[mask("fc1.weight")],
        net.fc1.bias.grad,
        torch.cat(
            [
                getattr(net.gru, name).grad[mask(f"gru.{name}")]
                for name in ("weight_ih_l0", "weight_hh_l0")
            ]
        ),
        torch.cat([net.gru.bias_ih_l0.grad, net.gru.bias_hh_l0.grad]),
        net.fc2.weight.grad[mask("fc2.weight")],
        net.fc2.bias.grad,
    ]
    for ours, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


def test_a_state_goes_in_and_out() -> None:
    torch.manual_seed(0)
    hidden, actions, episodes, agents, seen = 6, 3, 40, 2, 4
    net = Net(seen + actions + agents, hidden, actions)
    small = compact(net, sparsify(net, sparsity=0.5, allocate=er))
    parts = (small.fc1, small.gru, small.fc2)
    table = np.concatenate([part.links.table for part in parts])
    table[0, RELU] = 1
    step = episodes * agents
    observation = torch.randn(step, seen)
    last = torch.randint(-1, actions, (step,))
    state, after = torch.randn(step, hidden), torch.empty(step, hidden)
    q, one = torch.empty(step, actions), np.ones(step, np.int64)
    scratch = torch.empty(recurrent_values.scratch_rows(9, hidden, actions) * LANES)
    tape = torch.empty(2 * hidden * LANES)
    recurrent_values.forward(
        table,
        *[(part.values.data_ptr(), part.biases.data_ptr()) for part in parts],
        recurrent_values.pack(one, np.arange(step), step),
        recurrent_values.pack(one, np.arange(step) * seen, step * seen),
        observation.data_ptr(),
        seen,
        last.numpy(),
        actions,
        agents,
        step,
        state.data_ptr(),
        q.data_ptr(),
        after.data_ptr(),
        tape.data_ptr(),
        False,
        scratch.data_ptr(),
    )
    one_hot = nn.functional.one_hot(last + 1, actions + 1)[:, 1:].float()
    x = torch.cat([observation, one_hot, torch.eye(agents).repeat(episodes, 1)], -1)
    with torch.no_grad():
        expected, _ = net.gru(torch.relu(net.fc1(x))[None], state[None])
        torch.testing.assert_close(after, expected[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(q, net.fc2(expected[0]), rtol=1e-5, atol=1e-6)
