"""The reference learners' networks in the engine's arena, and back.

A learner's torch modules and the arena hold the same numbers in two shapes: dense matrices with
masks, and the links alone. Moving between them loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from thrifty.control.sparse_network import SparseNetwork
from thrifty.engine.layout import Arena, LayerIndex
from thrifty.engine.update import Transitions
from thrifty.rl.transitions import Replay


def masks_of(network: SparseNetwork[Any], net: str) -> list[NDArray[np.bool_]]:
    """Return the mask of each layer of one perceptron of a network, bool [out, in].

    Args:
        network: holds the perceptron.
        net: its attribute: "net" of an actor, "q1" or "q2" of a critic.
    """
    masked = network.topology.names
    return [
        network.topology.mask(weight).numpy()
        if weight in masked
        else np.ones(tuple(layer.weight.shape), np.bool_)
        for weight, layer in _linears(network.module, net)
    ]


def layer_indices(network: SparseNetwork[Any], net: str) -> list[LayerIndex]:
    """Return the links of each layer of one perceptron of a network.

    Args:
        network: holds the perceptron.
        net: its attribute: "net" of an actor, "q1" or "q2" of a critic.
    """
    return [LayerIndex.of(mask) for mask in masks_of(network, net)]


def to_arena(arena: Arena, places: Mapping[str, tuple[nn.Module, str]]) -> None:
    """Copy weights and biases of torch modules into the arena.

    Args:
        arena: takes them.
        places: arena network -> (module, attribute of the perceptron).
    """
    for network, (module, net) in places.items():
        for number, (_, layer) in enumerate(_linears(module, net)):
            weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
            arena.write(arena.params, network, number, weight, bias)
        for parameter, place in norms_of(arena, network, module, net):
            arena.params[place] = parameter.detach().numpy()


@torch.no_grad()
def to_torch(arena: Arena, places: Mapping[str, tuple[nn.Module, str]]) -> None:
    """Copy the arena's weights and biases into torch modules; cut links become 0."""
    for network, (module, net) in places.items():
        for number, (_, layer) in enumerate(_linears(module, net)):
            weight, bias = arena.read(arena.params, network, number)
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
        for parameter, place in norms_of(arena, network, module, net):
            parameter.copy_(torch.from_numpy(arena.params[place]))


def transitions_of(replay: Replay) -> Transitions:
    """Return the replay as compiled code sees it; its rows are shared, not copied."""
    return Transitions(
        replay.matrix,
        replay.first,
        replay.total,
        replay.environments,
        replay.columns.reward,
        replay.columns.terminated,
        replay.columns.ended,
        replay.columns.valid,
    )


def layers_of(module: nn.Module, net: str) -> list[nn.Linear]:
    """Return the linear layers of one perceptron of a module, in order."""
    return [layer for _, layer in _linears(module, net)]


def norms_of(
    arena: Arena, network: str, module: nn.Module, net: str
) -> Iterator[tuple[nn.Parameter, slice]]:
    """Yield the gains and the offsets of each LayerNorm with their places in a parameter vector.

    Args:
        arena: holds the network.
        network: its name there.
        module: holds the perceptron.
        net: its attribute.
    """
    layers = arena.layers[network]
    behind = -1
    for layer in module.get_submodule(net).children():
        if isinstance(layer, nn.Linear):
            behind += 1
        elif isinstance(layer, nn.LayerNorm):
            begin, width = layers[behind].norm, layers[behind].index.out
            yield layer.weight, slice(begin, begin + width)
            yield layer.bias, slice(begin + width, begin + 2 * width)


def _linears(module: nn.Module, net: str) -> Iterator[tuple[str, nn.Linear]]:
    for name, layer in module.get_submodule(net).named_children():
        if isinstance(layer, nn.Linear):
            yield f"{net}.{name}.weight", layer
        elif not isinstance(layer, (nn.ReLU, nn.LayerNorm)):
            raise ValueError(
                f"the engine has no {type(layer).__name__}; use the reference backend for it"
            )
