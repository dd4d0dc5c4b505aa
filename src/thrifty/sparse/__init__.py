"""Masks and their evolution, for any PyTorch model (imports torch, nothing of ours).

Two steps: make the model sparse, and let its links be exchanged around each optimizer step:

    topology = sparsify(model, sparsity=0.9)
    evolution = TopologyEvolution(topology, Cosine(0.9, update_every=100, update_until=10_000))
    evolution.attach(optimizer)

Instead of attaching, a loop may call `evolution.step(optimizer)` itself.
"""

from __future__ import annotations

from thrifty.sparse.allocate import Allocation, check_sparsity, er, erk, uniform
from thrifty.sparse.blocks import block_subset, in_blocks, places
from thrifty.sparse.evolution import TopologyEvolution
from thrifty.sparse.flops import (
    LayerCost,
    Ledger,
    Ratio,
    forward_flops,
    layer_costs,
    ratio,
    sac_training_flops,
    td3_training_flops,
)
from thrifty.sparse.growth import GrowthRule, highest, split, top
from thrifty.sparse.handle import Handle
from thrifty.sparse.layers import Where, layer_shapes, matrix_weights
from thrifty.sparse.phases import Phase, Phases
from thrifty.sparse.schedule import Cosine, SparsitySchedule, Static
from thrifty.sparse.scores import LayerState, Score, gradient, magnitude, mest, random
from thrifty.sparse.sparsify import Initial, largest, redrawn, sparsify, subset
from thrifty.sparse.topology import Scope, Topology
from thrifty.sparse.update import LayerChange, TopologyUpdate

__all__ = [
    "Allocation",
    "Cosine",
    "GrowthRule",
    "Handle",
    "Initial",
    "LayerChange",
    "LayerCost",
    "LayerState",
    "Ledger",
    "Phase",
    "Phases",
    "Ratio",
    "Scope",
    "Score",
    "SparsitySchedule",
    "Static",
    "Topology",
    "TopologyEvolution",
    "TopologyUpdate",
    "Where",
    "block_subset",
    "check_sparsity",
    "er",
    "erk",
    "forward_flops",
    "gradient",
    "highest",
    "in_blocks",
    "largest",
    "layer_costs",
    "layer_shapes",
    "magnitude",
    "matrix_weights",
    "mest",
    "places",
    "random",
    "ratio",
    "redrawn",
    "sac_training_flops",
    "sparsify",
    "split",
    "subset",
    "td3_training_flops",
    "top",
    "uniform",
]
