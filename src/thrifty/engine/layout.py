"""Where everything lies: one index array for all topologies, one flat vector for all parameters.

A layer's links are stored twice as indices and once as values: by output (CSR: for the forward pass
and the weight gradient) and by input (CSC with a permutation into the CSR order: for the input
gradient). A network's parameters are contiguous: for each layer its link values in CSR order, then
its biases; so Adam, Polyak averaging and checkpoints are single loops. A target network has values
of its own and shares the indices of its online twin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class LayerIndex:
    """The links of one layer [out, in], by output and by input."""

    out: int
    inputs: int
    starts: Ints  # [out + 1]
    cols: Ints  # [nnz]
    col_starts: Ints  # [in + 1]
    rows: Ints  # [nnz]
    perm: Ints  # [nnz], CSC position -> CSR position

    @property
    def nnz(self) -> int:
        """Return the number of links."""
        return len(self.cols)

    @classmethod
    def of(cls, mask: Bools) -> LayerIndex:
        """Index a mask, bool [out, in].

        Raises:
            ValueError: not a two-dimensional bool array.
        """
        if mask.ndim != 2 or mask.dtype != np.bool_:
            raise ValueError(f"a mask is a bool matrix, got {mask.dtype} of shape {mask.shape}")
        rows, cols = np.nonzero(mask)
        starts = np.zeros(mask.shape[0] + 1, np.int32)
        np.cumsum(mask.sum(axis=1), out=starts[1:])
        col_starts = np.zeros(mask.shape[1] + 1, np.int32)
        np.cumsum(mask.sum(axis=0), out=col_starts[1:])
        perm = np.argsort(cols, kind="stable").astype(np.int32)
        return cls(
            out=mask.shape[0],
            inputs=mask.shape[1],
            starts=starts,
            cols=cols.astype(np.int32),
            col_starts=col_starts,
            rows=rows[perm].astype(np.int32),
            perm=perm,
        )

    def mask(self) -> Bools:
        """Return the bool matrix [out, in]."""
        mask = np.zeros((self.out, self.inputs), np.bool_)
        mask[np.repeat(np.arange(self.out), np.diff(self.starts)), self.cols] = True
        return mask

    def validate(self) -> None:
        """Refuse indices that compiled code must not see.

        Raises:
            ValueError: out of range, unsorted, or a permutation that does not fit.
        """
        n = self.nnz
        for name, array, length in (
            ("starts", self.starts, self.out + 1),
            ("col_starts", self.col_starts, self.inputs + 1),
            ("rows", self.rows, n),
            ("perm", self.perm, n),
        ):
            if array.dtype != np.int32 or array.shape != (length,):
                raise ValueError(f"index array {name} must be int32 of length {length}")
        for name, starts in (("starts", self.starts), ("col_starts", self.col_starts)):
            if starts[0] != 0 or starts[-1] != n or (np.diff(starts) < 0).any():
                raise ValueError(f"index array {name} must rise from 0 to the number of links {n}")
        if n and (self.cols.min() < 0 or self.cols.max() >= self.inputs):
            raise ValueError("a column index is out of range")
        fresh = LayerIndex.of(self.mask())
        for name in ("starts", "cols", "col_starts", "rows", "perm"):
            if not np.array_equal(getattr(fresh, name), getattr(self, name)):
                raise ValueError(f"index array {name} is not sorted or does not fit the others")


class Layer:
    """A layer of one network in the arena: where its indices, values and biases begin."""

    def __init__(self, index: LayerIndex, index_at: Sequence[int], values: int, bias: int) -> None:
        self.index, self.index_at, self.values, self.bias = index, tuple(index_at), values, bias


class Arena:
    """All parameters of an agent in one vector, online networks first, then their targets.

    Args:
        networks: layer indices of the online networks, by name.
        targets: names of the networks that have a target copy.
    """

    def __init__(
        self, networks: Mapping[str, Sequence[LayerIndex]], targets: Sequence[str]
    ) -> None:
        self.indices = {name: tuple(layers) for name, layers in networks.items()}
        self.targets = tuple(targets)
        pieces: list[Ints] = []
        places: dict[str, list[tuple[int, ...]]] = {}
        at = 0
        for name, layers in self.indices.items():
            places[name] = []
            for layer in layers:
                layer.validate()
                place: list[int] = []
                for piece in (layer.starts, layer.cols, layer.col_starts, layer.rows, layer.perm):
                    place.append(at)
                    pieces.append(piece)
                    at += len(piece)
                places[name].append(tuple(place))
        self.index: Ints = np.ascontiguousarray(np.concatenate(pieces))
        self.layers: dict[str, list[Layer]] = {}
        self.span: dict[str, tuple[int, int]] = {}
        size = 0
        for name in (*self.indices, *(f"{name}_target" for name in targets)):
            online = name.removesuffix("_target") if name not in self.indices else name
            begin = size
            self.layers[name] = []
            for layer, index_at in zip(self.indices[online], places[online], strict=True):
                self.layers[name].append(Layer(layer, index_at, size, size + layer.nnz))
                size += layer.nnz + layer.out
            self.span[name] = (begin, size)
        self.size = size
        self.trained = self.span[list(self.indices)[-1]][1]
        self.params: Floats = np.zeros(size, np.float32)
        self.grads: Floats = np.zeros(self.trained, np.float32)
        self.first_moment: Floats = np.zeros(self.trained, np.float32)
        self.second_moment: Floats = np.zeros(self.trained, np.float32)

    def join(self, name: str, networks: Sequence[str]) -> None:
        """Give several neighbouring networks one name, as one optimizer's parameters.

        Args:
            name: new.
            networks: in the order in which they lie.
        """
        spans = [self.span[network] for network in networks]
        assert all(left[1] == right[0] for left, right in pairwise(spans))
        self.span[name] = (spans[0][0], spans[-1][1])

    def write(
        self, vector: Floats, network: str, layer: int, weight: Floats, bias: Floats | None
    ) -> None:
        """Put a dense weight [out, in] (its links only) and a bias [out] into a flat vector."""
        place = self.layers[network][layer]
        vector[place.values : place.bias] = weight[place.index.mask()]
        if bias is not None:
            vector[place.bias : place.bias + place.index.out] = bias

    def read(self, vector: Floats, network: str, layer: int) -> tuple[Floats, Floats]:
        """Return the dense weight [out, in] and the bias [out] of a layer in a flat vector."""
        place = self.layers[network][layer]
        weight = np.zeros((place.index.out, place.index.inputs), np.float32)
        weight[place.index.mask()] = vector[place.values : place.bias]
        return weight, vector[place.bias : place.bias + place.index.out].copy()
