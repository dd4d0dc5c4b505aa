"""What training costs, in FLOPs: the linear layers by their links, attention by its pairs.

Of one token, forward:

    linear       2 per link, the tied head included
    attention    4 L T C a c

with a the share of causal pairs that the pattern keeps, and c = 1 in the square convention (dense
attention counts all T^2 pairs, as in nanoGPT and PaLM) or 1/2 in the causal one. Backward costs
twice as much: gradients of activations and of weights are both sparse. An exchange by gradient
needs the dense gradient of the weights, 2 per link that does not exist more. Embeddings, norms,
biases, softmax and the optimizer are left out.

The formula of the MST paper is not known; this one makes its "quarter of the FLOPs" well defined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from thrifty.lm.gpt import GPTConfig

__all__ = ["Convention", "Costs", "Stretch", "matrix_shapes", "solve", "training_flops"]

Convention = Literal["square", "causal"]


def matrix_shapes(config: GPTConfig, vocabulary: int) -> dict[str, tuple[int, int]]:
    """Return the shape [out, in] of every matrix that a token passes, by the model's names.

    Args:
        config: the shape of the model.
        vocabulary: V; the head has that many rows, rounded up to the padding.

    Example:
        >>> shapes = matrix_shapes(GPTConfig(), 50304)
        >>> sum(out * inputs for out, inputs in shapes.values())
        123568128
    """
    C = config.width
    rows = -(-vocabulary // config.padding) * config.padding
    shapes = {"wte.weight": (rows, C)}
    for layer in range(config.layers):
        at = f"blocks.{layer}."
        shapes |= {
            f"{at}qkv.weight": (3 * C, C),
            f"{at}out.weight": (C, C),
            f"{at}up.weight": (4 * C, C),
            f"{at}down.weight": (C, 4 * C),
        }
    return shapes


@dataclass(frozen=True, kw_only=True)
class Costs:
    """The costs of one model in one convention.

    Attributes:
        links: of the dense model, in all matrices.
        attention: FLOPs of dense attention, of one token, forward.
    """

    links: int
    attention: float

    @classmethod
    def of(cls, config: GPTConfig, vocabulary: int, convention: Convention) -> Costs:
        """Return the costs of a shape.

        Args:
            config: the shape.
            vocabulary: V.
            convention: how dense attention is counted.

        Example:
            >>> costs = Costs.of(GPTConfig(), 50304, "square")
            >>> round(costs.forward(costs.links) / 1e6, 1)
            284.9
        """
        if convention not in ("square", "causal"):
            raise ValueError(f"attention is counted square or causal, not {convention!r}")
        links = sum(math.prod(shape) for shape in matrix_shapes(config, vocabulary).values())
        pairs = 4.0 * config.layers * config.context * config.width
        return cls(links=links, attention=pairs if convention == "square" else pairs / 2)

    def forward(self, nnz: float, kept: float = 1.0) -> float:
        """Return the FLOPs of one token forward.

        Args:
            nnz: links that exist.
            kept: share of causal pairs that attention keeps.
        """
        return 2.0 * nnz + self.attention * kept

    def step(self, nnz: float, kept: float = 1.0, *, dense_gradient: bool = False) -> float:
        """Return the FLOPs of one token forward and backward.

        Args:
            nnz: links that exist.
            kept: share of causal pairs that attention keeps.
            dense_gradient: whether the weights' gradient is taken for all links.
        """
        extra = 2.0 * (self.links - nnz) if dense_gradient else 0.0
        return 3.0 * self.forward(nnz, kept) + extra


class Stretch(NamedTuple):
    """Steps over which nothing changes.

    Attributes:
        steps: how many.
        density: links that exist, of all.
        kept: share of causal pairs that attention keeps.
        evolves: of these steps, how many take the dense gradient.
    """

    steps: int
    density: float
    kept: float
    evolves: int


def training_flops(costs: Costs, plan: Sequence[Stretch]) -> float:
    """Return the FLOPs of a run, of one token in every step, over those of the same steps dense.

    Args:
        costs: of the model.
        plan: the whole run.

    Example:
        >>> costs = Costs(links=100, attention=0.0)
        >>> training_flops(costs, [Stretch(10, 0.25, 1.0, 0)])
        0.25
    """
    spent = sum(
        stretch.steps * costs.step(stretch.density * costs.links, stretch.kept)
        + stretch.evolves * 2.0 * (1.0 - stretch.density) * costs.links
        for stretch in plan
    )
    return spent / (sum(stretch.steps for stretch in plan) * costs.step(costs.links))


def solve(ratio: Callable[[float], float], target: float, breaks: Sequence[float] = ()) -> float:
    """Find the density of the ultra phase that makes a run cost what is wanted.

    Args:
        ratio: FLOPs over dense of a run by its ultra density; affine between breaks, so that two
            values tell.
        target: FLOPs ratio wanted.
        breaks: densities where it may jump: those at which a phase turns from growing to cutting.

    Returns:
        The density, in (0, 1); where several do it the least.

    Raises:
        ValueError: no density does it; says between which ratios one can choose.

    Example:
        >>> solve(lambda density: 0.1 + 0.6 * density, 0.25)
        0.25
    """
    ends: list[float] = []
    for low, high in pairwise(sorted({0.0, 1.0, *breaks})):
        width = high - low
        quarter, half = ratio(low + width / 4), ratio(low + width / 2)
        slope = (half - quarter) / (width / 4)
        density = low + width / 4 + (target - quarter) / slope if slope > 0 else math.nan
        if low < density < high:
            return round(density, 12)
        ends += [quarter - slope * width / 4, quarter + slope * width * 3 / 4]
    raise ValueError(
        f"no density of the ultra phase gives {target} of the dense FLOPs: with these phases "
        f"{min(ends):.3f} to {max(ends):.3f} can be reached"
    )
