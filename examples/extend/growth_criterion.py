"""Grow links by a criterion of your own: gradient size, discounted by how full a neuron is.

A score is a function from a layer's state to one number per link; candidates with the highest are
grown. The same function serves the command line, in this folder:

    thrifty train rlx2.td3 --algorithm.critic.grow growth_criterion:balanced_gradient
"""

from __future__ import annotations

import torch
from torch import nn

from thrifty.sparse import Cosine, LayerState, TopologyEvolution, sparsify, top


def balanced_gradient(state: LayerState) -> torch.Tensor:
    """Return |gradient| / (1 + links that the output neuron has), shape [out, in]."""
    assert state.grad is not None
    fan_in = state.mask.sum(dim=1, keepdim=True)
    return state.grad.abs() / (1 + fan_in)


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))
    topology = sparsify(model, sparsity=0.9)
    schedule = Cosine(0.9, update_every=20, update_until=400)
    evolution = TopologyEvolution(topology, schedule, grow=top(balanced_gradient))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x = torch.randn(512, 20)
    y = torch.sin(x[:, :1]) + x[:, 1:2] * x[:, 2:3]
    for step in range(400):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        update = evolution.step(optimizer)
        if update is not None and step % 80 == 79:
            grown = sum(change.grown for change in update.layers.values())
            print(f"step {step + 1}: loss {loss.item():.4f}, {grown} links grown")
    print(f"sparsity {topology.sparsity:.3f}, {topology.survival:.0%} of the first links remain")


if __name__ == "__main__":
    main()
