"""Matrices as their links alone, with their optimizer, for as long as the topology stays.

Between two evolution steps most of a sparse matrix is zero and stays so. Then its values alone are
parameters: products skip the rest, no gradient is made for it, and AdamW holds moments of links
that exist only. At an evolution step, and wherever somebody looks, the dense masked form is brought
up to date, bit by bit what it would be there: cut links are 0, and so are their moments.

A form says where the values lie and multiplies by them; there are three:

| form | links | where |
|---|---|---|
| `Links` | single | the engine's kernels: CPU, float32 |
| `thrifty.engine.sparse_blocks.Blocks` | in blocks | the engine's kernels: CPU, float32 |
| `GatheredBlocks` | in blocks | gathered dense products: any device and precision |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Compact", "CompactMatrix", "Form", "Links", "SparseLinear"]


class Form(Protocol):
    """Where the values of a matrix lie, and how to multiply by them."""

    shape: tuple[int, int]
    """(out, in)."""
    flat: Tensor
    """Place of every value in the flattened matrix, int64."""

    def product(self, x: Tensor, values: Tensor) -> Tensor:
        """Return x W^T, [..., out], of x [..., in] and the values."""
        ...


class Links:
    """Single links on the engine's kernels.

    Args:
        mask: bool [out, in].
    """

    def __init__(self, mask: Tensor) -> None:
        from thrifty.engine import links  # compiled code is loaded where it is needed

        self.shape = (mask.shape[0], mask.shape[1])
        self.flat = mask.flatten().nonzero().flatten()
        self._links = links.Links.of([mask.numpy()], [False], [False])
        self._biases = torch.empty(0)

    def product(self, x: Tensor, values: Tensor) -> Tensor:
        """Return x W^T, [..., out].

        Args:
            x: float32 on the CPU, [..., in].
            values: of the links, in the order of `flat`.
        """
        from thrifty.engine.sparse_mlp import sparse_mlp

        y: Tensor = sparse_mlp(x.contiguous(), values, self._biases, self._links)
        return y


class CompactMatrix(NamedTuple):
    """A matrix as its values alone.

    Attributes:
        form: where they lie.
        values: the parameter.
    """

    form: Form
    values: nn.Parameter

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return x W^T + bias, [..., out]."""
        y = self.form.product(x, self.values)
        return y if bias is None else y + bias.to(y.dtype)

    def dense(self) -> Tensor:
        """Return the whole matrix [out, in]; gradients flow to the values."""
        out, inputs = self.form.shape
        zeros = self.values.new_zeros(out * inputs)
        return zeros.index_put((self.form.flat,), self.values).view(out, inputs)


class SparseLinear(nn.Linear):
    """`nn.Linear` that multiplies by its links alone where it has been given them.

    Attributes:
        compact: its values; None multiplies the whole matrix.
    """

    compact: CompactMatrix | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Return input W^T + bias."""
        if self.compact is None:
            return F.linear(input, self.weight, self.bias)
        return self.compact.product(input, self.bias)


class Compact:
    """A model's matrices and their optimizer in compact form.

    Args:
        parameters: of the model, by name; the matrices must be 0 where their form has no value.
        optimizer: over all of them. The moments of the matrices move to the compact form, until
            `leave`.
        forms: of the matrices to be compact, by name.
        masks: of sparse matrices that stay dense, by name.

    Attributes:
        matrices: the compact ones, by name.
        optimizer: over the values, and over all other parameters, with one state for both forms.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.AdamW,
        forms: Mapping[str, Form],
        masks: Mapping[str, Tensor],
    ) -> None:
        self._dense = optimizer
        self._masked = [(parameters[name], mask) for name, mask in masks.items()]
        self._weights = {name: parameters[name] for name in forms}
        self.matrices = {
            name: CompactMatrix(form, nn.Parameter(self._taken(name, form)))
            for name, form in forms.items()
        }
        instead = {id(self._weights[name]): m.values for name, m in self.matrices.items()}
        groups: list[dict[str, Any]] = [
            {**group, "params": [instead.get(id(p), p) for p in group["params"]]}
            for group in optimizer.param_groups
        ]
        self.optimizer = torch.optim.AdamW(groups)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if id(parameter) not in instead:  # one and the same dictionary
                    self.optimizer.state[parameter] = optimizer.state[parameter]
        for name, (form, values) in self.matrices.items():
            weight = self._weights[name]
            weight.grad = None
            self.optimizer.state[values] = {
                key: value.flatten()[form.flat] if _is_moment(value, weight) else value
                for key, value in optimizer.state.pop(weight, {}).items()
            }

    def _taken(self, name: str, form: Form) -> Tensor:
        return self._weights[name].detach().flatten()[form.flat]

    def step(self, clip_norm: float) -> None:
        """Mask what is not compact, clip, and take one step of the optimizer.

        Args:
            clip_norm: largest 2-norm of all gradients.
        """
        for weight, mask in self._masked:
            assert weight.grad is not None, "every matrix has a gradient after backward()"
            weight.grad.mul_(mask)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            for weight, mask in self._masked:
                weight.mul_(mask)

    @torch.no_grad()
    def leave(self) -> None:
        """Bring the dense weights and their moments up to date; this form is void then."""
        for name, (form, values) in self.matrices.items():
            weight = self._weights[name]
            weight.view(-1)[form.flat] = values
            state = self.optimizer.state[values]
            if state:
                self._dense.state[weight] = {
                    key: _spread(value, form, weight) if _is_moment(value, values) else value
                    for key, value in state.items()
                }


def _is_moment(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def _spread(moment: Tensor, form: Form, weight: Tensor) -> Tensor:
    dense = torch.zeros_like(weight)
    dense.view(-1)[form.flat] = moment
    return dense
