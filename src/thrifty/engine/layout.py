"""Where everything lies: one index array for all topologies, one flat vector for all parameters.

A layer's links are stored twice as indices and once as values: by output (CSR: for the forward pass
and the weight gradient) and by input (CSC with a permutation into the CSR order: for the input
gradient). A network's parameters are contiguous: for each layer its link values in CSR order, then
its biases; so Adam, Polyak averaging and checkpoints are single loops. A target network has values
of its own and shares the indices of its online twin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from thrifty.engine.indexing import index_links

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
        out, inputs = mask.shape
        flat = np.flatnonzero(mask)
        return cls(
            out=out,
            inputs=inputs,
            starts=np.empty(out + 1, np.int32),
            cols=np.empty(len(flat), np.int32),
            col_starts=np.empty(inputs + 1, np.int32),
            rows=np.empty(len(flat), np.int32),
            perm=np.empty(len(flat), np.int32),
        ).holding(flat)

    def holding(self, flat: NDArray[np.int64]) -> LayerIndex:
        """Index other links, as many as before, in the same arrays.

        Args:
            flat: rising places in the flattened weight, int64 [nnz].

        Returns:
            The new index; this one is void.
        """
        assert len(flat) == self.nnz
        index_links(flat, *self.pieces)
        index = LayerIndex(self.out, self.inputs, *self.pieces)
        index.__dict__["flat"] = flat  # what the property would compute
        return index

    @property
    def pieces(self) -> tuple[Ints, ...]:
        """Return the index arrays in the order in which an arena holds them."""
        return (self.starts, self.cols, self.col_starts, self.rows, self.perm)

    @cached_property
    def flat(self) -> NDArray[np.int64]:
        """Return each link's place in the flattened weight, in CSR order, int64 [nnz]."""
        rows = np.repeat(np.arange(self.out), np.diff(self.starts))
        return rows * self.inputs + self.cols

    def mask(self) -> Bools:
        """Return the bool matrix [out, in]."""
        mask = np.zeros((self.out, self.inputs), np.bool_)
        mask.ravel()[self.flat] = True
        return mask

    def scatter(self, values: Floats, into: Floats) -> None:
        """Put the links' values [nnz] into a dense weight [out, in]; other places stay."""
        into.reshape(-1)[self.flat] = values

    def take(self, weight: Floats) -> Floats:
        """Return the links' values [nnz] of a dense weight [out, in]."""
        values: Floats = weight.reshape(-1)[self.flat]
        return values

    def validate(self) -> None:
        """Refuse indices that compiled code must not see.

        Raises:
            ValueError: out of range, unsorted, or a permutation that does not fit.
        """
        n = self.nnz
        for name, array, length in (
            ("starts", self.starts, self.out + 1),
            ("col_starts", self.col_starts, self.inputs + 1),
            ("cols", self.cols, n),
            ("rows", self.rows, n),
            ("perm", self.perm, n),
        ):
            if array.dtype != np.int32 or array.shape != (length,):
                raise ValueError(f"index array {name} must be int32 of length {length}")
        for name, starts in (("starts", self.starts), ("col_starts", self.col_starts)):
            within = bool(((starts >= 0) & (starts <= n)).all())  # so that differences cannot wrap
            if starts[0] != 0 or starts[-1] != n or not within or (np.diff(starts) < 0).any():
                raise ValueError(f"index array {name} must rise from 0 to the number of links {n}")
        if n and (self.cols.min() < 0 or self.cols.max() >= self.inputs):
            raise ValueError("a column index is out of range")
        fresh = LayerIndex.of(self.mask())
        for name in ("starts", "cols", "col_starts", "rows", "perm"):
            if not np.array_equal(getattr(fresh, name), getattr(self, name)):
                raise ValueError(f"index array {name} is not sorted or does not fit the others")


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of one network in the arena: its links, and where what belongs to it begins."""

    index: LayerIndex
    index_at: tuple[int, ...]  # starts, cols, col_starts, rows, perm in the index array
    values: int  # in a parameter vector
    bias: int
    dense: int  # in the vector of dense gradients
    norm: int = -1  # gains of the LayerNorm behind it, then its offsets, in a parameter vector


class Arena:
    """All parameters of an agent in one vector, online networks first, then their targets.

    Args:
        networks: layer indices of the online networks, by name.
        targets: names of the networks that have a target copy.
        normed: names of the networks with a LayerNorm behind each hidden layer.
    """

    def __init__(
        self,
        networks: Mapping[str, Sequence[LayerIndex]],
        targets: Sequence[str],
        normed: Sequence[str] = (),
    ) -> None:
        indices = {name: tuple(layers) for name, layers in networks.items()}
        self.targets = tuple(targets)
        pieces: list[Ints] = []
        places: dict[str, list[tuple[int, ...]]] = {}
        at = 0
        for name, layers in indices.items():
            places[name] = []
            for layer in layers:
                layer.validate()
                place: list[int] = []
                for piece in layer.pieces:
                    place.append(at)
                    pieces.append(piece)
                    at += len(piece)
                places[name].append(tuple(place))
        self.every = at  # where 0, 1, 2, ... stands: all columns of a dense row
        widest = max(layer.inputs for layers in indices.values() for layer in layers)
        pieces.append(np.arange(widest, dtype=np.int32))
        self.index: Ints = np.ascontiguousarray(np.concatenate(pieces))
        for name, layers in indices.items():
            indices[name] = tuple(map(self._in_place, layers, places[name]))
        self.layers: dict[str, list[Layer]] = {}
        self.span: dict[str, tuple[int, int]] = {}
        size = dense = 0
        for name in (*indices, *(f"{name}_target" for name in targets)):
            online = name.removesuffix("_target") if name not in indices else name
            begin = size
            self.layers[name] = []
            for layer, index_at in zip(indices[online], places[online], strict=True):
                hidden = len(self.layers[name]) + 1 < len(indices[online])
                bias, end = size + layer.nnz, size + layer.nnz + layer.out
                norm = end if hidden and online in normed else -1
                self.layers[name].append(Layer(layer, index_at, size, bias, dense, norm))
                size = end if norm < 0 else end + 2 * layer.out
                dense += layer.out * layer.inputs if name in indices else 0
            self.span[name] = (begin, size)
        self.size = size
        self.trained = self.span[list(indices)[-1]][1]
        self.params: Floats = np.zeros(size, np.float32)
        self.grads: Floats = np.zeros(self.trained, np.float32)
        self.first_moment: Floats = np.zeros(self.trained, np.float32)
        self.second_moment: Floats = np.zeros(self.trained, np.float32)
        self.dense: Floats = np.zeros(dense, np.float32)  # gradients of an evolution step

    def join(self, name: str, networks: Sequence[str]) -> None:
        """Give several neighbouring networks one name, as one optimizer's parameters.

        Args:
            name: new.
            networks: in the order in which they lie.
        """
        spans = [self.span[network] for network in networks]
        assert all(left[1] == right[0] for left, right in pairwise(spans))
        self.span[name] = (spans[0][0], spans[-1][1])

    def _in_place(self, layer: LayerIndex, index_at: tuple[int, ...]) -> LayerIndex:
        """Return a layer's index as views of the index array."""
        views = [
            self.index[at : at + len(piece)]
            for at, piece in zip(index_at, layer.pieces, strict=True)
        ]
        return LayerIndex(layer.out, layer.inputs, *views)

    def relink(self, network: str, layer: int, mask: Bools) -> bool:
        """Give a layer of an online network other links, as many as it has.

        Nothing moves in the arena, so programmes stay as they are. The network's values and moments
        are the caller's to write anew; a target's links keep their values, new ones start at 0.
        Indices made from a mask are right by construction and not validated.

        Args:
            network: an online network.
            layer: its number there.
            mask: bool [out, in].

        Returns:
            Whether it is done; False where the mask has another number of links.
        """
        online, old = self.layers[network][layer], self.layers[network][layer].index
        flat = np.flatnonzero(mask)
        if len(flat) != old.nnz:
            return False
        before = old.flat  # taken before the arrays behind it are written anew
        index = old.holding(flat)
        self.layers[network][layer] = replace(online, index=index)
        if network in self.targets:
            target = self.layers[f"{network}_target"][layer]
            values = self.params[target.values : target.bias]
            weight = np.zeros(mask.size, np.float32)
            weight[before] = values
            values[:] = weight[index.flat]
            self.layers[f"{network}_target"][layer] = replace(target, index=index)
        return True

    def write(
        self, vector: Floats, network: str, layer: int, weight: Floats, bias: Floats | None
    ) -> None:
        """Put a dense weight [out, in] (its links only) and a bias [out] into a flat vector."""
        place = self.layers[network][layer]
        vector[place.values : place.bias] = place.index.take(np.ascontiguousarray(weight))
        if bias is not None:
            vector[place.bias : place.bias + place.index.out] = bias

    def read(self, vector: Floats, network: str, layer: int) -> tuple[Floats, Floats]:
        """Return the dense weight [out, in] and the bias [out] of a layer in a flat vector."""
        place = self.layers[network][layer]
        weight = np.zeros((place.index.out, place.index.inputs), np.float32)
        place.index.scatter(vector[place.values : place.bias], weight)
        return weight, vector[place.bias : place.bias + place.index.out].copy()
