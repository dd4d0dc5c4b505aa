"""The layers of a model: which parameters can be sparse, under which names.

A layer is one weight matrix (or kernel), named as in `model.named_parameters()`; a tied parameter
is one layer under the first of its names; with `split_gates` every gate of a GRU (3) or LSTM (4)
is a layer of its own, `gru.weight_ih_l0[0]` and so on, in PyTorch's order of gates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Where", "layer_shapes", "matrix_weights"]

Where = Callable[[str, nn.Module, nn.Parameter], bool]
"""(parameter name, owning module, parameter) -> is it made sparse?"""

_MATRIX_MODULES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_GATES: dict[type[nn.Module], int] = {
    nn.RNN: 1,
    nn.RNNCell: 1,
    nn.GRU: 3,
    nn.GRUCell: 3,
    nn.LSTM: 4,
    nn.LSTMCell: 4,
}


def matrix_weights(name: str, module: nn.Module, parameter: nn.Parameter) -> bool:
    """Choose the weights, not the biases, of Linear, Conv1d/2d/3d, RNN, GRU, LSTM and their cells.

    Args:
        name: full name of the parameter.
        module: the module that owns it (the first, if it is tied).
        parameter: the parameter.

    Returns:
        Whether it is made sparse. Embeddings, norms and biases are not.

    Example:
        >>> layer = nn.Linear(3, 2)
        >>> matrix_weights("weight", layer, layer.weight), matrix_weights("bias", layer, layer.bias)
        (True, False)
    """
    attribute = name.rpartition(".")[2]
    if isinstance(module, _MATRIX_MODULES):
        return attribute == "weight"
    if isinstance(module, tuple(_GATES)):
        return attribute.startswith(("weight_ih", "weight_hh"))
    return False


class Slot(NamedTuple):
    """A sparse parameter: where it is, and into how many layers it is cut along axis 0."""

    path: str
    module: nn.Module
    attribute: str
    buffer: str
    blocks: int

    @property
    def name(self) -> str:
        """Return the parameter's full name."""
        return f"{self.path}.{self.attribute}" if self.path else self.attribute

    @property
    def weight(self) -> nn.Parameter:
        """Return the parameter as it is now."""
        return getattr(self.module, self.attribute)  # type: ignore[no-any-return]

    @property
    def mask(self) -> Tensor:
        """Return the mask buffer as it is now."""
        return getattr(self.module, self.buffer)  # type: ignore[no-any-return]


class Layer(NamedTuple):
    """A layer: a slot, and which of its blocks."""

    slot: Slot
    block: int

    @property
    def name(self) -> str:
        """Return the layer's name: the parameter's, with the gate's number where it is cut."""
        return self.slot.name if self.slot.blocks == 1 else f"{self.slot.name}[{self.block}]"

    def part(self, tensor: Tensor) -> Tensor:
        """Cut the layer's view out of a tensor of the parameter's shape."""
        if self.slot.blocks == 1:
            return tensor
        rows = tensor.shape[0] // self.slot.blocks
        return tensor.detach().narrow(0, self.block * rows, rows)


def find_layers(model: nn.Module, where: Where, split_gates: bool) -> list[Layer]:
    """List the layers of a model, in the order of its parameters; tied parameters once.

    Args:
        model: any module.
        where: which parameters count.
        split_gates: cut gated recurrent weights into their gates.

    Raises:
        ValueError: a lazy parameter that has no shape yet, or one that is divided among processes.
    """
    layers: list[Layer] = []
    seen: set[int] = set()
    for path, module in model.named_modules():
        for attribute, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            name = f"{path}.{attribute}" if path else attribute
            if not where(name, module, parameter):
                continue
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                raise ValueError(f"{name} has no shape yet: run one forward pass of the lazy model")
            if hasattr(parameter, "device_mesh"):
                raise ValueError(
                    f"{name} is divided among processes (FSDP2, tensor parallel), which sparse "
                    "training has not been tested with: use DistributedDataParallel"
                )
            gates = next((n for kind, n in _GATES.items() if isinstance(module, kind)), 1)
            gated = split_gates and attribute.startswith(("weight_ih", "weight_hh"))
            slot = Slot(path, module, attribute, f"{attribute}_mask", gates if gated else 1)
            layers += [Layer(slot, block) for block in range(slot.blocks)]
    return layers


def layer_shapes(
    model: nn.Module, *, where: Where = matrix_weights, split_gates: bool = False
) -> dict[str, torch.Size]:
    """List the layers that `sparsify` would make sparse, with their shapes.

    Args:
        model: any module.
        where: which parameters count, (name, module, parameter) -> bool.
        split_gates: count every gate of a GRU or LSTM as a layer of its own.

    Returns:
        Shape of each layer's weight, [out, in, ...], by name, in the order of the parameters.

    Example:
        >>> layer_shapes(nn.Sequential(nn.Linear(3, 2), nn.ReLU()))
        {'0.weight': torch.Size([2, 3])}
    """
    layers = find_layers(model, where, split_gates)
    return {layer.name: layer.part(layer.slot.weight).shape for layer in layers}
