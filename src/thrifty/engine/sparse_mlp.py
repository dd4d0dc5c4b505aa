"""A sparse perceptron as one torch operation on our kernels, and the module that holds it.

The operation is float32 on the CPU, once differentiable, and pads the batch to a multiple of 64;
large batches are shared by the threads that torch has.
Its backward pass computes what is asked for and no more: a loss that only flows through a network
costs no weight gradient there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from thrifty.engine import crew, perceptron
from thrifty.engine.cache import announce
from thrifty.engine.links import KIND, LinkedModule, Links, asked, refuse_others
from thrifty.engine.vector import LANES


class _Perceptron(torch.autograd.Function):
    """The operation (x, values, biases) -> outputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, biases: Tensor, links: Links) -> Tensor:
        batch = x.numel() // links.inputs
        shares = crew.parts(batch, LANES, torch.get_num_threads())
        # Of each tile the inputs of every layer are kept; the last outputs lie where the next
        # tile will, and each thread has tiles of its own.
        kept = links.tile - links.outputs * LANES
        tiles = [
            torch.empty(-(-(end - begin) // LANES) * kept + links.outputs * LANES, **KIND)
            for begin, end in shares
        ]
        ctx.save_for_backward(values, *tiles)
        ctx.links, ctx.biases, ctx.shape, ctx.shares = links, biases.shape, x.shape, shares
        return _forward(x, values, biases, links, shares, tiles, kept * 4)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise ValueError(
                "a SparseMLP has no second derivatives: expand() the model, or drop create_graph"
            )
        links: Links = ctx.links
        values, *tiles = ctx.saved_tensors
        (dy,) = gradients
        dy = dy.contiguous()
        of_x, of_values, of_biases = asked(ctx, ctx.needs_input_grad[:3])
        wanted = of_values or of_biases
        dx = torch.empty(ctx.shape, **KIND) if of_x else None
        # Each thread adds up gradients of its own; they are summed in the threads' order.
        d_values = [torch.zeros(values.shape if wanted else 0, **KIND) for _ in tiles]
        d_biases = [torch.zeros(ctx.biases if wanted else 0, **KIND) for _ in tiles]
        scratch = [torch.empty(2, links.width, LANES, **KIND) for _ in tiles]

        def part(number: int) -> None:
            begin, end = ctx.shares[number]
            perceptron.backward(
                links.table,
                values.data_ptr(),
                dy.data_ptr() + begin * links.outputs * 4,
                end - begin,
                tiles[number].data_ptr(),
                (links.tile - links.outputs * LANES) * 4,
                scratch[number].data_ptr(),
                links.width,
                wanted,
                d_values[number].data_ptr(),
                d_biases[number].data_ptr(),
                0 if dx is None else dx.data_ptr() + begin * links.inputs * 4,
            )

        crew.run([partial(part, number) for number in range(len(tiles))])
        return (
            dx,
            crew.summed(d_values) if of_values else None,
            crew.summed(d_biases) if of_biases else None,
            None,
        )


sparse_mlp: Any = _Perceptron.apply
"""(x, values, biases, links) -> outputs, on contiguous float32 tensors of the CPU; unchecked."""


def _forward(
    x: Tensor,
    values: Tensor,
    biases: Tensor,
    links: Links,
    shares: list[tuple[int, int]],
    tiles: list[Tensor],
    step: int,
) -> Tensor:
    announce(perceptron.forward)
    y = torch.empty(*x.shape[:-1], links.outputs, **KIND)

    def part(number: int) -> None:
        begin, end = shares[number]
        perceptron.forward(
            links.table,
            values.data_ptr(),
            biases.data_ptr(),
            x.data_ptr() + begin * links.inputs * 4,
            y.data_ptr() + begin * links.outputs * 4,
            end - begin,
            tiles[number].data_ptr(),
            step,
        )

    crew.run([partial(part, number) for number in range(len(shares))])
    return y


class SparseMLP(LinkedModule):
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
        weights = [linear.weight for linear in linears]
        refuse_others(type(self).__name__, weights)
        biases = [_bias(linear) for linear in linears]
        links = Links.of([mask.numpy() for mask in masks], [b is not None for b in biases], relu)
        super().__init__(weights, masks, [bias for bias in biases if bias is not None], links)
        self.names = tuple(names)
        self.training = linears[0].training

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs [..., out].

        Args:
            x: float32 on the CPU, contiguous, [..., in].

        Raises:
            ValueError: another kind of input, or parameters that were moved or converted.
        """
        links, values, biases = self.links, self.values, self.biases
        fits = x.ndim > 0 and x.shape[-1] == links.inputs
        self.check(x, f"[..., {links.inputs}]", fits=fits)
        if torch.is_grad_enabled() and (
            x.requires_grad or values.requires_grad or biases.requires_grad
        ):
            y: Tensor = sparse_mlp(x, values, biases, links)
            return y
        shares = crew.parts(x.numel() // links.inputs, LANES, torch.get_num_threads())
        tiles = [torch.empty(links.tile, **KIND) for _ in shares]  # every tile in its turn
        return _forward(x, values, biases, links, shares, tiles, 0)

    def linears(self) -> list[str]:
        """Return the names of the linear layers that the chain stands for."""
        names = iter(self.names)
        found = []
        for shape in self.links.shapes:
            found.append(next(names))
            if shape.relu:
                next(names)
        return found

    def extra_repr(self) -> str:
        """Return widths and number of links, for ``repr``."""
        widths = [self.links.inputs, *(shape.out for shape in self.links.shapes)]
        full = sum(shape.out * shape.inputs for shape in self.links.shapes)
        return f"{' -> '.join(map(str, widths))}, {self.links.values} of {full} links"

    def dense(self) -> list[tuple[str, nn.Module]]:
        """Return the chain as modules of torch with their names: masked Linear layers and ReLUs."""
        chain: list[nn.Module] = []
        for (weight, mask, bias), shape in zip(self.parts(), self.links.shapes, strict=True):
            # skip_init draws no random numbers.
            linear = nn.utils.skip_init(
                nn.Linear, shape.inputs, shape.out, bias=shape.biased, **KIND
            )
            with torch.no_grad():
                linear.weight.copy_(weight)
                if bias is not None:
                    linear.bias.copy_(bias)
                    linear.bias.requires_grad_(self.biases.requires_grad)
            linear.weight.requires_grad_(self.values.requires_grad)
            linear.register_buffer("weight_mask", mask, persistent=False)
            chain += [linear, nn.ReLU()] if shape.relu else [linear]
        names = self.names or [str(number) for number in range(len(chain))]
        return [(n, module.train(self.training)) for n, module in zip(names, chain, strict=True)]


def _bias(linear: nn.Linear) -> Tensor | None:
    return linear.bias  # torch's annotation knows no None
