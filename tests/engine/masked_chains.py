"""Random masked perceptrons, and their compact twins."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from thrifty.engine.modules import SparseMLP
from thrifty.sparse import Topology

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def chain(
    widths: list[int], density: float, seed: int, bias: bool = True
) -> tuple[nn.Sequential, Topology]:
    """Return a random masked perceptron; a sparse one has an empty row and an empty column."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    masks = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            mask = torch.rand(parameter.shape) < density
            if density < 1:
                mask[-1] = mask[:, 0] = False
            masks[name] = mask
    return model, Topology(model, masks)


def small() -> tuple[nn.Sequential, Topology]:
    return chain([5, 8, 3], 0.5, seed=0)


def mlp_of(model: nn.Sequential) -> SparseMLP:
    (module,) = model
    assert isinstance(module, SparseMLP)
    return module
