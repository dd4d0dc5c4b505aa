"""An update as a short list of operations, written forward; the reverse half is derived.

A programme is a table of integers: one row per operation on *slots*, ranges of rows in the scratch
tile (a row is one feature of LANES samples). Builders write the forward operations of networks and
losses; :meth:`Programme.minimise` appends the reverse operations of everything that the loss
depends on and that is trained, and nothing else: no weight gradient of a network that only passes
the gradient on, and input gradients only for the rows that lead to a trained network.

The one executor (executor.py, tile.py) runs a programme tile by tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from thrifty.engine.layout import Arena, Layer

# Operations. Columns of a row: see the builder that emits it and the executor that reads it.
(
    GATHER,
    WINDOW,
    LINEAR,
    WEIGHT_GRADIENT,
    DENSE_GRADIENT,
    INPUT_GRADIENT,
    NORMAL,
    PERTURB,
    TANH,
    TANH_REVERSE,
    MINIMUM,
    MINIMUM_REVERSE,
    MULTIPLY_ADD,
    SQUARED_ERROR,
    MEAN,
    GATE,
    PATH_DISCOUNT,
    BLEND,
    BOUND_LOG_STD,
    BOUND_LOG_STD_REVERSE,
    SAMPLE,
    SAMPLE_REVERSE,
    LOG_DENSITY,
    LOG_DENSITY_REVERSE,
    SUBTRACT_SCALED,
    LAYER_NORM,
    LAYER_NORM_REVERSE,
    SCALE,
    CLAMP,
    CLAMP_REVERSE,
    SHIFTED_LOG_DENSITY,
    SHIFTED_LOG_DENSITY_REVERSE,
) = range(32)
COLUMNS = 16


@dataclass(eq=False)
class Slot:
    """A range of rows in the tile: ``rows`` features of LANES samples."""

    row: int
    rows: int
    relu: bool = False  # the values passed a ReLU, whose gate gradients must pass
    grad: Slot | None = None
    written: bool = False  # whether the gradient has received its first contribution
    needs: bool = False  # whether a trained network lies upstream
    parts: list[Slot] = field(default_factory=list)
    whole: Slot | None = None  # the slot that this is a part of
    produced: bool = False  # written by one operation, which wants one gradient for all rows

    def part(self, start: int, rows: int) -> Slot:
        """Return a view of some rows.

        Gradients flow into the parts of a joined slot one by one, and into the one gradient of a
        slot that an operation produced.
        """
        view = Slot(self.row + start, rows, whole=self, needs=self.needs and self.produced)
        self.parts.append(view)
        return view


class Programme:
    """Builds one phase: what happens to every tile before parameters move.

    Args:
        arena: where the networks lie.
        trained: the network whose gradients this phase computes.
        first_row: first free row of the tile (phases may share loaded slots).
    """

    def __init__(self, arena: Arena, trained: str, first_row: int = 0) -> None:
        self.arena, self.trained = arena, trained
        self.table: list[list[int]] = []
        self.reverse: list[tuple[str, tuple[object, ...]]] = []
        self.height = first_row

    def slot(self, rows: int) -> Slot:
        """Reserve rows of the tile."""
        slot = Slot(self.height, rows)
        self.height += rows
        return slot

    def emit(self, operation: int, *columns: int) -> None:
        """Append one operation."""
        assert len(columns) < COLUMNS
        self.table.append([operation, *columns] + [0] * (COLUMNS - 1 - len(columns)))

    def rows(self) -> NDArray[np.int64]:
        """Return the table, int64 [operations, COLUMNS]."""
        return np.array(self.table, np.int64).reshape(len(self.table), COLUMNS)

    def dense_rows(self) -> NDArray[np.int64]:
        """Return the table that writes the dense gradients of the trained weights instead.

        It needs LANES rows of the tile beyond the programme's own.
        """
        table = self.rows()
        table[table[:, 0] == WEIGHT_GRADIENT, COLUMNS - 1] = self.height
        table[table[:, 0] == WEIGHT_GRADIENT, 0] = DENSE_GRADIENT
        return table

    # ------------------------------------------------------------ loading

    def gather(self, into: Slot, column: int, which: int) -> Slot:
        """Load replay columns of the window's first (0), last (1) or k-th (2 + k) transition."""
        self.emit(GATHER, into.row, into.rows, column, which)
        return into

    def window(self, ret: Slot, discount: Slot) -> None:
        """Load the n-step return and the bootstrap's discount."""
        self.emit(WINDOW, ret.row, discount.row)

    # ------------------------------------------------------------ networks

    def _layer_columns(self, layer: Layer) -> tuple[int, ...]:
        return (layer.index.out, layer.index.inputs, *layer.index_at, layer.values, layer.bias)

    def linear(self, x: Slot, layer: Layer, *, relu: bool, into: Slot | None = None) -> Slot:
        """Y = relu?(W x + b)."""
        assert x.rows == layer.index.inputs
        y = self.slot(layer.index.out) if into is None else into
        y.relu, y.produced = relu, True
        trains = self._trains(layer)
        y.needs = trains or x.needs or any(part.needs for part in x.parts)
        self.emit(LINEAR, x.row, y.row, int(relu), *self._layer_columns(layer))
        if y.needs:
            self.reverse.append(("linear", (x, y, layer, trains)))
        return y

    def layer_norm(self, x: Slot, layer: Layer) -> Slot:
        """Y = relu(gain (x - mean) / deviation + offset), sample by sample; x is overwritten."""
        y, statistics = self.slot(x.rows), self.slot(3)
        y.relu, y.produced, y.needs = True, True, x.needs
        self.emit(LAYER_NORM, x.row, y.row, statistics.row, x.rows, layer.norm)
        if y.needs:
            self.reverse.append(("layer_norm", (x, y, statistics, layer)))
        return y

    def mlp(self, x: Slot, layers: Sequence[Layer], into: Slot | None = None) -> Slot:
        """Linear layers with ReLU between them, normalised before it where the layer has one."""
        for layer in layers[:-1]:
            x = self.linear(x, layer, relu=layer.norm < 0)
            if layer.norm >= 0:
                x = self.layer_norm(x, layer)
        return self.linear(x, layers[-1], relu=False, into=into)

    def _trains(self, layer: Layer) -> bool:
        begin, end = self.arena.span[self.trained]
        return begin <= layer.values < end

    # ------------------------------------------------------------ elementwise

    def tanh(self, x: Slot, into: Slot | None = None) -> Slot:
        """Y = tanh(x)."""
        y = self.slot(x.rows) if into is None else into
        y.needs = x.needs
        self.emit(TANH, x.row, y.row, x.rows)
        if y.needs:
            self.reverse.append(("tanh", (x, y)))
        return y

    def normal(self, rows: int, stream: int, k: int = 0) -> Slot:
        """Standard normals of a stream, element (k, sample, row)."""
        y = self.slot(rows)
        self.emit(NORMAL, y.row, rows, stream, k)
        return y

    def perturb(self, x: Slot, noise: Slot, scale: int, clip: int, into: Slot) -> Slot:
        """Y = clip(x + clip(scale noise, -clip, clip), -1, 1); scalars by number, no gradient."""
        self.emit(PERTURB, x.row, noise.row, into.row, x.rows, scale, clip)
        return into

    def minimum(self, a: Slot, b: Slot) -> Slot:
        """Y = min(a, b)."""
        y = self.slot(a.rows)
        y.needs = a.needs or b.needs
        self.emit(MINIMUM, a.row, b.row, y.row, a.rows)
        if y.needs:
            self.reverse.append(("minimum", (a, b, y)))
        return y

    def multiply_add(self, a: Slot, b: Slot, c: Slot) -> Slot:
        """Y = a b + c; no gradient."""
        y = self.slot(a.rows)
        self.emit(MULTIPLY_ADD, a.row, b.row, c.row, y.row, a.rows)
        return y

    # ------------------------------------------------------------ a squashed Gaussian

    def path_discount(self, into: Slot, k: int) -> Slot:
        """Load the discount of the state that transition k of the window reaches (0 beyond)."""
        self.emit(PATH_DISCOUNT, into.row, k)
        return into

    def blend(self, source: Slot, into: Slot, k: int) -> None:
        """Copy the samples whose window ends with transition k."""
        self.emit(BLEND, source.row, into.row, source.rows, k)

    def scale(self, x: Slot, factor: int) -> Slot:
        """Y = factor x; a scalar by number."""
        y = self.slot(x.rows)
        y.produced, y.needs = True, x.needs
        self.emit(SCALE, x.row, y.row, x.rows, factor, 0)
        if y.needs:
            self.reverse.append(("scale", (x, y, factor)))
        return y

    def clamp(self, x: Slot, low: int, high: int) -> Slot:
        """Y = x cut at low and high; scalars by number."""
        y = self.slot(x.rows)
        y.needs = x.needs
        self.emit(CLAMP, x.row, y.row, x.rows, low, high)
        if y.needs:
            self.reverse.append(("clamp", (x, y, low, high)))
        return y

    def bound_log_std(self, raw: Slot, low: int, high: int) -> Slot:
        """Y = low + (high - low) / 2 (tanh(raw) + 1); scalars by number."""
        y = self.slot(raw.rows)
        y.needs = raw.needs
        self.emit(BOUND_LOG_STD, raw.row, y.row, raw.rows, low, high)
        if y.needs:
            self.reverse.append(("bound_log_std", (raw, y, low, high)))
        return y

    def sample(self, mean: Slot, log_std: Slot, noise: Slot) -> Slot:
        """X = mean + exp(log_std) noise."""
        x = self.slot(mean.rows)
        x.needs = mean.needs or log_std.needs
        self.emit(SAMPLE, mean.row, log_std.row, noise.row, x.row, mean.rows)
        if x.needs:
            self.reverse.append(("sample", (mean, log_std, noise, x)))
        return x

    def log_density(self, noise: Slot, log_std: Slot, x: Slot, action: Slot) -> Slot:
        """Log pi = sum over rows of log N(x) - log(1 - tanh(x)^2), one row; action is tanh(x)."""
        y = self.slot(1)
        y.needs = x.needs
        self.emit(LOG_DENSITY, noise.row, log_std.row, x.row, y.row, x.rows)
        if y.needs:
            self.reverse.append(("log_density", (log_std, x, action, y)))
        return y

    def shifted_log_density(self, noise: Slot, log_std: Slot, x: Slot, shift: int) -> Slot:
        """Log pi = sum over rows of log N(x) - log(1 - tanh(x)^2 + shift), one row."""
        y = self.slot(1)
        y.needs = x.needs
        self.emit(SHIFTED_LOG_DENSITY, noise.row, log_std.row, x.row, y.row, x.rows, shift)
        if y.needs:
            self.reverse.append(("shifted_log_density", (log_std, x, y, shift)))
        return y

    def subtract_scaled(self, y: Slot, a: Slot, b: Slot, scale: int) -> None:
        """Y -= scale a b; no gradient."""
        self.emit(SUBTRACT_SCALED, y.row, a.row, b.row, scale)

    def _reverse_scale(self, x: Slot, y: Slot, factor: int) -> None:
        assert y.grad is not None
        grad, add = self._contribution(x)
        self.emit(SCALE, y.grad.row, grad.row, x.rows, factor, add)

    def _reverse_clamp(self, x: Slot, y: Slot, low: int, high: int) -> None:
        assert y.grad is not None
        grad, add = self._contribution(x)
        self.emit(CLAMP_REVERSE, x.row, y.grad.row, grad.row, x.rows, low, high, add)

    def _reverse_bound_log_std(self, raw: Slot, y: Slot, low: int, high: int) -> None:
        assert y.grad is not None
        grad, add = self._contribution(raw)
        self.emit(BOUND_LOG_STD_REVERSE, y.row, y.grad.row, grad.row, raw.rows, low, high, add)

    def _reverse_sample(self, mean: Slot, log_std: Slot, noise: Slot, x: Slot) -> None:
        assert x.grad is not None
        mean_grad, mean_add = self._contribution(mean)
        std_grad, std_add = self._contribution(log_std)
        self.emit(
            SAMPLE_REVERSE,
            x.grad.row,
            log_std.row,
            noise.row,
            mean_grad.row,
            std_grad.row,
            x.rows,
            mean_add,
            std_add,
        )

    def _reverse_log_density(self, log_std: Slot, x: Slot, action: Slot, y: Slot) -> None:
        assert y.grad is not None
        std_grad, std_add = self._contribution(log_std)
        x_grad, x_add = self._contribution(x)
        self.emit(
            LOG_DENSITY_REVERSE,
            y.grad.row,
            action.row,
            std_grad.row,
            x_grad.row,
            x.rows,
            std_add,
            x_add,
        )

    def _reverse_shifted_log_density(self, log_std: Slot, x: Slot, y: Slot, shift: int) -> None:
        assert y.grad is not None
        std_grad, std_add = self._contribution(log_std)
        x_grad, x_add = self._contribution(x)
        self.emit(
            SHIFTED_LOG_DENSITY_REVERSE,
            y.grad.row,
            x.row,
            std_grad.row,
            x_grad.row,
            x.rows,
            shift,
            std_add,
            x_add,
        )

    # ------------------------------------------------------------ losses

    def squared_error(self, value: Slot, target: Slot, loss: int, scale: int) -> None:
        """Add scale * mean (value - target)^2 to a loss; value's gradient begins here."""
        grad = self._grad(value)
        self.emit(SQUARED_ERROR, value.row, target.row, grad.row, loss, scale)
        value.written = True

    def mean(self, value: Slot, loss: int, scale: int, total: int) -> None:
        """Add scale * mean(value) to a loss and mean(value) to a total; the gradient begins."""
        grad = self._grad(value)
        self.emit(MEAN, value.row, grad.row, loss, scale, total)
        value.written = True

    def minimise(self) -> None:
        """Append the reverse of every operation that carries a gradient."""
        for kind, operands in reversed(self.reverse):
            getattr(self, f"_reverse_{kind}")(*operands)

    def _grad(self, slot: Slot) -> Slot:
        if slot.grad is None:
            if slot.whole is not None and slot.whole.produced:
                slot.grad = Slot(self._grad(slot.whole).row + slot.row - slot.whole.row, slot.rows)
            else:
                slot.grad = self.slot(slot.rows)
        return slot.grad

    def _contribution(self, slot: Slot) -> tuple[Slot, int]:
        """Return the gradient's slot, and whether a contribution must be added to earlier ones."""
        grad, add = self._grad(slot), int(slot.written)
        slot.written = True
        return grad, add

    def _reverse_linear(self, x: Slot, y: Slot, layer: Layer, trains: bool) -> None:
        assert y.grad is not None, "a slot with a trained network upstream must reach the loss"
        columns = self._layer_columns(layer)
        if trains:
            dense = (layer.dense, self.arena.every)
            self.emit(WEIGHT_GRADIENT, x.row, y.grad.row, 0, *columns, *dense)
        wanted = [part for part in x.parts if part.needs] or ([x] if x.needs else [])
        for part in wanted:
            grad, add = self._contribution(part)
            self.emit(
                INPUT_GRADIENT,
                y.grad.row,
                grad.row,
                part.row if part.relu else -1,
                *columns,
                part.row - x.row,
                part.rows,
                add,
            )

    def _reverse_layer_norm(self, x: Slot, y: Slot, statistics: Slot, layer: Layer) -> None:
        assert y.grad is not None
        grad, _ = self._contribution(x)
        trains = int(self._trains(layer))
        self.emit(
            LAYER_NORM_REVERSE,
            x.row,
            y.grad.row,
            grad.row,
            statistics.row,
            x.rows,
            layer.norm,
            trains,
            self.arena.every,
        )

    def _reverse_tanh(self, x: Slot, y: Slot) -> None:
        assert y.grad is not None
        grad, add = self._contribution(x)
        self.emit(TANH_REVERSE, y.row, y.grad.row, grad.row, x.rows, add)
        self._gate(x, grad)

    def _reverse_minimum(self, a: Slot, b: Slot, y: Slot) -> None:
        assert y.grad is not None
        for mine, other in ((a, b), (b, a)):
            if mine.needs:
                grad, add = self._contribution(mine)
                self.emit(MINIMUM_REVERSE, mine.row, other.row, y.grad.row, grad.row, a.rows, add)
                self._gate(mine, grad)

    def _gate(self, slot: Slot, grad: Slot) -> None:
        if slot.relu:
            self.emit(GATE, slot.row, grad.row, slot.rows)
