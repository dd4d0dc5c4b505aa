"""A sparse GRU or LSTM over whole sequences, forward and through time, one compiled call each.

PyTorch's equations and order of gates, with sigma the logistic function:

    GRU    r, z = sigma(a + c)      n = tanh(a_n + r c_n)         h' = n + z (h - n)
    LSTM   i, f, o = sigma(a + c)   g = tanh(a_g + c_g)           s' = f s + i g    h' = o tanh(s')

with a = W_ih x + b_ih and c = W_hh h + b_hh. A cell is a table of two lines, W_ih and W_hh (columns
in perceptron.py). A tile of LANES sequences passes through all time steps before the next. Its tape
holds, for every step, the rows that the way back needs:

    GRU    inputs x   state h   gates r, z, n   c_n
    LSTM   inputs x   state h   memory s   gates i, f, g, o   tanh(s')

and behind the last step one more, of which only the states are used. Callers own validated,
contiguous float32 arrays and pass addresses (see sparse_recurrent.py).
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from thrifty.engine.cache import COMPILE, entry
from thrifty.engine.noise import exp32, tanh32
from thrifty.engine.perceptron import (
    INPUTS,
    ROW_BYTES,
    floats_at,
    from_tile,
    input_gradient,
    linear,
    to_tile,
    weight_gradient,
)
from thrifty.engine.vector import LANES

GATES = {"GRU": 3, "LSTM": 4}


def tape_rows(kind: str, inputs: int, hidden: int) -> int:
    """Return the rows of a time step on the tape."""
    return inputs + {"GRU": 5, "LSTM": 7}[kind] * hidden


def scratch_rows(kind: str, inputs: int, hidden: int) -> int:
    """Return the rows of scratch: for the way forward the gates, for the way back all slopes."""
    return inputs + {"GRU": 8, "LSTM": 7}[kind] * hidden


@njit(inline="always")
def _sigma(x):
    return np.float32(1.0) / (np.float32(1.0) + exp32(-x))


@njit(**COMPILE)
def _gru_gates(n, gates, recurrent, candidate, state, following):
    """Turn a (in ``gates``) and c into gates, c_n and the following state; n = H LANES floats."""
    for i in range(n):
        r = _sigma(gates[i] + recurrent[i])
        c = recurrent[2 * n + i]
        gates[i] = r
        candidate[i] = c
        gates[2 * n + i] = tanh32(gates[2 * n + i] + r * c)
    for i in range(n):
        z = _sigma(gates[n + i] + recurrent[n + i])
        new = gates[2 * n + i]
        gates[n + i] = z
        following[i] = new + z * (state[i] - new)


@njit(**COMPILE)
def _gru_slopes(n, gates, candidate, state, slope, of_inputs, of_recurrent):
    """Turn the slope of h' into those of a and of c, and into the direct part of that of h."""
    one = np.float32(1.0)
    for i in range(n):
        r, z, new = gates[i], gates[n + i], gates[2 * n + i]
        g = slope[i]
        d_new = g * (one - z) * (one - new * new)
        d_r = d_new * candidate[i] * r * (one - r)
        d_z = g * (state[i] - new) * z * (one - z)
        of_inputs[i], of_recurrent[i] = d_r, d_r
        of_inputs[n + i], of_recurrent[n + i] = d_z, d_z
        of_inputs[2 * n + i], of_recurrent[2 * n + i] = d_new, d_new * r
        slope[i] = g * z


@njit(**COMPILE)
def _lstm_gates(n, gates, recurrent, memory, squashed, next_memory, following):
    """Turn a (in ``gates``) and c into gates, tanh(s') and the following states."""
    for i in range(n):
        gates[i] = _sigma(gates[i] + recurrent[i])
        gates[2 * n + i] = tanh32(gates[2 * n + i] + recurrent[2 * n + i])
    for i in range(n):
        gates[n + i] = _sigma(gates[n + i] + recurrent[n + i])
        gates[3 * n + i] = _sigma(gates[3 * n + i] + recurrent[3 * n + i])
    for i in range(n):
        value = gates[n + i] * memory[i] + gates[i] * gates[2 * n + i]
        next_memory[i] = value
        squashed[i] = tanh32(value)
        following[i] = gates[3 * n + i] * squashed[i]


