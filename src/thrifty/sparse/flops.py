"""What a sparse network costs: parameters and FLOPs beside those of its dense twin.

The accounting of RLx2 (Tan et al. 2023, section 5 and table 2; restated by MAST, section B.4):
weights only, biases and activations are free; a layer with I inputs, O outputs and sparsity S
takes (1 - S)(2 I - 1) O operations forward per sample; a backward pass costs twice the forward
pass. Exploring, target copies and evolution steps are neglected.

Where we differ: the paper's formula of the training cost is in an appendix that we could not
obtain. The formulas here count every pass that the algorithms make ("natural" accounting); the
ratios come out within 0.005 of the published ones for TD3, and lower for SAC, where the paper
seems to charge the multi-step target's extra actor passes to the sparse run only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

__all__ = [
    "LayerCost",
    "Ledger",
    "Ratio",
    "forward_flops",
    "layer_costs",
    "ratio",
    "sac_training_flops",
    "td3_training_flops",
]


class Ratio(TypedDict):
    """A dense figure, the sparse one, and sparse over dense."""

    dense: float
    sparse: float
    ratio: float


def ratio(dense: float, sparse: float) -> Ratio:
    """Put a dense and a sparse figure beside their ratio.

    Args:
        dense: the figure of the dense twin, more than 0.
        sparse: the figure of the sparse network, same unit.

    Returns:
        {"dense", "sparse", "ratio"}.

    Example:
        >>> ratio(200, 50)
        {'dense': 200, 'sparse': 50, 'ratio': 0.25}
    """
    return {"dense": dense, "sparse": sparse, "ratio": sparse / dense}


def forward_flops(shape: Sequence[int], sparsity: float = 0.0, positions: int = 1) -> float:
    """Count the operations of one layer's forward pass for one sample.

    (1 - S)(2 I - 1) O P: a kernel [O, C, K...] is a matrix with I = C * K * ... applied at P
    output positions; a recurrent weight [gates * H, I] is a matrix applied at P time steps.

    Args:
        shape: of the weight, [out, in, kernel...].
        sparsity: of the layer, in [0, 1].
        positions: output positions of a convolution, time steps of a recurrent layer.

    Returns:
        Floating-point operations (a multiplication and an addition count as two).

    Example:
        >>> forward_flops((256, 17)), forward_flops((256, 17), sparsity=0.5)
        (8448.0, 4224.0)

    Reference:
        Tan et al. 2023 (RLx2); Evci et al. 2020 (RigL), appendix.
    """
    inputs = math.prod(shape[1:])
    return (1.0 - sparsity) * (2 * inputs - 1) * shape[0] * positions


@dataclass(frozen=True)
class LayerCost:
    """One row of a ledger: one layer of one network, dense and sparse.

    Attributes:
        network: name of the network.
        layer: name of the layer.
        dense_parameters: weights of the dense twin.
        sparse_parameters: links of the sparse layer.
        dense_forward_flops: operations per sample of the dense twin.
        sparse_forward_flops: operations per sample of the sparse layer.
    """

    network: str
    layer: str
    dense_parameters: int
    sparse_parameters: int
    dense_forward_flops: float
    sparse_forward_flops: float


def layer_costs(
    network: str,
    shapes: Mapping[str, Sequence[int]],
    nnz: Mapping[str, int] | None = None,
    positions: Mapping[str, int] | None = None,
) -> tuple[LayerCost, ...]:
    """Make the ledger rows of one network.

    Args:
        network: name of the network.
        shapes: shape of each layer's weight, by name (`layer_shapes(model)`).
        nnz: links by layer name (`topology.nnz`); a layer that is not there is dense.
        positions: output positions or time steps by layer name; default 1 each.

    Returns:
        One row per layer.

    Example:
        >>> layer_costs("actor", {"0.weight": (4, 8)}, {"0.weight": 16})[0].sparse_forward_flops
        30.0
    """
    rows = []
    for layer, shape in shapes.items():
        size = math.prod(shape)
        links = (nnz or {}).get(layer, size)
        at = (positions or {}).get(layer, 1)
        dense_flops = forward_flops(shape, 0.0, at)
        sparse_flops = forward_flops(shape, 1.0 - links / size, at)
        rows.append(LayerCost(network, layer, size, links, dense_flops, sparse_flops))
    return tuple(rows)


class Ledger:
    """Parameters and FLOPs of the networks of one agent, dense and sparse.

    Args:
        rows: from `layer_costs`, of one or more networks.
        copies: how often each network exists, targets included (default once): TD3 has
            {"actor": 2, "critic": 2} where the critic holds both heads, SAC {"critic": 2}.

    Attributes:
        rows: as given, a tuple.

    Raises:
        ValueError: `copies` names a network that has no rows.

    Example:
        >>> rows = layer_costs("actor", {"w": (4, 8)}, {"w": 16})
        >>> Ledger(rows, copies={"actor": 2}).parameters()
        {'dense': 64, 'sparse': 32, 'ratio': 0.5}
    """

    def __init__(self, rows: Iterable[LayerCost], copies: Mapping[str, int] | None = None) -> None:
        self.rows = tuple(rows)
        self.copies = {row.network: 1 for row in self.rows}
        unknown = sorted(set(copies or {}) - set(self.copies))
        if unknown:
            raise ValueError(f"copies names networks without rows: {unknown}")
        self.copies.update(copies or {})

    def parameters(self) -> Ratio:
        """Return the total size: weights of all networks with their copies, targets included."""
        return ratio(
            sum(self.copies[row.network] * row.dense_parameters for row in self.rows),
            sum(self.copies[row.network] * row.sparse_parameters for row in self.rows),
        )

    def forward_flops(self, network: str) -> Ratio:
        """Return the operations of one forward pass of one copy of a network, per sample.

        Args:
            network: its name.

        Raises:
            ValueError: no such network.
        """
        if network not in self.copies:
            raise ValueError(f"no network {network!r}, there are {sorted(self.copies)}")
        rows = [row for row in self.rows if row.network == network]
        return ratio(
            sum(row.dense_forward_flops for row in rows),
            sum(row.sparse_forward_flops for row in rows),
        )


def td3_training_flops(
    actor_forward: float, head_forward: float, batch: int = 256, policy_delay: int = 2
) -> float:
    """Count the operations of one TD3 update.

    B (target A + 2 C, loss 2 C, backward 4 C, and every d-th time the actor: A + C forward, 2 A
    backward and 2 C back through one head).

    Args:
        actor_forward: A, operations of one actor forward pass per sample.
        head_forward: C, operations of one forward pass of one Q head per sample.
        batch: B, samples per update.
        policy_delay: d, critic updates per actor update.

    Returns:
        Operations per critic update, the actor's share averaged.

    Example:
        >>> td3_training_flops(1.0, 0.0, batch=1), td3_training_flops(0.0, 1.0, batch=1)
        (2.5, 9.5)
    """
    a, c = actor_forward, head_forward
    critic = (a + 2 * c) + 2 * c + 4 * c
    actor = (a + c) + 2 * a + 2 * c
    return batch * (critic + actor / policy_delay)


def sac_training_flops(
    actor_forward: float, head_forward: float, batch: int = 256, n_step: int = 1
) -> float:
    """Count the operations of one SAC update.

    B (target n A + 2 C, loss 2 C, backward 4 C, actor 3 A + 2 C forward and 4 C back).

    Args:
        actor_forward: A, operations of one actor forward pass per sample.
        head_forward: C, operations of one forward pass of one Q head per sample.
        batch: B, samples per update.
        n_step: n, steps of the return; each needs fresh actions of its next state.

    Returns:
        Operations per update.

    Example:
        >>> sac_training_flops(1.0, 0.0, batch=1, n_step=3), sac_training_flops(0.0, 1.0, batch=1)
        (6.0, 14.0)
    """
    a, c = actor_forward, head_forward
    return batch * ((n_step * a + 2 * c) + 2 * c + 4 * c + (3 * a + 2 * c + 4 * c))
