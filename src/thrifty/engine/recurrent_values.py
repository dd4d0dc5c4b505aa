"""Recurrent values of many sequences, forward and through time, one compiled call each.

A network is linear, ReLU, GRU, linear: a table of four lines (columns in perceptron.py), the first
with ReLU, then W_ih, W_hh and the last; all have biases. Its inputs at a step are an observation,
the one-hot last action and the one-hot number of the agent; the one-hot parts are never stored.

Sequences have different lengths. They are laid end to end in the LANES lanes of one tile, the
longest first and each where the least is (:func:`pack`); a lane forgets its state where a sequence
begins. So no step is spent on padding but at the end of the shorter lanes. Of the way forward the
states alone are kept (the tape): all else is made again on the way back, which costs less than its
memory traffic. Callers own validated, contiguous arrays and pass addresses.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit
from numpy.typing import NDArray

from thrifty.engine.cache import COMPILE, entry
from thrifty.engine.gru_unit import gru_unit, gru_unit_back
from thrifty.engine.isa import TARGET
from thrifty.engine.partials import SUM_BYTES, add_layer, add_up, links_of
from thrifty.engine.perceptron import (
    BIAS,
    COLS,
    INPUTS,
    OUT,
    ROW_BYTES,
    STARTS,
    VALUES,
    floats_at,
    input_gradient,
    linear,
)
from thrifty.engine.vector import LANES, transpose_block

Ints = NDArray[np.int64]

_ANY = 1 << 31
_BLOCK = TARGET.width


def pack(lengths: Ints, first: Ints, step: int) -> Ints:
    """Return which row each lane works on at each step, int64 [steps, LANES]; -1 is none.

    Args:
        lengths: of the sequences, int64, at least 1.
        first: row of each sequence's first step, int64.
        step: from a row of a sequence to its next one.
    """
    longest_first = np.argsort(-lengths, kind="stable")
    rows: Ints = _pack(longest_first, lengths, first, step)
    return rows


@entry
def _pack(order, lengths, first, step):
    begins, lanes = np.empty(len(lengths), np.int64), np.empty(len(lengths), np.int64)
    ends = np.zeros(LANES, np.int64)
    for sequence in order:
        lane = np.argmin(ends)
        begins[sequence], lanes[sequence] = ends[lane], lane
        ends[lane] += lengths[sequence]
    rows = np.full((np.max(ends), LANES), -1, np.int64)
    for sequence in range(len(lengths)):
        for t in range(lengths[sequence]):
            rows[begins[sequence] + t, lanes[sequence]] = first[sequence] + t * step
    return rows


def scratch_rows(inputs: int, hidden: int, outputs: int) -> int:
    """Return the rows of scratch that either way needs."""
    return inputs + outputs + 5 * hidden


@njit(**COMPILE)
def _rows(address, rows):
    return carray(floats_at(address), (rows * LANES,))


@njit(**COMPILE)
def _enter(lanes, seen, observation, width, last_action, actions, agents, sources, tile):
    """Fill a tile with the inputs at one step.

    Args:
        lanes: rows that the lanes work on, int64 [LANES]; -1 is none.
        seen: where their observations begin, likewise.
        observation: address of the observations, of ``width`` floats each.
        width: of an observation.
        last_action: int64, the action before each row; -1 is none.
        actions: how many there are.
        agents: how many there are; the agent of a row is its remainder.
        sources: int64 [_BLOCK], scratch.
        tile: address, written.
    """
    one_hot = _rows(tile + width * ROW_BYTES, actions + agents)
    one_hot[:] = np.float32(0.0)
    for lane in range(LANES):
        row = lanes[lane]
        if row >= 0:
            if last_action[row] >= 0:
                one_hot[last_action[row] * LANES + lane] = np.float32(1.0)
            one_hot[(actions + row % agents) * LANES + lane] = np.float32(1.0)
    if width < _BLOCK:
        numbers, goal = carray(floats_at(observation), (_ANY,)), _rows(tile, width)
        for column in range(width):
            for lane in range(LANES):
                goal[column * LANES + lane] = numbers[max(seen[lane], 0) + column]
        return
    for lane in range(0, LANES, _BLOCK):
        column = 0
        while column < width:
            # The last block may overlap the one before, which writes some floats twice.
            column = min(column, width - _BLOCK)
            for k in range(_BLOCK):  # a lane without work sees the first observation: no matter
                sources[k] = observation + (max(seen[lane + k], 0) + column) * 4
            transpose_block(sources.ctypes.data, tile + column * ROW_BYTES + lane * 4)
            column += _BLOCK


@njit(**COMPILE)
def _begin(lanes, step, state, rows, hidden):
    """Put the first states of sequences that begin into their lanes of ``hidden`` tile rows."""
    goal, source = carray(floats_at(rows), (_ANY,)), carray(floats_at(state), (_ANY,))
    for lane in range(LANES):
        row = lanes[lane]
        if 0 <= row < step:
            for h in range(hidden):
                value = source[row * hidden + h] if state != 0 else np.float32(0.0)
                goal[h * LANES + lane] = value


@njit(**COMPILE)
def _leave(lanes, step, rows, states, hidden):
    """Copy the states after the first steps of sequences from tile rows to rows of states."""
    source, goal = carray(floats_at(rows), (_ANY,)), carray(floats_at(states), (_ANY,))
    for lane in range(LANES):
        row = lanes[lane]
        if 0 <= row < step:
            for h in range(hidden):
                goal[row * hidden + h] = source[h * LANES + lane]


@njit(**COMPILE)
def _gate(x, slopes):
    """Set slopes to 0 where ReLU was shut."""
    for i in range(len(x)):
        if x[i] <= 0.0:
            slopes[i] = np.float32(0.0)


@njit(**COMPILE)
def _step(table, memory, x, h, following, hidden):
    """Fill a tile of states from those of the first layer's outputs and of the states before."""
    first, second = table[1], table[2]
    for unit in range(hidden):
        gru_unit(
            unit,
            hidden,
            memory[0] + first[VALUES] * 4,
            first[COLS],
            first[STARTS],
            memory[1] + first[BIAS] * 4,
            memory[0] + second[VALUES] * 4,
            second[COLS],
            second[STARTS],
            memory[1] + second[BIAS] * 4,
            x,
            h,
            following,
        )


