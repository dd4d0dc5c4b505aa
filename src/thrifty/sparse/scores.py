"""How much a link matters: magnitude, gradient, random and MEST scores.

A score maps the state of one layer (or of one group of layers ranked together) to one number per
link; the higher, the more it is worth keeping or growing. Magnitude is SET's and RigL's drop
criterion, the gradient RigL's growth criterion, random SET's growth criterion, and |w| + lambda
|g| is MEST's drop criterion (Yuan et al. 2021).

To add a criterion, write a function from `LayerState` to a tensor of the weight's shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["LayerState", "Score", "gradient", "magnitude", "mest", "random"]


class LayerState(NamedTuple):
    """What a score or a growth rule may look at: one layer, or one group ranked together.

    Attributes:
        name: the layer's name; for a group of several layers their names joined by " + ".
        weight: the weights, of the layer's shape; for a group of several layers one flat vector,
            the layers one after the other.
        grad: dense gradient of the loss just differentiated, same shape, unscaled; None if the
            loss did not reach the layer.
        mask: bool, the links active before this evolution step, same shape.
        block: links per side of the square tiles in which links are cut; 1 means single links.
        generator: the CPU generator of this evolution step, equal on all ranks.
    """

    name: str
    weight: Tensor
    grad: Tensor | None
    mask: Tensor
    block: int = 1
    generator: torch.Generator | None = None


Score = Callable[[LayerState], Tensor]
"""LayerState -> one number per link, of the weight's shape; higher is better."""


def magnitude(state: LayerState) -> Tensor:
    """Score a link by the size of its weight, |w|.

    Args:
        state: the layer.

    Returns:
        |w|, of the weight's shape.

    Example:
        >>> state = LayerState("a", torch.tensor([-2.0, 1.0]), None, torch.tensor([True, True]))
        >>> magnitude(state)
        tensor([2., 1.])
    """
    return state.weight.abs()


def gradient(state: LayerState) -> Tensor:
    """Score a link by the size of its dense gradient, |dL/dw|, also where it is cut.

    Args:
        state: the layer.

    Returns:
        |g|, of the weight's shape.

    Raises:
        ValueError: the layer has no gradient in this step.

    Example:
        >>> state = LayerState("a", torch.zeros(2), torch.tensor([-3.0, 1.0]), torch.ones(2) > 0)
        >>> gradient(state)
        tensor([3., 1.])

    Reference:
        Evci et al. 2020, "Rigging the lottery", section 3, "grow criterion".
    """
    return _grad_of(state).abs()


def random(state: LayerState) -> Tensor:
    """Score a link by a uniform random number, drawn on the CPU so that all ranks agree.

    Args:
        state: the layer; its generator is advanced.

    Returns:
        Numbers in [0, 1), of the weight's shape and on its device.

    Raises:
        ValueError: the state has no generator.

    Reference:
        Mocanu et al. 2018 (SET): links are regrown at random.
    """
    if state.generator is None:
        raise ValueError("a random score needs a generator: put one in LayerState.generator")
    numbers = torch.rand(state.weight.shape, generator=state.generator, device="cpu")
    return numbers.to(state.weight.device)


def mest(lam: float) -> Score:
    """Score a link by |w| + lam |g|: small weights survive while their gradient is large.

    Args:
        lam: weight of the gradient, at least 0, in units of weight per gradient.

    Returns:
        A score.

    Raises:
        ValueError: `lam` is negative; or, when scoring, the layer has no gradient in this step.

    Example:
        >>> weight, grad = torch.tensor([1.0, 2.0]), torch.tensor([-3.0, 0.5])
        >>> mest(2.0)(LayerState("a", weight, grad, torch.ones(2) > 0))
        tensor([7., 3.])

    Reference:
        Yuan et al. 2021, "MEST: accurate and fast memory-economic sparse training framework on
        the edge", NeurIPS.
    """
    if not lam >= 0.0:
        raise ValueError(f"mest needs lam of at least 0, got {lam}")

    def score(state: LayerState) -> Tensor:
        return state.weight.abs() + lam * _grad_of(state).abs()

    return score


def _grad_of(state: LayerState) -> Tensor:
    if state.grad is None:
        raise ValueError(
            f"layer {state.name} has no gradient at an evolution step: call backward() before the "
            "optimizer step, leave the layer out with `where`, or grow with top(random)"
        )
    return state.grad
