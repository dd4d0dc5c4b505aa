"""Make a model sparse: choose the layers, divide the budget, cut, and set the first weights.

The first topology is an ingredient: a function (weight, nnz, generator) -> mask that may re-draw
the weight. `redrawn`, the default, is a uniformly random mask whose kept weights are drawn anew
with the fan-in that is left, so that activations keep their scale; `subset` keeps the dense
values; `largest` keeps the largest weights of the dense initialisation, which is what the
released code of RLx2 (Tan et al. 2023) does, while its paper says random.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from thrifty.sparse.allocate import Allocation, check_sparsity, erk
from thrifty.sparse.growth import highest
from thrifty.sparse.layers import Where, layer_shapes, matrix_weights
from thrifty.sparse.schedule import SparsitySchedule
from thrifty.sparse.topology import Scope, Topology

__all__ = ["Initial", "largest", "redrawn", "sparsify", "subset"]

Initial = Callable[[Tensor, int, torch.Generator], Tensor]
"""(weight, nnz, CPU generator) -> bool mask with nnz links; may write into the weight."""


def subset(weight: Tensor, nnz: int, generator: torch.Generator) -> Tensor:
    """Cut at random and keep the values of the weights that stay.

    Args:
        weight: [out, in, ...]; not changed.
        nnz: links to keep.
        generator: CPU generator, advanced.

    Returns:
        Bool mask of the weight's shape with exactly nnz links, uniform over all such masks.

    Example:
        >>> int(subset(torch.ones(3, 4), 5, torch.Generator()).sum())
        5
    """
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[torch.randperm(weight.numel(), generator=generator)[:nnz]] = True
    return mask.view(weight.shape).to(weight.device)


def redrawn(weight: Tensor, nnz: int, generator: torch.Generator) -> Tensor:
    """Cut at random and draw the weights anew for the fan-in that is left.

    w ~ U(-b, b) with b = 1 / sqrt(fan_in * density): PyTorch's default for Linear and Conv
    with the fan-in corrected by the layer's density nnz / numel.

    Args:
        weight: [out, in, ...]; written to in place.
        nnz: links to keep.
        generator: CPU generator, advanced.

    Returns:
        Bool mask of the weight's shape with exactly nnz links, uniform over all such masks.

    Example:
        >>> weight = torch.zeros(2, 8)
        >>> mask = redrawn(weight, 4, torch.Generator())  # fan-in 8 at density 1/4: b = 1/sqrt(2)
        >>> int(mask.sum()), bool(weight.abs().max() <= 0.5**0.5)
        (4, True)
    """
    mask = subset(weight, nnz, generator)
    if nnz:
        fan_in = weight.numel() // weight.shape[0]
        bound = 1.0 / math.sqrt(fan_in * nnz / weight.numel())
        drawn = torch.empty(weight.shape, dtype=weight.dtype)
        with torch.no_grad():
            weight.copy_(drawn.uniform_(-bound, bound, generator=generator))
    return mask


def largest(weight: Tensor, nnz: int, generator: torch.Generator) -> Tensor:
    """Keep the largest weights in size; ties go to the lower flat index.

    Args:
        weight: [out, in, ...]; not changed.
        nnz: links to keep.
        generator: not used.

    Returns:
        Bool mask of the weight's shape with exactly nnz links.

    Example:
        >>> largest(torch.tensor([[1.0, -3.0, 2.0]]), 2, torch.Generator())
        tensor([[False,  True,  True]])

    Reference:
        The released code of RLx2 (Tan et al. 2023); the paper says random.
    """
    everything = torch.ones_like(weight, dtype=torch.bool)
    return highest(weight.detach().abs(), everything, nnz)


def sparsify(
    model: nn.Module,
    *,
    sparsity: float | SparsitySchedule,
    allocate: Allocation = erk,
    initial: Initial = redrawn,
    where: Where = matrix_weights,
    scope: Scope = "layer",
    generator: torch.Generator | None = None,
    split_gates: bool = False,
) -> Topology:
    """Make a model sparse in place and return its topology. No hook, nothing patched.

    Args:
        model: any module; cut weights become 0, and each sparse parameter's module gets a
            non-persistent bool buffer `<parameter>_mask`.
        sparsity: fraction of all chosen links to cut, in [0, 1); or a schedule, which starts at
            schedule.sparsity(0). The number 0 makes a topology without names, on which an
            evolution does nothing; a schedule always keeps its names, with full masks at 0.
        allocate: divides the budget among the layers: `erk`, `er`, `uniform` or your own.
        initial: first mask and weights of a layer that is not full: `redrawn`, `subset`,
            `largest` or your own. Full layers are not touched.
        where: which parameters, (name, module, parameter) -> bool.
        scope: what is ranked together at an evolution step: "layer", "group" (all layers) or a
            function from a layer's name to the key of its group.
        generator: CPU generator of the first topology; default a new one seeded with 0.
        split_gates: make each gate of a GRU (3) or LSTM (4) a layer of its own.

    Returns:
        The topology.

    Raises:
        ValueError: the sparsity is not in [0, 1), or no layer is chosen.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> topology = sparsify(model, sparsity=0.5)
        >>> topology.nnz, topology.sparsity
        ({'0.weight': 52, '2.weight': 44}, 0.5)
    """
    starting = check_sparsity(
        sparsity if isinstance(sparsity, (int, float)) else sparsity.sparsity(0)
    )
    if isinstance(sparsity, (int, float)) and starting == 0.0:
        return Topology(model, {}, where=where, allocate=allocate, target_sparsity=0.0)
    shapes = layer_shapes(model, where=where, split_gates=split_gates)
    if not shapes:
        raise ValueError(
            "`where` chooses no layer of this model; by default the weights of Linear, Conv, RNN, "
            "GRU and LSTM modules are made sparse"
        )
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    masks = {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}
    topology = Topology(
        model,
        masks,
        where=where,
        split_gates=split_gates,
        scope=scope,
        allocate=allocate,
        target_sparsity=starting,
    )
    for name, nnz in topology.budget(starting).items():
        if nnz < shapes[name].numel():
            mask = initial(topology.weight(name).detach(), nnz, generator)
            if mask.shape != shapes[name] or int(mask.sum()) != nnz:
                raise ValueError(
                    f"`initial` must return a mask of shape {tuple(shapes[name])} with {nnz} "
                    f"links for layer {name}, got {tuple(mask.shape)} with {int(mask.sum())}"
                )
            topology.mask(name).copy_(mask)
    state = topology.state_dict()
    topology.load_state_dict({**state, "initial_masks": state["masks"]})  # this is the first one
    return topology