@njit(**COMPILE)
def _step_back(
    table, memory, x, h, following, slope, of_x, of_h, links, bias_sums, again, hidden
):  # fmt: skip
    """Make a step again, and pass the slopes of its states on; see ``gru_unit_back``."""
    first, second = table[1], table[2]
    for unit in range(hidden):
        gru_unit_back(
            unit,
            hidden,
            memory[0] + first[VALUES] * 4,
            first[COLS],
            first[STARTS],
            memory[1] + first[BIAS] * 4,
            memory[0] + second[VALUES] * 4,
            second[COLS],
            second[STARTS],
            memory[1] + second[BIAS] * 4,
            x,
            h,
            following,
            slope,
            of_x,
            of_h,
            links + first[VALUES] * SUM_BYTES,
            links + second[VALUES] * SUM_BYTES,
            bias_sums,
            again,
        )


@entry
def forward(
    table, first, memory, last, lanes, seen, observation, width, last_action, actions, agents, step,
    state, q, following, tape, keep, scratch,
):  # fmt: skip
    """Fill q with the values at every row that some lane works on.

    Args:
        table: int64 [4, COLUMNS].
        first: addresses of values and biases of the first layer; ``memory`` and ``last`` likewise.
        lanes: from :func:`pack`, int64 [steps, LANES].
        seen: likewise, but for each row where its observation begins, in floats.
        observation: address of the observations, of ``width`` floats each.
        width: of an observation.
        last_action: int64, the action before each row; -1 is none.
        actions: how many there are.
        agents: how many there are; the agent of a row is its remainder.
        step: from a row to the same sequence's next one; rows below it begin a sequence.
        state: address of the states before the rows below ``step``, rows of the hidden size; 0:
            zeros.
        q: address of rows of values, written.
        following: address of the states after the rows below ``step``, written; 0: not wanted.
        tape: address of the tape, a tile of states for every step and one more.
        keep: whether every step is kept; else all use the first two in turn.
        scratch: address of scratch rows.
    """
    inputs, hidden, outputs = table[0, INPUTS], table[0, OUT], table[3, OUT]
    size = hidden * ROW_BYTES
    entered = scratch + inputs * ROW_BYTES
    values_at = entered + size
    values = carray(floats_at(values_at), (_ANY,))
    goal = carray(floats_at(q), (_ANY,))
    sources = np.empty(_BLOCK, np.int64)
    h = tape
    _rows(h, hidden)[:] = np.float32(0.0)
    for s in range(len(lanes)):
        next_h = tape + (s + 1 if keep else (s + 1) % 2) * size
        _enter(
            lanes[s], seen[s], observation, width, last_action, actions, agents, sources, scratch
        )
        linear(table[0], first[0], first[1], scratch, entered)
        _begin(lanes[s], step, state, h, hidden)
        _step(table, memory, entered, h, next_h, hidden)
        linear(table[3], last[0], last[1], next_h, values_at)
        for lane in range(LANES):
            row = lanes[s, lane]
            if row >= 0:
                for u in range(outputs):
                    goal[row * outputs + u] = values[u * LANES + lane]
        if following != 0:
            _leave(lanes[s], step, next_h, following, hidden)
        h = next_h


