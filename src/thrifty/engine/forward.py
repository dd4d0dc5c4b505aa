"""A perceptron on a few observations, as acting needs it: by input, skipping zero activations.

A batch of one has no lanes to fill, so the links are walked by input (CSC): an activation that a
ReLU has cut costs nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thrifty.engine.cache import entry
from thrifty.engine.layout import Arena
from thrifty.engine.noise import tanh32

Floats = NDArray[np.float32]


@entry
def forward_rows(x, table, index, params, scratch, out):
    """Fill ``out`` with the outputs of a perceptron with ReLUs between its layers.

    Args:
        x: float32 [B, in].
        table: int64 [layers, 7]: out, in, where in ``index`` the column starts, rows and
            permutation begin, where in ``params`` the values and the biases.
        index: int32 indices of an arena.
        params: float32 parameters of an arena.
        scratch: float32 [2, widest layer].
        out: float32 [B, out].
    """
    layers = table.shape[0]
    for b in range(x.shape[0]):
        source = x[b]
        for layer in range(layers):
            width, inputs = table[layer, 0], table[layer, 1]
            starts, rows, perm = table[layer, 2], table[layer, 3], table[layer, 4]
            values, bias = table[layer, 5], table[layer, 6]
            last = layer == layers - 1
            target = out[b] if last else scratch[layer % 2]
            for r in range(width):
                target[r] = params[bias + r]
            for c in range(inputs):
                activation = source[c]
                if activation != np.float32(0.0):
                    for p in range(np.uint64(index[starts + c]), np.uint64(index[starts + c + 1])):
                        link = np.uint64(perm) + p
                        place = np.uint64(index[np.uint64(rows) + p])
                        target[place] += activation * params[np.uint64(values + index[link])]
            if not last:
                for r in range(width):
                    target[r] = max(target[r], np.float32(0.0))
            source = target


@entry
def act_rows(x, table, index, params, scratch, noise, scale, mean, action):
    """Fill ``mean`` with tanh(perceptron(x)), ``action`` with mean + scale noise cut at -1 and 1.

    What is NaN stays NaN, so whoever takes the action can see it.

    Args:
        x: float32 [B, in].
        table, index, params, scratch: as in :func:`forward_rows`.
        noise: float32 [B, out].
        scale: float32.
        mean: float32 [B, out], written.
        action: float32 [B, out], written.
    """
    forward_rows(x, table, index, params, scratch, mean)
    for b in range(mean.shape[0]):
        for a in range(mean.shape[1]):
            value = mean[b, a]
            if value == value:
                mean[b, a] = value = tanh32(value)
            value += scale * noise[b, a]
            if value > np.float32(1.0):
                value = np.float32(1.0)
            elif value < np.float32(-1.0):
                value = np.float32(-1.0)
            action[b, a] = value


class Perceptron:
    """A network of an arena, called on observations.

    Args:
        arena: where it lies.
        network: its name there.

    Attributes:
        inputs: how many it has.
        outputs: likewise.
    """

    def __init__(self, arena: Arena, network: str) -> None:
        layers = arena.layers[network]
        self._arena = arena
        self._table = np.array(
            [
                (
                    layer.index.out,
                    layer.index.inputs,
                    *layer.index_at[2:],
                    layer.values,
                    layer.bias,
                )
                for layer in layers
            ],
            np.int64,
        )
        self.inputs, self.outputs = layers[0].index.inputs, layers[-1].index.out
        widest = max(layer.index.out for layer in layers)
        self._scratch = np.zeros((2, widest), np.float32)

    def __call__(self, x: Floats) -> Floats:
        """Return the outputs [B, out] for inputs [B, in]; float32, contiguous."""
        self._check(x)
        out = np.empty((len(x), self.outputs), np.float32)
        arena = self._arena
        forward_rows(x, self._table, arena.index, arena.params, self._scratch, out)
        return out

    def act(self, x: Floats, noise: Floats, scale: np.float32) -> tuple[Floats, Floats]:
        """Return actions with noise, cut at -1 and 1, and those without; both [B, out].

        Args:
            x: observations [B, in]; float32, contiguous, like the noise.
            noise: [B, out].
            scale: of the noise.
        """
        self._check(x)
        assert noise.dtype == np.float32
        assert noise.shape == (len(x), self.outputs)
        mean, action = np.empty((2, len(x), self.outputs), np.float32)
        arena = self._arena
        act_rows(
            x, self._table, arena.index, arena.params, self._scratch, noise, scale, mean, action
        )
        return action, mean

    def _check(self, x: Floats) -> None:
        """Keep from compiled code what it would read beyond."""
        assert x.dtype == np.float32
        assert x.flags.c_contiguous
        assert x.ndim == 2
        assert x.shape[1] == self.inputs
