"""The arithmetic limit: the products that an update cannot do without, at the best GEMM's speed.

A link takes one multiplication and one addition per sample in a forward pass, the same in the
weight gradient, and the same in the input gradient. With A, Q_i the links of actor and critics,
' without the first layer, and Q_1^a the links from actions into the first layer of Q_1:

    TD3:  A + 2 Q  targets;  sum_i (2 Q_i + Q_i')  critics;
          (2 A + A' + 2 Q_1' + 2 Q_1^a + rest of Q_1 forward) / delay  actor
    SAC:  n A + 2 Q  targets;  sum_i (2 Q_i + Q_i')  critics;
          2 A + A' + sum_i (Q_i + Q_i' + Q_i^a)  actor

times 2 B operations. This is less than the accounting of :mod:`thrifty.sparse.flops`, which
charges a backward pass as two forward passes: the first layers need no input gradient, and the
actor's step no weight gradient of the critics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from thrifty.bench.timing import LOW, Seconds
from thrifty.control import SAC, TD3
from thrifty.control.fused import layer_indices

GEMM_SIZES = (256, 512, 1024)


class Links(NamedTuple):
    """The links of one perceptron."""

    all: int
    first: int  # of the first layer
    actions: int  # of the first layer, from actions (critics)


def links(learner: TD3 | SAC, network: str, net: str, observations: int) -> Links:
    """Count the links of one perceptron of a learner.

    Args:
        learner: its owner.
        network: actor or critic.
        net: net, q1 or q2.
        observations: O; inputs from there on are actions.
    """
    layers = layer_indices(learner.networks()[network], net)
    first = layers[0]
    actions = int((first.cols >= observations).sum())
    return Links(sum(layer.nnz for layer in layers), first.nnz, actions)


def update_flops(learner: TD3 | SAC, observations: int) -> float:
    """Return the operations of one update on the links that exist, the actor's share averaged.

    Args:
        learner: TD3 or SAC, dense or sparse.
        observations: O.
    """
    actor = links(learner, "actor", "net", observations)
    heads = [links(learner, "critic", net, observations) for net in ("q1", "q2")]
    inner = actor.all - actor.first
    critics = sum(q.all for q in heads)
    training = sum(2 * q.all + (q.all - q.first) for q in heads)
    through = [q.all + (q.all - q.first) + q.actions for q in heads]
    if isinstance(learner, TD3):
        step = (2 * actor.all + inner + through[0]) / learner.config.policy_delay
        passes = actor.all + critics + training + step
    else:
        passes = learner.config.n_step * actor.all + critics + training
        passes += 2 * actor.all + inner + sum(through)
    return 2.0 * learner.config.batch_size * passes


def gemms() -> dict[int, Callable[[], object]]:
    """Return dense float32 products n x n x n into a buffer, by n."""
    actions: dict[int, Callable[[], object]] = {}
    for n in GEMM_SIZES:
        a, b, out = torch.ones(n, n), torch.ones(n, n), torch.empty(n, n)
        repeat = max(1, (GEMM_SIZES[-1] // n) ** 3 // 8)

        def product(
            a: torch.Tensor = a, b: torch.Tensor = b, out: torch.Tensor = out, times: int = repeat
        ) -> None:
            for _ in range(times):
                torch.mm(a, b, out=out)

        actions[n] = product
    return actions


def gemm_flops(n: int) -> float:
    """Return the operations of one call of a product of :func:`gemms`."""
    return 2.0 * n**3 * max(1, (GEMM_SIZES[-1] // n) ** 3 // 8)


def seconds_at_best(flops: float, samples: dict[int, Seconds]) -> Seconds:
    """Return the time of so many operations at the speed of the fastest product, per sample.

    Args:
        flops: operations.
        samples: seconds of the products of :func:`gemms`, by n.
    """
    scaled = [seconds / gemm_flops(n) for n, seconds in samples.items()]
    best = min(scaled, key=lambda seconds: float(torch.tensor(seconds).quantile(LOW)))
    return best * flops