@entry
def backward(
    table, first, memory, last, lanes, seen, observation, width, last_action, actions, agents, step,
    dq, tape, scratch, partials, d_first, d_memory, d_last,
):  # fmt: skip
    """Gradients of all values and biases from those of q; states at the beginning were zeros.

    Args:
        table: as in :func:`forward`, as all that is not named here.
        dq: address of rows of slopes of values.
        tape: address of the tape, every step kept.
        scratch: address of scratch rows.
        partials: address of zeros: WIDTH floats for every link, and then for every bias of the
            first layer, of W_ih, of the last gate of W_hh, and of the last layer.
        d_first: addresses of the gradients of values and biases of the first layer, written;
            ``d_memory`` and ``d_last`` likewise.
    """
    inputs, hidden, outputs = table[0, INPUTS], table[0, OUT], table[3, OUT]
    size = hidden * ROW_BYTES
    entered = scratch + inputs * ROW_BYTES
    of_entered, following = entered + size, entered + 2 * size
    slope, of_h, of_q = entered + 3 * size, entered + 4 * size, entered + 5 * size
    slopes_of_q = _rows(of_q, outputs)
    source = carray(floats_at(dq), (_ANY,))
    sources = np.empty(_BLOCK, np.int64)
    # Where the sums of each layer's links and biases begin.
    memory_links = partials + links_of(table[0]) * SUM_BYTES
    last_links = memory_links + (links_of(table[1]) + links_of(table[2])) * SUM_BYTES
    first_biases = last_links + links_of(table[3]) * SUM_BYTES
    gate_biases = first_biases + hidden * SUM_BYTES
    again = gate_biases + 3 * hidden * SUM_BYTES
    last_biases = again + hidden * SUM_BYTES
    _rows(slope, hidden)[:] = np.float32(0.0)
    for s in range(len(lanes) - 1, -1, -1):
        h = tape + s * size
        slopes_of_q[:] = np.float32(0.0)
        for lane in range(LANES):
            row = lanes[s, lane]
            if row >= 0:
                for u in range(outputs):
                    slopes_of_q[u * LANES + lane] = source[row * outputs + u]
        input_gradient(table[3], last[0], of_q, slope, slope, False, True)
        _enter(
            lanes[s], seen[s], observation, width, last_action, actions, agents, sources, scratch
        )
        linear(table[0], first[0], first[1], scratch, entered)
        _rows(of_entered, hidden)[:] = np.float32(0.0)
        _rows(of_h, hidden)[:] = np.float32(0.0)
        _step_back(
            table, memory, entered, h, following, slope, of_entered, of_h, memory_links,
            gate_biases, again, hidden,
        )  # fmt: skip
        add_layer(table[3], of_q, following, last_links, last_biases)
        _gate(_rows(entered, hidden), _rows(of_entered, hidden))
        add_layer(table[0], of_entered, scratch, partials, first_biases)
        _begin(lanes[s], step, 0, of_h, hidden)
        slope, of_h = of_h, slope
    add_up(partials, links_of(table[0]), d_first[0])
    add_up(memory_links, links_of(table[1]) + links_of(table[2]), d_memory[0])
    add_up(last_links, links_of(table[3]), d_last[0])
    add_up(first_biases, hidden, d_first[1])
    add_up(gate_biases, 3 * hidden, d_memory[1])
    add_up(gate_biases, 2 * hidden, d_memory[1] + 3 * hidden * 4)
    add_up(again, hidden, d_memory[1] + 5 * hidden * 4)
    add_up(last_biases, outputs, d_last[1])
