from __future__ import annotations

import pytest
import torch
from small_layers import Due, batch
from torch import nn

from thrifty.sparse import Cosine, Topology, TopologyEvolution, sparsify


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.core = kind(6, 5, num_layers=2, bidirectional=True)
        self.head = nn.Linear(10, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.core(x.unsqueeze(1))[0])


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.lstm, self.rnn = nn.GRUCell(6, 4), nn.LSTMCell(4, 4), nn.RNNCell(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(self.lstm(self.gru(x))[0])


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv1d(1, 4, 3), nn.Conv2d(1, 3, (2, 2))
        self.three = nn.Conv3d(1, 2, (1, 2, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.two(self.one(x.unsqueeze(1)).unsqueeze(1))
        return self.three(x.unsqueeze(1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(6, 6), nn.Linear(6, 6)
        self.decode.weight = self.encode.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encode(x).tanh())


@pytest.mark.parametrize("scope", ["layer", "group"])
@pytest.mark.parametrize("split_gates", [False, True])
@pytest.mark.parametrize(
    "make",
    [lambda: Recurrent(nn.GRU), lambda: Recurrent(nn.LSTM), Cells, Convolutional, Tied],
    ids=["GRU", "LSTM", "cells", "conv", "tied"],
)
def test_every_kind_of_layer_evolves_at_constant_sparsity(make, split_gates, scope) -> None:
    torch.manual_seed(0)
    model = make()
    topology = sparsify(model, sparsity=0.7, split_gates=split_gates, scope=scope)
    first = {name: topology.mask(name).clone() for name in topology.names}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = Cosine(0.7, update_every=2, update_until=10)
    evolution = TopologyEvolution(topology, schedule)
    nnz = topology.nnz
    for step in range(1, 8):
        optimizer.zero_grad()
        (model(batch(step)) - 0.5).square().mean().backward()
        evolution.step(optimizer)
        now = topology.nnz
        assert sum(now.values()) == sum(nnz.values())
        assert now == nnz or scope == "group"
        for name in topology.names:
            assert not bool(topology.weight(name)[~topology.mask(name)].any())
            moment = optimizer.state[topology.parameter(name)]["exp_avg_sq"]
            assert not bool(topology.part(name, moment)[~topology.mask(name)].any())
    changed = [not torch.equal(first[name], topology.mask(name)) for name in topology.names]
    assert sum(changed) > len(changed) // 2


def test_split_gates_are_ranked_apart() -> None:
    # Update and reset gates with large weights, the new gate with small ones: as one matrix the
    # small ones would all be dropped, split no gate loses more than half.
    model = nn.GRU(2, 2)
    for split_gates, expected in ((False, [4, 2, 0]), (True, [2, 2, 2])):
        with torch.no_grad():
            model.weight_ih_l0.copy_(
                torch.tensor([[9.0, 8], [7, 6], [5, 4], [3, 2], [1, 1], [1, 1]])
            )
        topology = Topology.from_zeros(
            model,
            where=lambda name, module, parameter: name == "weight_ih_l0",
            split_gates=split_gates,
        )
        evolution = TopologyEvolution(topology, Due(0.0, sparsity_at=lambda step: 0.5))
        model.weight_ih_l0.grad = torch.zeros(6, 2)
        evolution.step(torch.optim.SGD([model.weight_ih_l0], lr=0.0))
        gates = model.weight_ih_l0_mask.view(3, 4).sum(1).tolist()
        assert gates == expected
