"""A model trained compact most of the time ends where the dense masked one does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thrifty.engine.twin import Twin, parts_of
from thrifty.sparse import Cosine, TopologyEvolution, er, sparsify


class Net(nn.Module):
    """Two perceptrons, a norm and a memory."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Sequential(
            nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 10), nn.LayerNorm(10), nn.ReLU()
        )
        self.memory = nn.GRU(10, 9)
        self.leave = nn.Sequential(nn.Linear(9, 8, bias=False), nn.ReLU(), nn.Linear(8, 3))
        self.last = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.memory(self.enter(x).contiguous())
        out: Tensor = self.last(torch.tanh(self.leave(y)))
        return out


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-2),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=1e-3, momentum=0.5),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=1e-1),
}


def data(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(4, 5, 6, generator=generator)
    return x, x.sum(-1, keepdim=True).cumsum(0)


def train(model: Net, kind: str, compact: bool) -> tuple[Net, torch.optim.Optimizer]:
    """Train for 40 steps with a topology change every 10."""
    model = copy.deepcopy(model)
    topology = sparsify(
        model, sparsity=0.6, allocate=er, generator=torch.Generator().manual_seed(1)
    )
    evolution = TopologyEvolution(topology, Cosine(0.6, update_every=10, update_until=1000))
    optimizer = OPTIMIZERS[kind](model.parameters())
    twin = Twin(model, topology, optimizer) if compact else None
    moved = 0
    for step in range(1, 41):
        x, y = data(step)
        if twin is not None and not evolution.schedule.is_due(evolution.steps + 1):
            twin.optimizer.zero_grad()
            nn.functional.mse_loss(twin.compact(x), y).backward()
            twin.optimizer.step()
            evolution.steps += 1
            continue
        if twin is not None:
            twin.bring_dense()
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        moved += evolution.step(optimizer) is not None
        if twin is not None:
            twin.take_dense()
    assert moved == 4
    if twin is not None:
        twin.bring_dense()
    return model, optimizer


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
def test_a_twin_ends_where_the_dense_model_does(kind: str) -> None:
    torch.manual_seed(0)
    model = Net()
    plain, plain_optimizer = train(model, kind, compact=False)
    ours, our_optimizer = train(model, kind, compact=True)
    for (name, mine), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5, msg=name)
        first, second = our_optimizer.state[mine], plain_optimizer.state[other]
        assert set(first) == set(second)
        for key, value in second.items():
            if isinstance(value, Tensor):
                torch.testing.assert_close(first[key], value, rtol=1e-3, atol=1e-5, msg=key)
    for buffer, other in zip(ours.buffers(), plain.buffers(), strict=True):
        assert torch.equal(buffer, other)


def test_what_a_compact_parameter_stands_for() -> None:
    model = Net()
    topology = sparsify(model, sparsity=0.6, allocate=er)
    twin = Twin(model, topology, torch.optim.Adam(model.parameters()))
    parts = {
        name: [part for part, _ in found] for name, found in parts_of(twin.compact, model).items()
    }
    assert parts == {
        "enter.0.values": ["enter.0.weight", "enter.2.weight"],
        "enter.0.biases": ["enter.0.bias", "enter.2.bias"],
        "enter.3.weight": ["enter.3.weight"],
        "enter.3.bias": ["enter.3.bias"],
        "memory.values": ["memory.weight_ih_l0", "memory.weight_hh_l0"],
        "memory.biases": ["memory.bias_ih_l0", "memory.bias_hh_l0"],
        "leave.0.values": ["leave.0.weight", "leave.2.weight"],
        "leave.0.biases": ["leave.2.bias"],
        "last.values": ["last.weight"],
        "last.biases": ["last.bias"],
    }


def test_groups_keep_their_settings_and_may_not_cut_a_chain() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    topology = sparsify(model, sparsity=0.5)
    weights = [p for p in model.parameters() if p.ndim == 2]
    biases = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}]
    )
    twin = Twin(model, topology, optimizer)
    decays = [(g["weight_decay"], len(g["params"])) for g in twin.optimizer.param_groups]
    assert decays == [(0.1, 1), (0.0, 1)]
    cut = torch.optim.AdamW([{"params": weights[:1]}, {"params": weights[1:] + biases}])
    with pytest.raises(ValueError, match="several groups"):
        Twin(model, topology, cut)
