"""Sparse GRU and LSTM layers as torch operations on our kernels, forward and through time.

The operation is float32 on the CPU, once differentiable, and pads the batch to a multiple of 64
sequences, so that it pays off from a few dozen on. A backward pass computes what is asked for and
no more. Equations, order of gates and outputs are those of ``nn.GRU`` and ``nn.LSTM`` with one
layer in one direction.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from thrifty.engine import recurrence
from thrifty.engine.cache import announce
from thrifty.engine.links import KIND, LinkedModule, Links, asked, is_plain, refuse_others
from thrifty.engine.vector import LANES

WEIGHTS = ("weight_ih_l0", "weight_hh_l0")
BIASES = ("bias_ih_l0", "bias_hh_l0")
_States = tuple[Tensor, ...]  # the last h, and for an LSTM the last memory


class _Recurrence(torch.autograd.Function):
    """The operation (x, values, biases, first states) -> states of all steps, last states."""

    @staticmethod
    def forward(
        ctx: Any, links: Links, kind: str, x: Tensor, values: Tensor, biases: Tensor, *first: Tensor
    ) -> tuple[Tensor, ...]:
        steps, batch, inputs = x.shape
        hidden = links.shapes[1].inputs
        rows = recurrence.tape_rows(kind, inputs, hidden)
        tape = torch.empty(-(-batch // LANES), steps + 1, rows, LANES, **KIND)
        ctx.save_for_backward(values, tape)
        ctx.links, ctx.kind, ctx.biases, ctx.shape = links, kind, biases.shape, x.shape
        ctx.set_materialize_grads(False)
        return _forward(kind, links, x, values, biases, first, tape, keep=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise ValueError(
                "a sparse GRU or LSTM has no second derivatives: expand() the model, or drop "
                "create_graph"
            )
        links: Links = ctx.links
        values, tape = ctx.saved_tensors
        steps, batch, inputs = ctx.shape
        hidden = links.shapes[1].inputs
        of_x, of_values, of_biases, *of_first = asked(ctx, ctx.needs_input_grad[2:])
        wanted = of_values or of_biases
        d_values = torch.zeros(values.shape, **KIND) if wanted else None
        d_biases = torch.zeros(ctx.biases, **KIND) if wanted else None
        dx = torch.empty(ctx.shape, **KIND) if of_x else None
        d_first = [torch.empty(batch, hidden, **KIND) if of else None for of in of_first]
        dy, *d_last = (None if g is None else g.contiguous() for g in gradients)
        if dy is None:
            dy = torch.zeros(steps, batch, hidden, **KIND)
        scratch = torch.empty(recurrence.scratch_rows(ctx.kind, inputs, hidden), LANES, **KIND)
        d_last += [None] * (2 - len(d_last))
        starts = d_first + [None] * (2 - len(d_first))
        recurrence.backward(
            ctx.kind == "LSTM",
            links.table,
            values.data_ptr(),
            dy.data_ptr(),
            _address(d_last[0]),
            _address(d_last[1]),
            steps,
            batch,
            tape.data_ptr(),
            recurrence.tape_rows(ctx.kind, inputs, hidden),
            scratch.data_ptr(),
            wanted,
            _address(d_values),
            _address(d_biases),
            _address(dx),
            _address(starts[0]),
            _address(starts[1]),
        )
        d_values, d_biases = d_values if of_values else None, d_biases if of_biases else None
        return (None, None, dx, d_values, d_biases, *d_first)


_apply: Any = _Recurrence.apply


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _forward(
    kind: str,
    links: Links,
    x: Tensor,
    values: Tensor,
    biases: Tensor,
    first: _States,
    tape: Tensor,
    *,
    keep: bool,
) -> tuple[Tensor, ...]:
    """Run the cell; returns the states after every step [T, B, H] and the last ones [B, H]."""
    announce(recurrence.forward)
    steps, batch, inputs = x.shape
    hidden = links.shapes[1].inputs
    lstm = kind == "LSTM"
    y = torch.empty(steps, batch, hidden, **KIND)
    last = [torch.empty(batch, hidden, **KIND) for _ in range(2 if lstm else 1)]
    scratch = torch.empty(recurrence.GATES[kind] * hidden, LANES, **KIND)
    recurrence.forward(
        lstm,
        links.table,
        values.data_ptr(),
        biases.data_ptr(),
        x.data_ptr(),
        _address(first[0]) if first else 0,
        _address(first[1]) if lstm and first else 0,
        y.data_ptr(),
        last[0].data_ptr(),
        last[1].data_ptr() if lstm else 0,
        steps,
        batch,
        tape.data_ptr(),
        recurrence.tape_rows(kind, inputs, hidden),
        keep,
        scratch.data_ptr(),
    )
    return (y, *last)


class _SparseRecurrent(LinkedModule):
    """What GRU and LSTM share.

    Args:
        layer: nn.GRU or nn.LSTM with one layer in one direction; float32 on the CPU. It is read.
        masks: of its ``weight_ih_l0`` and ``weight_hh_l0``, bool, True where a link exists.

    Raises:
        ValueError: more layers or directions, projections; a value where the mask has no link.
    """

    kind: str

    def __init__(self, layer: nn.RNNBase, masks: tuple[Tensor, Tensor]) -> None:
        lacking = [
            what
            for what, there in (
                ("several layers", layer.num_layers > 1),
                ("two directions", layer.bidirectional),
                ("projections", layer.proj_size > 0),
            )
            if there
        ]
        if lacking:
            raise ValueError(
                f"a {type(self).__name__} has no {' and no '.join(lacking)}: use layers of one "
                "direction one after the other, or leave it out with sparsify(where=...)"
            )
        weights = [getattr(layer, name) for name in WEIGHTS]
        refuse_others(type(self).__name__, weights)
        biases = [getattr(layer, name) for name in BIASES] if layer.bias else []
        links = Links.of(
            [mask.numpy() for mask in masks],
            [bool(layer.bias)] * 2,
            [False] * 2,
            chained=False,
        )
        super().__init__(weights, masks, biases, links)
        self.input_size, self.hidden_size = layer.input_size, layer.hidden_size
        self.batch_first = bool(layer.batch_first)
        self.training = layer.training

    def flatten_parameters(self) -> None:
        """Do nothing; for code that asks this of recurrent layers of torch."""

    def _run(self, x: Tensor, first: _States) -> tuple[Tensor, _States]:
        order = "[B, T, {}]" if self.batch_first else "[T, B, {}]"
        fits = x.ndim == 3 and x.shape[-1] == self.input_size and 0 not in x.shape
        self.check(x, order.format(self.input_size), fits=fits)
        if self.batch_first:
            x = x.transpose(0, 1).contiguous()
        shape = (1, x.shape[1], self.hidden_size)
        for state in first:
            if state.shape != shape or not is_plain(state):
                raise ValueError(
                    f"the first states of a {type(self).__name__} must be contiguous float32 "
                    f"{list(shape)} on the CPU, got {state.dtype} {list(state.shape)}"
                )
        first = tuple(state[0] for state in first)
        inputs = (x, self.values, self.biases, *first)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
            y, *last = _apply(self.links, self.kind, *inputs)
        else:
            rows = recurrence.tape_rows(self.kind, self.input_size, self.hidden_size)
            tape = torch.empty(2, rows, LANES, **KIND)
            y, *last = _forward(
                self.kind, self.links, x, self.values, self.biases, first, tape, keep=False
            )
        if self.batch_first:
            y = y.transpose(0, 1)
        return y, tuple(state.unsqueeze(0) for state in last)

    def extra_repr(self) -> str:
        """Return sizes and number of links, for ``repr``."""
        full = sum(shape.out * shape.inputs for shape in self.links.shapes)
        order = ", batch_first" if self.batch_first else ""
        return (
            f"{self.input_size} -> {self.hidden_size}, {self.links.values} of {full} links{order}"
        )

    def dense(self) -> list[tuple[str, nn.Module]]:
        """Return the masked layer of torch, with a name of no meaning."""
        kind = nn.LSTM if self.kind == "LSTM" else nn.GRU
        with torch.random.fork_rng(devices=[]):  # what torch draws here is overwritten
            layer = kind(
                self.input_size,
                self.hidden_size,
                bias=self.links.shapes[0].biased,
                batch_first=self.batch_first,
                **KIND,
            )
        for (weight, mask, bias), name, bias_name in zip(
            self.parts(), WEIGHTS, BIASES, strict=True
        ):
            with torch.no_grad():
                getattr(layer, name).copy_(weight)
                if bias is not None:
                    getattr(layer, bias_name).copy_(bias)
                    getattr(layer, bias_name).requires_grad_(self.biases.requires_grad)
            getattr(layer, name).requires_grad_(self.values.requires_grad)
            layer.register_buffer(f"{name}_mask", mask, persistent=False)
        return [("", layer.train(self.training))]


class SparseGRU(_SparseRecurrent):
    """A GRU layer that stores and computes its links only; called like ``nn.GRU``.

    Args:
        layer: ``nn.GRU`` with one layer in one direction; float32 on the CPU. It is read.
        masks: of its ``weight_ih_l0`` and ``weight_hh_l0``, bool, True where a link exists.

    Raises:
        ValueError: more layers or directions; a value where the mask has no link.
    """

    kind = "GRU"

    def forward(self, x: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the states of all steps, [T, B, H] (or [B, T, H]), and the last one, [1, B, H].

        Args:
            x: contiguous float32 on the CPU, [T, B, in], or [B, T, in] where ``batch_first``.
            h0: first states, [1, B, H]; zeros by default.

        Raises:
            ValueError: another kind of input, or parameters that were moved or converted.
        """
        y, (last,) = self._run(x, () if h0 is None else (h0,))
        return y, last


class SparseLSTM(_SparseRecurrent):
    """An LSTM layer that stores and computes its links only; called like ``nn.LSTM``.

    Args:
        layer: ``nn.LSTM`` with one layer in one direction, without projections. It is read.
        masks: of its ``weight_ih_l0`` and ``weight_hh_l0``, bool, True where a link exists.

    Raises:
        ValueError: more layers or directions, projections; a value where the mask has no link.
    """

    kind = "LSTM"

    def forward(
        self, x: Tensor, states: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the states of all steps, [T, B, H] (or [B, T, H]), and the last h and memory.

        Args:
            x: contiguous float32 on the CPU, [T, B, in], or [B, T, in] where ``batch_first``.
            states: first h and memory, [1, B, H] each; zeros by default.

        Raises:
            ValueError: another kind of input, or parameters that were moved or converted.
        """
        y, (last, memory) = self._run(x, () if states is None else states)
        return y, (last, memory)
