"""Layers whose evolution can be followed by hand, and a network that learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from thrifty.sparse import Topology


@dataclass(frozen=True)
class Due:
    """Due at the given steps, or always; constant fraction; sparsity by step."""

    fraction: float = 0.5
    at: tuple[int, ...] | None = None
    sparsity_at: Callable[[int], float] = lambda step: 0.5

    def is_due(self, step: int) -> bool:
        return self.at is None or step in self.at

    def drop_fraction(self, step: int) -> float:
        return self.fraction

    def sparsity(self, step: int) -> float:
        return self.sparsity_at(step)


WEIGHT = [4.0, -3.0, 2.0, -1.0, 0.0, 0.0, 0.0, 0.0]
GRAD = [0.1, 0.2, -0.9, 0.3, 0.5, 0.6, 0.05, -0.7]


def layer(weight: list[float] = WEIGHT) -> tuple[nn.Linear, Topology]:
    """Make a layer 4 -> 2 of which the first four links exist."""
    model = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(weight).view(2, 4))
    return model, Topology.from_zeros(model)


def give_grad(parameter: nn.Parameter, values: list[float]) -> None:
    parameter.grad = torch.tensor(values, dtype=parameter.dtype).view_as(parameter)


def links(mask: torch.Tensor) -> list[int]:
    return mask.flatten().nonzero().squeeze(1).tolist()


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 2))


def batch(step: int, width: int = 6) -> torch.Tensor:
    return torch.randn(5, width, generator=torch.Generator().manual_seed(step))


def dense_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    moments = [
        value
        for parameter in model.parameters()
        for value in optimizer.state[parameter].values()
        if isinstance(value, torch.Tensor)
    ]
    return [*(p.detach() for p in model.parameters()), *moments]
