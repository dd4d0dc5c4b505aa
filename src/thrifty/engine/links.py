"""The links of a torch module, as compiled code reads them, and what such modules share.

Values stay with torch, as parameters; where the links are stands in one int32 array that never
changes, so that copies share it, and in a table of addresses made from it. Indices from a file are
checked before compiled code sees them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from thrifty.engine import perceptron
from thrifty.engine.layout import Bools, Ints, LayerIndex
from thrifty.engine.vector import LANES

KIND: dict[str, Any] = {"dtype": torch.float32, "device": torch.device("cpu")}


class Shape(NamedTuple):
    """What does not depend on the topology: a layer's widths, its bias, and what follows."""

    out: int
    inputs: int
    biased: bool
    relu: bool


class Links:
    """The links of some layers, as compiled code reads them; never changed, so copies share it.

    Args:
        shapes: of the layers, from the inputs on.
        index: for each layer its starts, cols, col_starts, rows and perm (see
            :class:`~thrifty.engine.layout.LayerIndex`), one after the other, int32.
        chained: whether each layer feeds the next, as in a perceptron.

    Raises:
        ValueError: the indices are corrupted or belong to other layers.
    """

    def __init__(self, shapes: Sequence[Shape], index: Ints, *, chained: bool = True) -> None:
        if index.dtype != np.int32 or index.ndim != 1 or (index < 0).any():
            raise ValueError("the index array of a sparse module must hold int32 numbers from 0 on")
        self.shapes = tuple(shapes)
        self.chained = chained
        fit = (lower.out == upper.inputs for lower, upper in pairwise(self.shapes))
        if chained and not all(fit):
            raise ValueError("neighbouring layers must fit: the outputs of one feed the next")
        if any(min(shape.out, shape.inputs) < 1 for shape in self.shapes):
            raise ValueError("a layer of a sparse module needs at least one input and one output")
        self.index: Ints = np.array(index, order="C")
        self.index.flags.writeable = False
        self.layers = tuple(self._cut())
        self.value_begins = list(accumulate((layer.nnz for layer in self.layers), initial=0))
        sizes = [shape.out if shape.biased else 0 for shape in self.shapes]
        self.bias_begins = list(accumulate(sizes, initial=0))
        self.values, self.biases = self.value_begins[-1], self.bias_begins[-1]
        self.inputs, self.outputs = self.shapes[0].inputs, self.shapes[-1].out
        self.table = np.zeros((len(self.shapes), perceptron.COLUMNS), np.int64)
        for number, (layer, shape) in enumerate(zip(self.layers, self.shapes, strict=True)):
            parts = (layer.starts, layer.cols, layer.col_starts, layer.rows, layer.perm)
            self.table[number] = (
                shape.out,
                shape.inputs,
                shape.relu,
                *(part.ctypes.data for part in parts),
                self.value_begins[number],
                self.bias_begins[number] if shape.biased else -1,
            )
        self.width = max(max(shape.out, shape.inputs) for shape in self.shapes)
        # Floats of a tile's activations: the inputs of every layer, and the outputs of the last.
        self.tile = (sum(shape.inputs for shape in self.shapes) + self.outputs) * LANES

    def _cut(self) -> Iterator[LayerIndex]:
        at = 0
        for shape in self.shapes:
            links = self.index[at + shape.out : at + shape.out + 1]  # the last of the row starts
            n = int(links[0]) if len(links) else 0
            sizes = (shape.out + 1, n, shape.inputs + 1, n, n)
            if at + sum(sizes) > len(self.index):
                raise ValueError("the index array of a sparse module is too short for its layers")
            ends = list(accumulate(sizes, initial=at))
            layer = LayerIndex(
                shape.out, shape.inputs, *(self.index[a:b] for a, b in pairwise(ends))
            )
            layer.validate()
            yield layer
            at = ends[-1]
        if at != len(self.index):
            raise ValueError("the index array of a sparse module is too long for its layers")

    @classmethod
    def of(
        cls,
        masks: Sequence[Bools],
        biased: Sequence[bool],
        relu: Sequence[bool],
        *,
        chained: bool = True,
    ) -> Links:
        """Index the masks of some layers, bool [out, in] each."""
        parts: list[Ints] = []
        shapes = []
        for mask, has_bias, has_relu in zip(masks, biased, relu, strict=True):
            layer = LayerIndex.of(mask)
            parts += [layer.starts, layer.cols, layer.col_starts, layer.rows, layer.perm]
            shapes.append(Shape(layer.out, layer.inputs, has_bias, has_relu))
        return cls(shapes, np.concatenate(parts), chained=chained)

    def on(self, index: Ints) -> Links:
        """Return other links of the same layers; raises as the constructor does."""
        return Links(self.shapes, index, chained=self.chained)

    def __deepcopy__(self, memo: dict[int, Any]) -> Links:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.shapes, np.array(self.index), self.chained)  # the table: addresses


def _again(shapes: Sequence[Shape], index: Ints, chained: bool) -> Links:
    return Links(shapes, index, chained=chained)


