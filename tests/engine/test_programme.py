"""The derived reverse half of a programme against automatic differentiation in float64.

Random widths, masks (with empty rows, empty columns and full layers) and batches, also such that
the last tile is not full.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from thrifty.engine.executor import TILES
from thrifty.engine.layout import Arena, LayerIndex
from thrifty.engine.programme import Programme
from thrifty.engine.update import Transitions, Update
from thrifty.engine.windows import rows_drawn

ROWS = 300
SCALARS = (-0.4, 0.3, 1.5, 0.7, -1.0)  # low, high, factor, scale of the error, minus one
LOW, HIGH, FACTOR, ERROR, MINUS_ONE = range(5)


def masks(rng: np.random.Generator, widths: list[int], share: float) -> list[LayerIndex]:
    """Random links between neighbouring widths; the first layer has an empty row and column."""
    made = [rng.random((out, into)) < share for into, out in pairwise(widths)]
    if share < 1.0:
        made[0][0], made[0][:, -1] = False, False
    return [LayerIndex.of(mask) for mask in made]


def built(arena: Arena, network: str) -> list[tuple[Tensor, ...]]:
    """A network's numbers for torch, in float64: weight, bias and, behind it, gain and offset."""
    layers = []
    for number, layer in enumerate(arena.layers[network]):
        weight, bias = arena.read(arena.params, network, number)
        numbers = [weight, bias]
        if layer.norm >= 0:
            out = layer.index.out
            numbers += np.split(arena.params[layer.norm : layer.norm + 2 * out], 2)
        layers.append(tuple(torch.tensor(n, dtype=torch.float64).requires_grad_() for n in numbers))
    return layers


def applied(layers: list[tuple[Tensor, ...]], x: Tensor) -> Tensor:
    for number, (weight, bias, *norm) in enumerate(layers):
        x = torch.nn.functional.linear(x, weight, bias)
        if norm:
            x = torch.nn.functional.layer_norm(x, x.shape[1:], *norm, eps=1e-5)
        if number + 1 < len(layers):
            x = torch.relu(x)
    return x


def gradients_agree(arena: Arena, network: str, layers: list[tuple[Tensor, ...]]) -> None:
    close = {"rtol": 2e-3, "atol": 2e-5}
    for number, (layer, numbers) in enumerate(zip(arena.layers[network], layers, strict=True)):
        weight, bias, *norm = (n.grad.numpy() for n in numbers if n.grad is not None)
        ours, of_bias = arena.read(arena.grads, network, number)
        np.testing.assert_allclose(ours, weight * layer.index.mask(), **close)
        np.testing.assert_allclose(of_bias, bias, **close)
        size = layer.index.out * layer.index.inputs
        dense = arena.dense[layer.dense : layer.dense + size]
        np.testing.assert_allclose(dense, weight.ravel(), **close)
        if norm:
            place = slice(layer.norm, layer.norm + 2 * layer.index.out)
            np.testing.assert_allclose(arena.grads[place], np.concatenate(norm), **close)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.2, 0.6, 1.0]),
    st.integers(1, 150),
    st.booleans(),
    st.sampled_from(["none", "scale", "clamp"]),
)
def test_gradients_are_those_of_autograd(
    seed: int, share: float, batch: int, normed: bool, squash: str
) -> None:
    rng = np.random.default_rng(seed)
    observations, actions, hidden = (int(rng.integers(low, 12)) for low in (2, 1, 2))
    arena = Arena(
        {
            "pi": masks(rng, [observations, hidden, actions], share),
            "q": masks(rng, [observations + actions, hidden, hidden + 1, 1], share),
        },
        targets=(),
        normed=("q",) if normed else (),
    )
    arena.params[:] = rng.normal(size=arena.size)
    data = rng.normal(size=(ROWS, observations + actions + 5)).astype(np.float32)
    data[:, -1] = 1.0
    data[:, -3:-1] = 0.0
    width = observations + actions
    transitions = Transitions(data, 0, ROWS, 1, width, width + 2, width + 3, width + 4)

    critic = Programme(arena, "q")  # scale mean (q(s, a) - t)^2
    joined, target = critic.slot(width), critic.slot(1)
    critic.gather(joined, 0, 0)
    critic.gather(target, width + 1, 0)
    critic.squared_error(critic.mlp(joined, arena.layers["q"]), target, 0, ERROR)
    critic.minimise()

    actor = Programme(arena, "pi")  # - mean q(s, squash(pi(s)))
    joined = actor.slot(width)
    s, a = joined.part(0, observations), joined.part(observations, actions)
    actor.gather(s, 0, 0)
    output = actor.mlp(s, arena.layers["pi"])
    if squash == "scale":
        output = actor.scale(output, FACTOR)
    if squash == "clamp":
        output = actor.clamp(output, LOW, HIGH)
    actor.tanh(output, into=a)
    actor.mean(actor.mlp(joined, arena.layers["q"]), 1, MINUS_ONE, 0)
    actor.minimise()

    script = ((TILES, 0, 0, 0, 1, 0), (TILES, 1, 0, 1, 1, 0))
    update = Update(arena, (critic, actor), script, scalars=SCALARS, batch=batch, discount=0.9)
    update.run(1, transitions)
    grads = arena.grads.copy()
    update.updates = 0
    update.run(1, transitions, dense=True)
    np.testing.assert_array_equal(update.loss_counts, [2, 2])
    arena.grads[:] = grads  # the biases' came twice

    rows = rows_drawn(int(update.keys[0]), 1, batch, 0, ROWS, data[:, -1])
    chosen = torch.from_numpy(data[rows].astype(np.float64))
    q, pi = built(arena, "q"), built(arena, "pi")
    error = applied(q, chosen[:, :width]) - chosen[:, width + 1 : width + 2]
    loss = SCALARS[ERROR] * error.square().mean()
    loss.backward()
    assert update.losses[0] / 2 == pytest.approx(loss.item(), rel=1e-3, abs=1e-5)
    gradients_agree(arena, "q", q)

    output = applied(pi, chosen[:, :observations])
    shaped: dict[str, Any] = {
        "scale": lambda x: SCALARS[FACTOR] * x,
        "clamp": lambda x: x.clamp(SCALARS[LOW], SCALARS[HIGH]),
    }
    action = torch.tanh(shaped.get(squash, lambda x: x)(output))
    loss = -applied(q, torch.cat((chosen[:, :observations], action), dim=1)).mean()
    loss.backward()
    assert update.losses[1] / 2 == pytest.approx(loss.item(), rel=1e-3, abs=1e-5)
    gradients_agree(arena, "pi", pi)
