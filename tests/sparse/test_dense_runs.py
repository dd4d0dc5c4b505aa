from __future__ import annotations

from typing import Any

import pytest
import torch
from small_layers import Due, batch, dense_state, mlp
from torch import nn

from thrifty.sparse import TopologyEvolution, erk, sparsify


@pytest.mark.parametrize("sparsity", [0.0, Due(sparsity_at=lambda step: 0.0)])
@pytest.mark.parametrize("clip_norm", [None, 0.01])
def test_sparsity_zero_is_bit_equal_to_the_plain_optimizer(sparsity: Any, clip_norm) -> None:
    plain, model = mlp(), mlp()
    plain_optimizer = torch.optim.Adam(plain.parameters())
    optimizer = torch.optim.Adam(model.parameters())
    topology = sparsify(model, sparsity=sparsity)
    evolution = TopologyEvolution(topology, Due(sparsity_at=lambda step: 0.0))
    for step in range(10):
        for net, opt in ((plain, plain_optimizer), (model, optimizer)):
            opt.zero_grad()
            net(batch(step)).square().mean().backward()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(plain.parameters(), clip_norm)
        plain_optimizer.step()
        evolution.step(optimizer, clip_norm=clip_norm)
    ours, theirs = dense_state(model, optimizer), dense_state(plain, plain_optimizer)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert evolution.steps == 10


def test_a_schedule_that_leaves_zero_is_bit_equal_while_full_and_sparse_afterwards() -> None:
    targets = {6: 0.3, 8: 0.8, 10: 0.8, 12: 0.4}  # from step 1: full; then up, still, and down

    def sparsity_at(step: int) -> float:
        return next((targets[s] for s in sorted(targets, reverse=True) if step >= s), 0.0)

    schedule = Due(0.25, at=tuple(range(2, 13, 2)), sparsity_at=sparsity_at)
    plain, model = mlp(), mlp()
    plain_optimizer = torch.optim.Adam(plain.parameters())
    optimizer = torch.optim.Adam(model.parameters())
    topology = sparsify(model, sparsity=schedule)
    evolution = TopologyEvolution(topology, schedule)
    for step in range(1, 13):
        for net, opt in ((plain, plain_optimizer), (model, optimizer)):
            opt.zero_grad()
            net(batch(step)).square().mean().backward()
        plain_optimizer.step()
        update = evolution.step(optimizer)
        if step < 6:
            ours, theirs = dense_state(model, optimizer), dense_state(plain, plain_optimizer)
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert topology.nnz == erk(topology.shapes, sparsity_at(step))
        assert topology.target_sparsity == sparsity_at(step)
        if update is not None:
            assert update.sparsity == topology.sparsity
        for name in topology.names:
            assert not bool(topology.weight(name)[~topology.mask(name)].any())
