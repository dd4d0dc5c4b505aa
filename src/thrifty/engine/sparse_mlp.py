"""A sparse perceptron as one torch operation on our kernels, and the module that holds it.

The operation is float32 on the CPU, once differentiable, and pads the batch to a multiple of 64.
Its backward pass computes what is asked for and no more: a loss that only flows through a network
costs no weight gradient there. What ReLU makes of a NaN is 0 here, and NaN in torch.
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

_KIND: dict[str, Any] = {"dtype": torch.float32, "device": torch.device("cpu")}


class _Shape(NamedTuple):
    """What does not depend on the topology: a layer's widths, its bias, and what follows."""

    out: int
    inputs: int
    biased: bool
    relu: bool


class Links:
    """The links of a perceptron, as compiled code reads them; never changed, so copies share it.

    Args:
        shapes: of the layers, from the inputs on.
        index: for each layer its starts, cols, col_starts, rows and perm (see
            :class:`~thrifty.engine.layout.LayerIndex`), one after the other, int32.

    Raises:
        ValueError: the indices are corrupted or belong to other layers.
    """

    def __init__(self, shapes: Sequence[_Shape], index: Ints) -> None:
        if index.dtype != np.int32 or index.ndim != 1 or (index < 0).any():
            raise ValueError("the index array of a SparseMLP must hold int32 numbers from 0 on")
        self.shapes = tuple(shapes)
        if any(lower.out != upper.inputs for lower, upper in pairwise(self.shapes)):
            raise ValueError("neighbouring layers must fit: the outputs of one feed the next")
        if any(min(shape.out, shape.inputs) < 1 for shape in self.shapes):
            raise ValueError("a layer of a SparseMLP needs at least one input and one output")
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
                raise ValueError("the index array of a SparseMLP is too short for its layers")
            ends = list(accumulate(sizes, initial=at))
            layer = LayerIndex(
                shape.out, shape.inputs, *(self.index[a:b] for a, b in pairwise(ends))
            )
            layer.validate()
            yield layer
            at = ends[-1]
        if at != len(self.index):
            raise ValueError("the index array of a SparseMLP is too long for its layers")

    @classmethod
    def of(cls, masks: Sequence[Bools], biased: Sequence[bool], relu: Sequence[bool]) -> Links:
        """Index the masks of neighbouring layers, bool [out, in] each."""
        parts: list[Ints] = []
        shapes = []
        for mask, has_bias, has_relu in zip(masks, biased, relu, strict=True):
            layer = LayerIndex.of(mask)
            parts += [layer.starts, layer.cols, layer.col_starts, layer.rows, layer.perm]
            shapes.append(_Shape(layer.out, layer.inputs, has_bias, has_relu))
        return cls(shapes, np.concatenate(parts))

    def __deepcopy__(self, memo: dict[int, Any]) -> Links:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Links, (self.shapes, np.array(self.index))  # the table holds addresses


