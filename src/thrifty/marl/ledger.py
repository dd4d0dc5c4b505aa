"""What a sparse team costs, counted in two ways beside its dense twin.

Published (MAST, section B.4), per time step and sample:

| quantity | formula |
|---|---|
| linear layer, forward | (1 - S)(2 I - 1) O |
| GRU, forward | (1 - S) 3 h [2 (h + I) - 1] |
| backward | twice the forward |
| QMIX, training | 4 (F_agent + F_mix): target, loss, and twice back |
| Weighted QMIX, training | 3 (F_agent + F_mix) + 4 (F_central agent + F_central mix) |
| RES, training | 4 F_agent + (3 + 2 n m) F_mix, n agents, m actions |
| size | links and biases of networks and target copies; Weighted QMIX's monotonic ones have none |

F_agent counts all n agents, F_mix the hypernetworks and the mixing itself, whose multiplications
stay dense; biases are dense and counted in the size. These readings are ours, where the paper
leaves them open.

Natural, what this program does: weights alone, without biases; every target that exists (also
the monotonic one of Weighted QMIX, which our learner keeps and never reads); the same passes.
Exploring, target copies and evolution steps are neglected by both.

Reference: MAST (Hu et al., NeurIPS 2024), appendix B.4.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from torch import nn

from thrifty import sparse
from thrifty.marl.joint_value import Part
from thrifty.marl.learner import Learner, Value
from thrifty.marl.mixers import MonotonicMixer
from thrifty.marl.res import RES
from thrifty.marl.wqmix import WQMIX
from thrifty.sparse import Ratio, ratio


def ledger(learner: Learner) -> dict[str, Any]:
    """Return size and FLOPs of a learner beside those of its dense twin.

    Args:
        learner: any of this room's.

    Returns:
        ``parameters``, ``training_flops`` (of one time step of one episode of a minibatch) and
        ``inference_flops`` (of one agent's action) in natural counting, ``published`` with the
        same three by the paper's formulas, and ``rows``, one a layer.
    """
    twin = learner.dense_twin()
    return {
        "parameters": _compare(twin, learner, _weights),
        "training_flops": _compare(twin, learner, training_flops),
        "inference_flops": _compare(twin, learner, _inference),
        "published": {
            "parameters": _compare(twin, learner, published_size),
            "training_flops": _compare(twin, learner, published_training_flops),
            "inference_flops": _compare(twin, learner, _published_inference),
        },
        "rows": _rows(twin, learner),
    }


def _compare(twin: Learner, learner: Learner, count: Any) -> Ratio:
    return ratio(count(twin), count(learner))


def _rows(twin: Learner, learner: Learner) -> list[dict[str, Any]]:
    """One row a layer; ``parameters`` and ``shape`` are this learner's, without its mask."""
    rows = []
    for name, (value, _) in learner.pairs().items():
        other = twin.pairs()[name][0]
        shapes = {
            f"{name}.{part}": sparse.layer_shapes(one.module) for part, one in value.parts.items()
        }
        for own, dense in zip(value.costs(name), other.costs(name), strict=True):
            shape = shapes[own.network][own.layer]
            rows.append(
                {
                    **asdict(own),
                    "dense_parameters": dense.dense_parameters,
                    "dense_forward_flops": dense.dense_forward_flops,
                    "parameters": math.prod(shape),
                    "shape": tuple(shape),
                }
            )
    return rows


def _weights(learner: Learner) -> float:
    """Links of all networks and their targets."""
    return 2.0 * sum(
        row.sparse_parameters
        for name, (value, _) in learner.pairs().items()
        for row in value.costs(name)
    )


def published_size(learner: Learner) -> float:
    """Count links and biases of all networks, with the target copies that the method needs."""
    size = 0.0
    for name, (value, _) in learner.pairs().items():
        biases = sum(p.numel() for n, p in value.module.named_parameters() if ".bias" in n)
        links = sum(row.sparse_parameters for row in value.costs(name))
        copies = 1 if name == "value" and isinstance(learner, WQMIX) else 2
        size += copies * (links + biases)
    return size


def _agent_forward(value: Value, agents: int, *, published: bool) -> float:
    """Operations of the team's individual values, all agents."""
    part = value.parts["agents"]
    rows = sparse.layer_costs("", sparse.layer_shapes(part.module), part.topology.nnz)
    flops = sum(row.sparse_forward_flops for row in rows)
    if published:  # one sum over h + I inputs in place of two
        flops += sum(
            row.sparse_parameters / row.dense_parameters * _gates(part.module)
            for row in rows
            if "weight_hh" in row.layer
        )
    nets = sum("weight_hh" in row.layer for row in rows)
    return flops * agents / nets


def _gates(module: nn.Module) -> int:
    return 3 * next(m.hidden_size for m in module.modules() if isinstance(m, nn.GRU))


def _mixer_forward(part: Part, agents: int) -> float:
    """Operations of the mixer: its layers, and where hypernetworks make them, the mixing."""
    rows = sparse.layer_costs("", sparse.layer_shapes(part.module), part.topology.nnz)
    flops = sum(row.sparse_forward_flops for row in rows)
    mixer = part.module
    if isinstance(mixer, MonotonicMixer):
        flops += (2 * agents - 1) * mixer.embed + (2 * mixer.embed - 1)
    elif not rows:
        flops += agents - 1  # the sum
    return flops


def training_flops(learner: Learner, *, published: bool = False) -> float:
    """Count the operations of an update, for one time step of one episode.

    Args:
        learner: any of this room's.
        published: with the paper's formula of the GRU.
    """
    n, m = learner.spec.agents, learner.spec.actions
    agent = _agent_forward(learner.value, n, published=published)
    mixer = _mixer_forward(learner.value.parts["mixer"], n)
    if isinstance(learner, WQMIX):
        central = _agent_forward(learner.central, n, published=published)
        central_mixer = _mixer_forward(learner.central.parts["mixer"], n)
        return 3 * (agent + mixer) + 4 * (central + central_mixer)
    if isinstance(learner, RES):
        return 4 * agent + (3 + 2 * n * m) * mixer
    return 4 * (agent + mixer)


def published_training_flops(learner: Learner) -> float:
    """Count the operations of an update by the paper's formulas."""
    return training_flops(learner, published=True)


def _inference(learner: Learner) -> float:
    return _agent_forward(learner.value, 1, published=False)


def _published_inference(learner: Learner) -> float:
    return _agent_forward(learner.value, 1, published=True)