class LinkedModule(nn.Module):
    """A module that stores and computes its links only.

    Args:
        weights: dense, [out, in] each; :func:`refuse_others` has seen them. They are read.
        masks: bool [out, in] for each, True where a link exists.
        biases: of those layers that have one.
        links: of the masks.

    Attributes:
        values: parameter, the values of all links: layer by layer, each by output, then by input.
        biases: parameter, all biases, layer by layer.
        links: where the links are; shared by copies, replaced by ``load_state_dict``.

    Raises:
        ValueError: a value where the mask has no link.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        masks: Sequence[Tensor],
        biases: Sequence[Tensor],
        links: Links,
    ) -> None:
        super().__init__()
        for weight, mask in zip(weights, masks, strict=True):
            if bool(weight.detach()[~mask].count_nonzero()):
                raise ValueError("a cut link has a value: call topology.project() before")
        self.links = links
        kept = [weight.detach()[mask] for weight, mask in zip(weights, masks, strict=True)]
        self.values = nn.Parameter(torch.cat(kept), _learn(weights))
        self.biases = nn.Parameter(
            torch.cat([torch.empty(0, **KIND), *(bias.detach() for bias in biases)]),
            _learn(biases),
        )

    def check(self, x: Tensor, form: str, *, fits: bool) -> None:
        """Refuse inputs, or parameters, that compiled code must not see.

        Args:
            x: inputs.
            form: of the inputs that are taken, in words.
            fits: whether the shape of x is that.

        Raises:
            ValueError: another kind of input, or parameters that were moved or converted.
        """
        links, values, biases, kind = self.links, self.values, self.biases, type(self).__name__
        if not fits or not is_plain(x):
            raise ValueError(
                f"a {kind} takes contiguous float32 {form} on the CPU, got "
                f"{'' if x.is_contiguous() else 'non-contiguous '}{x.dtype} {tuple(x.shape)} on "
                f"{x.device}: convert it, or call contiguous()"
            )
        if not (
            is_plain(values)
            and is_plain(biases)
            and values.numel() == links.values
            and biases.numel() == links.biases
        ):
            raise ValueError(
                f"the parameters of a {kind} must stay contiguous float32 on the CPU, got "
                f"{values.dtype} on {values.device}: expand() the model before converting it"
            )

    def get_extra_state(self) -> Tensor:
        """Return the index arrays, int32, for ``state_dict``."""
        return torch.from_numpy(np.array(self.links.index))

    def set_extra_state(self, state: Any) -> None:
        """Take over index arrays from ``load_state_dict``.

        Raises:
            ValueError: they are corrupted, or have another number of links.
        """
        self.links = self._links_of(state)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        """Load a state whose index arrays are right; torch would load the values before them."""
        if (state := state_dict.get(f"{prefix}_extra_state")) is not None:
            self._links_of(state)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _links_of(self, state: Any) -> Links:
        kind = type(self).__name__
        if not isinstance(state, Tensor):
            raise ValueError(f"the index array of a {kind} must be a tensor of int32")
        links = self.links.on(state.detach().cpu().numpy())
        if links.values != self.values.numel():
            raise ValueError(
                f"the state has {links.values} links and this {kind} {self.values.numel()}: "
                "load it into a model compacted with a topology of the same size"
            )
        return links

    def dense(self) -> list[tuple[str, nn.Module]]:
        """Return the masked modules of torch that this one stands for, with their names."""
        raise NotImplementedError

    def parts(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Yield the dense weight, the mask and the bias of each layer, as copies."""
        links = self.links
        places = zip(pairwise(links.value_begins), pairwise(links.bias_begins), strict=True)
        for layer, shape, (values, biases) in zip(links.layers, links.shapes, places, strict=True):
            mask = torch.from_numpy(layer.mask())
            weight = torch.zeros(shape.out, shape.inputs, **KIND)
            weight[mask] = self.values.detach()[slice(*values)]
            bias = self.biases.detach()[slice(*biases)].clone() if shape.biased else None
            yield weight, mask, bias


def is_plain(tensor: Tensor) -> bool:
    """Whether compiled code can read a tensor: contiguous float32 on the CPU."""
    return tensor.dtype is torch.float32 and tensor.is_cpu and tensor.is_contiguous()


def refuse_others(kind: str, weights: Iterable[Tensor]) -> None:
    """Refuse weights of which a sparse module cannot be made, before their masks are read.

    Args:
        kind: of the module, in the message.
        weights: of the layers that it stands for.

    Raises:
        ValueError: a weight that is not float32 on the CPU.
    """
    for weight in weights:
        if weight.dtype is not torch.float32 or not weight.is_cpu:
            raise ValueError(
                f"a {kind} is float32 on the CPU, got {weight.dtype} on {weight.device}: "
                'call model.to("cpu", torch.float32) before'
            )


def asked(ctx: Any, needs: Sequence[bool]) -> list[bool]:
    """Tell which tensors among the inputs of an operation this backward pass wants.

    ``needs_input_grad`` knows what requires a gradient at all, the engine also what was named in
    ``backward(inputs=...)`` or ``autograd.grad``.

    Args:
        ctx: of the operation.
        needs: the part of its ``needs_input_grad`` that speaks of tensors.
    """
    wanted = []
    for needed, (node, _) in zip(needs, ctx.next_functions, strict=True):
        if needed:
            try:
                needed = torch._C._will_engine_execute_node(node)
            except RuntimeError:  # says so where a leaf was named in autograd.grad
                needed = True
        wanted.append(needed)
    return wanted


def _learn(parameters: Iterable[Tensor]) -> bool:
    """Whether the parameters of a module require gradients: all or none of them."""
    wanted = {parameter.requires_grad for parameter in parameters}
    if len(wanted) > 1:
        raise ValueError("a chain of layers is one operation: freeze all of its weights or none")
    return True in wanted