class _Perceptron(torch.autograd.Function):
    """The operation (x, values, biases) -> outputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, biases: Tensor, links: Links) -> Tensor:
        batch = x.numel() // links.inputs
        tiles = torch.empty(-(-batch // LANES), links.tile, **_KIND)
        ctx.save_for_backward(values, tiles)
        ctx.links, ctx.biases, ctx.shape = links, biases.shape, x.shape
        return _forward(x, values, biases, links, batch, tiles, links.tile * 4)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise ValueError(
                "a SparseMLP has no second derivatives: expand() the model, or drop create_graph"
            )
        links: Links = ctx.links
        values, tiles = ctx.saved_tensors
        (dy,) = gradients
        dy = dy.contiguous()
        of_x, of_values, of_biases = _asked(ctx)
        d_values = d_biases = dx = None
        wanted = of_values or of_biases
        if wanted:
            d_values = torch.zeros(values.shape, **_KIND)
            d_biases = torch.zeros(ctx.biases, **_KIND)
        if of_x:
            dx = torch.empty(ctx.shape, **_KIND)
        scratch = torch.empty(2, links.width, LANES, **_KIND)
        perceptron.backward(
            links.table,
            values.data_ptr(),
            dy.data_ptr(),
            dy.numel() // links.outputs,
            tiles.data_ptr(),
            links.tile * 4,
            scratch.data_ptr(),
            links.width,
            wanted,
            0 if d_values is None else d_values.data_ptr(),
            0 if d_biases is None else d_biases.data_ptr(),
            0 if dx is None else dx.data_ptr(),
        )
        return dx, d_values if of_values else None, d_biases if of_biases else None, None


_apply: Any = _Perceptron.apply


def _asked(ctx: Any) -> list[bool]:
    """Tell which of x, values and biases this backward pass wants.

    ``needs_input_grad`` knows what requires a gradient at all, the engine also what was named in
    ``backward(inputs=...)`` or ``autograd.grad``.
    """
    asked = []
    for needed, (node, _) in zip(ctx.needs_input_grad[:3], ctx.next_functions[:3], strict=True):
        if needed:
            try:
                needed = torch._C._will_engine_execute_node(node)
            except RuntimeError:  # says so where a leaf was named in autograd.grad
                needed = True
        asked.append(needed)
    return asked


def _forward(
    x: Tensor, values: Tensor, biases: Tensor, links: Links, batch: int, tiles: Tensor, step: int
) -> Tensor:
    y = torch.empty(*x.shape[:-1], links.outputs, **_KIND)
    perceptron.forward(
        links.table,
        values.data_ptr(),
        biases.data_ptr(),
        x.data_ptr(),
        y.data_ptr(),
        batch,
        tiles.data_ptr(),
        step,
    )
    return y


class SparseMLP(nn.Module):
    """A chain of linear layers, some followed by ReLU, that stores and computes its links only.

    Args:
        linears: neighbouring layers, from the inputs on; float32 on the CPU. They are read.
        masks: bool [out, in] for each, True where a link exists.
        relu: whether ReLU follows, for each.
        names: of the modules that the chain replaces in an ``nn.Sequential``, ReLUs included.

    Attributes:
        values: parameter, the values of all links: layer by layer, each by output, then by input.
        biases: parameter, all biases, layer by layer.
        links: where the links are; shared by copies, replaced by ``load_state_dict``.

    Raises:
        ValueError: layers of another kind, or a value where the mask has no link.

    Example:
        >>> layer = nn.Linear(3, 2)
        >>> mask = torch.tensor([[True, False, True], [False, True, False]])
        >>> _ = layer.weight.data.mul_(mask)
        >>> mlp = SparseMLP([layer], [mask], [False])
        >>> len(mlp.values), torch.allclose(mlp(torch.ones(1, 3)), layer(torch.ones(1, 3)))
        (3, True)
    """

    def __init__(
        self,
        linears: Sequence[nn.Linear],
        masks: Sequence[Tensor],
        relu: Sequence[bool],
        names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.names = tuple(names)
        weights = [linear.weight.detach() for linear in linears]
        for weight, mask in zip(weights, masks, strict=True):
            if weight.dtype is not torch.float32 or not weight.is_cpu:
                raise ValueError(
                    f"a SparseMLP is float32 on the CPU, got {weight.dtype} on {weight.device}: "
                    'call model.to("cpu", torch.float32) before'
                )
            if bool(weight[~mask].count_nonzero()):
                raise ValueError("a cut link has a value: call topology.project() before")
        biases = [bias for linear in linears if (bias := _bias(linear)) is not None]
        self.links = Links.of(
            [mask.numpy() for mask in masks],
            [_bias(linear) is not None for linear in linears],
            relu,
        )
        kept = [weight[mask] for weight, mask in zip(weights, masks, strict=True)]
        self.values = nn.Parameter(torch.cat(kept), _learn(linear.weight for linear in linears))
        self.biases = nn.Parameter(
            torch.cat([torch.empty(0, **_KIND), *(bias.detach() for bias in biases)]),
            _learn(biases),
        )
        self.training = linears[0].training

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs [..., out].

        Args:
            x: float32 on the CPU, contiguous, [..., in].

        Raises:
            ValueError: another kind of input, or parameters that were moved or converted.
        """
        links, values, biases = self.links, self.values, self.biases
        if not _fits(x) or not x.ndim or x.shape[-1] != links.inputs:
            raise ValueError(
                f"a SparseMLP takes contiguous float32 [..., {links.inputs}] on the CPU, got "
                f"{'' if x.is_contiguous() else 'non-contiguous '}{x.dtype} {tuple(x.shape)} on "
                f"{x.device}: convert it, or call contiguous()"
            )
        if not (
            _fits(values)
            and _fits(biases)
            and values.numel() == links.values
            and biases.numel() == links.biases
        ):
            raise ValueError(
                f"the parameters of a SparseMLP must stay contiguous float32 on the CPU, got "
                f"{values.dtype} on {values.device}: expand() the model before converting it"
            )
        if torch.is_grad_enabled() and (
            x.requires_grad or values.requires_grad or biases.requires_grad
        ):
            y: Tensor = _apply(x, values, biases, links)
            return y
        tile = torch.empty(links.tile, **_KIND)  # every tile of samples in its turn
        return _forward(x, values, biases, links, x.numel() // links.inputs, tile, 0)

    def get_extra_state(self) -> Tensor:
        """Return the index arrays, int32, for ``state_dict``."""
        return torch.from_numpy(np.array(self.links.index))

    def set_extra_state(self, state: Any) -> None:
        """Take over index arrays from ``load_state_dict``; the values are loaded before.

        Raises:
            ValueError: they are corrupted, or have another number of links.
        """
        if not isinstance(state, Tensor):
            raise ValueError("the index array of a SparseMLP must be a tensor of int32")
        links = Links(self.links.shapes, state.detach().cpu().numpy())
        if links.values != self.values.numel():
            raise ValueError(
                f"the state has {links.values} links and this SparseMLP {self.values.numel()}: "
                "load it into a model compacted with a topology of the same size"
            )
        self.links = links

    def extra_repr(self) -> str:
        """Return widths and number of links, for ``repr``."""
        widths = [self.links.inputs, *(shape.out for shape in self.links.shapes)]
        full = sum(shape.out * shape.inputs for shape in self.links.shapes)
        return f"{' -> '.join(map(str, widths))}, {self.links.values} of {full} links"

    def dense(self) -> list[tuple[str, nn.Module]]:
        """Return the chain as modules of torch with their names: masked Linear layers and ReLUs."""
        chain: list[nn.Module] = []
        links = self.links
        places = zip(pairwise(links.value_begins), pairwise(links.bias_begins), strict=True)
        for layer, shape, (values, biases) in zip(links.layers, links.shapes, places, strict=True):
            # skip_init draws no random numbers.
            linear = nn.utils.skip_init(
                nn.Linear, shape.inputs, shape.out, bias=shape.biased, **_KIND
            )
            mask = torch.from_numpy(layer.mask())
            with torch.no_grad():
                linear.weight.zero_()[mask] = self.values[slice(*values)]
                if shape.biased:
                    linear.bias.copy_(self.biases[slice(*biases)])
                    linear.bias.requires_grad_(self.biases.requires_grad)
            linear.weight.requires_grad_(self.values.requires_grad)
            linear.register_buffer("weight_mask", mask, persistent=False)
            chain += [linear, nn.ReLU()] if shape.relu else [linear]
        names = self.names or [str(number) for number in range(len(chain))]
        return [(n, module.train(self.training)) for n, module in zip(names, chain, strict=True)]


def _fits(tensor: Tensor) -> bool:
    return tensor.dtype is torch.float32 and tensor.is_cpu and tensor.is_contiguous()


def _bias(linear: nn.Linear) -> Tensor | None:
    return linear.bias  # torch's annotation knows no None


def _learn(parameters: Iterable[Tensor]) -> bool:
    """Whether the parameters of a chain require gradients: all or none of them."""
    wanted = {parameter.requires_grad for parameter in parameters}
    if len(wanted) > 1:
        raise ValueError("a chain of layers is one operation: freeze all of its weights or none")
    return True in wanted
