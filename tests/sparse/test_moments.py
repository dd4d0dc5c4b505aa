from __future__ import annotations

import pytest
import torch
from small_layers import GRAD, Due, batch, give_grad, layer, links, mlp

from thrifty.sparse import Cosine, TopologyEvolution, sparsify


@pytest.mark.parametrize("moments", ["zero", "keep"])
def test_the_treatment_of_moments_by_hand(moments: str) -> None:
    # Momentum 1/2, all gradients masked. Step 1: m = g on links 0-3. Step 2 evolves at 1/2: only
    # the kept links 0 and 1 receive gradient, m = g + m / 2 there and m / 2 on 2 and 3. The new
    # links are 2 (regrown) and 7. lr = 0 leaves the weights out of it.
    model, topology = layer()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.5)
    evolution = TopologyEvolution(topology, Due(0.5, at=(2,)), moments=moments)
    for _ in range(2):
        give_grad(model.weight, GRAD)
        evolution.step(optimizer)
    momentum = optimizer.state[model.weight]["momentum_buffer"].flatten()
    kept = [0.15, 0.3, -0.45, 0.15] if moments == "keep" else [0.15, 0.3, 0.0, 0.0]
    torch.testing.assert_close(momentum, torch.tensor([*kept, 0.0, 0.0, 0.0, 0.0]))
    assert links(topology.mask("weight")) == [0, 1, 2, 7]


def test_stale_moments_never_move_a_link_that_is_cut_or_new() -> None:
    # Momentum keeps pushing 2 and 3 in the evolution step; 3 is dropped and must end at 0, 2 is
    # regrown and starts at exactly 0, or keeps exactly what it was.
    for regrown in ("zero", "keep"):
        model, topology = layer()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        evolution = TopologyEvolution(topology, Due(0.5, at=(2,)), moments="keep", regrown=regrown)
        give_grad(model.weight, GRAD)
        evolution.step(optimizer)
        before = model.weight.detach().clone().flatten()
        give_grad(model.weight, GRAD)
        evolution.step(optimizer)
        weight = model.weight.detach().flatten()
        assert float(weight[3]) == float(weight[7]) == 0.0
        assert float(weight[2]) == (0.0 if regrown == "zero" else float(before[2]))


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, lr=0.01),
        lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, amsgrad=True),
        lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
        lambda p: torch.optim.AdamW(p, lr=0.01),
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
        lambda p: torch.optim.NAdam(p, lr=0.01),
    ],
    ids=["Adam", "Adam-amsgrad", "Adam-fused", "AdamW", "SGD", "RMSprop", "NAdam"],
)
def test_weights_and_moments_are_exactly_zero_off_mask(make) -> None:
    model = mlp()
    topology = sparsify(model, sparsity=0.6)
    optimizer = make(model.parameters())
    schedule = Cosine(0.6, update_every=3, update_until=20)
    evolution = TopologyEvolution(topology, schedule)
    nnz = topology.nnz
    updates = 0
    for step in range(1, 25):
        optimizer.zero_grad()
        (model(batch(step)) - 1).square().mean().backward()
        old = {name: topology.mask(name).clone() for name in topology.names}
        update = evolution.step(optimizer)
        assert (update is not None) == schedule.is_due(step)
        updates += update is not None
        assert topology.nnz == nnz
        for name in topology.names:
            off = ~topology.mask(name)
            new = topology.mask(name) & ~old[name]
            parameter = topology.parameter(name)
            assert not bool(parameter[off].any())
            assert not bool(parameter[new].any())
            moments = [
                value
                for value in optimizer.state[parameter].values()
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape
            ]
            assert moments
            for moment in moments:
                assert not bool(moment[off].any())
                assert not bool(moment[new].any())
                assert bool(moment.any())
    assert updates == 6
    assert evolution.steps == 24
    assert evolution.last_update is not None
    assert evolution.last_update.step == 18
    assert evolution.last_update.survival < 1.0