@njit(**COMPILE)
def _lstm_slopes(n, gates, memory, squashed, slope, memory_slope, of_gates):
    """Turn the slopes of h' and s' into that of a and c and that of s; h has none of its own."""
    one = np.float32(1.0)
    for i in range(n):
        enter, keep, new, leave = gates[i], gates[n + i], gates[2 * n + i], gates[3 * n + i]
        g, bent = slope[i], squashed[i]
        d_memory = memory_slope[i] + g * leave * (one - bent * bent)
        of_gates[i] = d_memory * new * enter * (one - enter)
        of_gates[n + i] = d_memory * memory[i] * keep * (one - keep)
        of_gates[2 * n + i] = d_memory * enter * (one - new * new)
        of_gates[3 * n + i] = g * bent * leave * (one - leave)
        memory_slope[i] = d_memory * keep
        slope[i] = np.float32(0.0)


@njit(**COMPILE)
def _add(n, total, more):
    for i in range(n):
        total[i] += more[i]


@njit(**COMPILE)
def _rows(address, rows):
    """Rows of a tile as one array."""
    return carray(floats_at(address), (rows * LANES,))


@entry
def forward(
    lstm, table, values, biases, x, state, memory, y, last, last_memory, steps, batch, tape, rows,
    keep, scratch,
):  # fmt: skip
    """Fill y with the states of a GRU or LSTM after every step.

    Args:
        lstm: whether the cell is an LSTM, else a GRU.
        table: int64 [2, COLUMNS], W_ih and W_hh.
        values: address of the flat link values; ``biases`` likewise.
        x: address of rows of inputs [steps, batch, inputs].
        state: address of the first h [batch, hidden]; 0: zeros. ``memory`` likewise, the first s.
        y: address of rows of states [steps, batch, hidden], written.
        last: address of the last h [batch, hidden], written. ``last_memory`` likewise.
        steps: of time; at least 1.
        batch: sequences.
        tape: address of the tape.
        rows: of a step on it.
        keep: whether every step is kept, tile after tile; else all use the first two in turn.
        scratch: address of scratch rows.
    """
    inputs, hidden = table[0, INPUTS], table[1, INPUTS]
    n, step = hidden * LANES, rows * ROW_BYTES
    gates = 4 if lstm else 3
    recurrent = _rows(scratch, gates * hidden)
    for first in range(0, batch, LANES):
        lanes = min(LANES, batch - first)
        begin = tape + ((first // LANES) * (steps + 1) * step if keep else 0)
        at = begin
        h = at + inputs * ROW_BYTES
        if state != 0:
            to_tile(state + first * hidden * 4, h, hidden, lanes)
        else:
            _rows(h, hidden)[:] = np.float32(0.0)
        if lstm:
            if memory != 0:
                to_tile(memory + first * hidden * 4, h + hidden * ROW_BYTES, hidden, lanes)
            else:
                _rows(h + hidden * ROW_BYTES, hidden)[:] = np.float32(0.0)
        for t in range(steps):
            following = at + step if keep else begin + ((t + 1) % 2) * step
            h, next_h = at + inputs * ROW_BYTES, following + inputs * ROW_BYTES
            to_tile(x + (t * batch + first) * inputs * 4, at, inputs, lanes)
            own = h + (2 if lstm else 1) * hidden * ROW_BYTES
            linear(table[0], values, biases, at, own)
            linear(table[1], values, biases, h, scratch)
            gate_rows, behind = (
                _rows(own, gates * hidden),
                _rows(own + gates * hidden * ROW_BYTES, hidden),
            )
            if lstm:
                _lstm_gates(
                    n,
                    gate_rows,
                    recurrent,
                    _rows(h + hidden * ROW_BYTES, hidden),
                    behind,
                    _rows(next_h + hidden * ROW_BYTES, hidden),
                    _rows(next_h, hidden),
                )
            else:
                _gru_gates(n, gate_rows, recurrent, behind, _rows(h, hidden), _rows(next_h, hidden))
            from_tile(next_h, y + (t * batch + first) * hidden * 4, hidden, lanes)
            at = following
        h = at + inputs * ROW_BYTES
        from_tile(h, last + first * hidden * 4, hidden, lanes)
        if lstm:
            from_tile(h + hidden * ROW_BYTES, last_memory + first * hidden * 4, hidden, lanes)


@entry
def backward(
    lstm, table, values, dy, d_last, d_last_memory, steps, batch, tape, rows, scratch, wanted,
    d_values, d_biases, dx, d_state, d_memory,
):  # fmt: skip
    """Gradients of values and biases, inputs and first states, from those of the outputs.

    Args:
        lstm: whether the cell is an LSTM, else a GRU.
        table: int64 [2, COLUMNS].
        values: address of the flat link values.
        dy: address of rows [steps, batch, hidden].
        d_last: address of rows [batch, hidden], of the last h; 0: none. ``d_last_memory`` likewise.
        steps: of time.
        batch: sequences.
        tape: address of the tape, every step kept, as ``forward`` left it.
        rows: of a step on it.
        scratch: address of scratch rows.
        wanted: whether the next two are.
        d_values: address of the values' gradient, zeros at first.
        d_biases: address of the biases' gradient, zeros at first.
        dx: address of rows [steps, batch, inputs], written; 0: not wanted.
        d_state: address of rows [batch, hidden], written; 0: not wanted. ``d_memory`` likewise.
    """
    inputs, hidden = table[0, INPUTS], table[1, INPUTS]
    n, step = hidden * LANES, rows * ROW_BYTES
    gates = 4 if lstm else 3
    # Scratch: slopes of x, of h, of s or of dy, of a, and for a GRU of c.
    slope_at = scratch + inputs * ROW_BYTES
    other_at = slope_at + hidden * ROW_BYTES
    memory_at = other_at + hidden * ROW_BYTES
    of_inputs = memory_at if not lstm else memory_at + hidden * ROW_BYTES
    of_recurrent = of_inputs if lstm else of_inputs + gates * hidden * ROW_BYTES
    slope, other = _rows(slope_at, hidden), _rows(other_at, hidden)
    for first in range(0, batch, LANES):
        lanes = min(LANES, batch - first)
        if d_last != 0:
            to_tile(d_last + first * hidden * 4, slope_at, hidden, lanes)
        else:
            slope[:] = np.float32(0.0)
        if lstm:
            if d_last_memory != 0:
                to_tile(d_last_memory + first * hidden * 4, memory_at, hidden, lanes)
            else:
                _rows(memory_at, hidden)[:] = np.float32(0.0)
        at = tape + (first // LANES) * (steps + 1) * step + steps * step
        for back in range(steps):
            t = steps - 1 - back
            at -= step
            h = at + inputs * ROW_BYTES
            own = h + (2 if lstm else 1) * hidden * ROW_BYTES
            to_tile(dy + (t * batch + first) * hidden * 4, other_at, hidden, lanes)
            _add(n, slope, other)
            gate_rows, behind = (
                _rows(own, gates * hidden),
                _rows(own + gates * hidden * ROW_BYTES, hidden),
            )
            if lstm:
                _lstm_slopes(
                    n,
                    gate_rows,
                    _rows(h + hidden * ROW_BYTES, hidden),
                    behind,
                    slope,
                    _rows(memory_at, hidden),
                    _rows(of_inputs, gates * hidden),
                )
            else:
                _gru_slopes(
                    n,
                    gate_rows,
                    behind,
                    _rows(h, hidden),
                    slope,
                    _rows(of_inputs, gates * hidden),
                    _rows(of_recurrent, gates * hidden),
                )
            if wanted:
                weight_gradient(table[0], of_inputs, at, d_values, d_biases)
                weight_gradient(table[1], of_recurrent, h, d_values, d_biases)
            input_gradient(table[1], values, of_recurrent, slope_at, slope_at, False, True)
            if dx != 0:
                input_gradient(table[0], values, of_inputs, scratch, scratch, False, False)
                from_tile(scratch, dx + (t * batch + first) * inputs * 4, inputs, lanes)
        if d_state != 0:
            from_tile(slope_at, d_state + first * hidden * 4, hidden, lanes)
        if lstm and d_memory != 0:
            from_tile(memory_at, d_memory + first * hidden * 4, hidden, lanes)
