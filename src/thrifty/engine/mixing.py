"""QMIX's mixing network with its hypernetworks, forward and backward, one compiled call each.

    Q_tot = |w_2|' elu( |W_1|' q + b_1 ) + v,    W_1, b_1, w_2 and v made from the state

Four perceptrons (W_1, b_1, w_2, v, in this order) stand in one table, one below the other (columns
in perceptron.py). A tile of LANES samples passes through all of it; on the way back its forward
pass is made again, so nothing is kept between the two but the inputs. Callers own validated,
contiguous float32 arrays and pass addresses.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from thrifty.engine.cache import COMPILE, entry
from thrifty.engine.noise import exp32
from thrifty.engine.partials import SUM_BYTES, add_layer, add_up
from thrifty.engine.perceptron import (
    BIAS,
    RELU,
    ROW_BYTES,
    floats_at,
    from_tile,
    input_gradient,
    linear,
    to_tile,
)
from thrifty.engine.vector import LANES

NETWORKS = 4
"""Perceptrons of a mixer: W_1, b_1, w_2, v."""
_W1, _B1, _W2, _V = range(NETWORKS)
LAYERS, LINKS, OUTPUTS = range(3)
"""Columns of what lies before each perceptron, and before the end: layers, links, outputs."""
_ANY = 1 << 31


def scratch_rows(state: int, agents: int, embed: int, outputs: int, widest: int) -> int:
    """Return the rows of scratch that either way needs.

    Args:
        state: width of a state.
        agents: how many there are.
        embed: width of the mixer.
        outputs: of all layers of all perceptrons together.
        widest: of all layers' inputs and outputs.
    """
    slopes = agents * embed + 2 * embed + 1
    return state + 2 * agents + outputs + 2 * embed + slopes + 2 * widest + 1


@njit(**COMPILE)
def _rows(address, rows):
    return carray(floats_at(address), (rows * LANES,))


@njit(**COMPILE)
def _perceptrons(table, begins, parameters, state, outputs, last):
    """Apply all perceptrons to a tile of states.

    Args:
        table: int64 [layers, COLUMNS]; every layer has biases.
        begins: see :func:`forward`.
        parameters: addresses of values and biases, int64 [NETWORKS, 2].
        state: address of the tile.
        outputs: address of the outputs of all layers, written one below the other.
        last: int64 [NETWORKS], written: where those of each last layer stand.
    """
    for k in range(NETWORKS):
        x = state
        for layer in range(begins[k, LAYERS], begins[k + 1, LAYERS]):
            y = outputs + (begins[k, OUTPUTS] + table[layer, BIAS]) * ROW_BYTES
            linear(table[layer], parameters[k, 0], parameters[k, 1], x, y)
            x = y
        last[k] = x


@njit(**COMPILE)
def _mix(agents, embed, q, w1, b1, w2, v, hidden, total):
    """Fill hidden, elu(...) [embed], and the joint value from tile rows."""
    hidden[:] = b1
    for n in range(agents):
        for e in range(embed):
            for lane in range(LANES):
                weight = w1[(n * embed + e) * LANES + lane]
                hidden[e * LANES + lane] += q[n * LANES + lane] * abs(weight)
    for i in range(embed * LANES):
        value = hidden[i]
        bent = exp32(min(value, np.float32(0.0))) - np.float32(1.0)
        hidden[i] = value if value > np.float32(0.0) else bent
    total[:] = v
    for e in range(embed):
        for lane in range(LANES):
            total[lane] += hidden[e * LANES + lane] * abs(w2[e * LANES + lane])


@njit(inline="always")
def _sign(x):
    one = np.float32(1.0)
    return one if x > 0 else (-one if x < 0 else np.float32(0.0))


@njit(**COMPILE)
def _slopes(agents, embed, slope, q, w1, w2, hidden, d_w1, d_b1, d_w2, d_q):
    """Fill the slopes of what the perceptrons give, and of the individual values."""
    for e in range(embed):
        for lane in range(LANES):
            i = e * LANES + lane
            d_w2[i] = slope[lane] * hidden[i] * _sign(w2[i])
            bent = np.float32(1.0) if hidden[i] > 0 else hidden[i] + np.float32(1.0)
            d_b1[i] = slope[lane] * abs(w2[i]) * bent
    d_q[:] = np.float32(0.0)
    for n in range(agents):
        for e in range(embed):
            for lane in range(LANES):
                i, j = e * LANES + lane, (n * embed + e) * LANES + lane
                d_w1[j] = d_b1[i] * q[n * LANES + lane] * _sign(w1[j])
                d_q[n * LANES + lane] += d_b1[i] * abs(w1[j])


@entry
def forward(
    table, begins, parameters, agents, embed, values, state, width, samples, total, scratch
):
    """Fill the joint values.

    Args:
        table: int64 [layers, COLUMNS]; every layer has biases.
        begins: layers, links and outputs before each perceptron and before the end, int64
            [NETWORKS + 1, 3].
        parameters: addresses of values and biases, int64 [NETWORKS, 2].
        agents: how many there are.
        embed: width of the mixer.
        values: address of rows of individual values [samples, agents].
        state: address of rows of states [samples, width].
        width: of a state.
        samples: how many there are.
        total: address of joint values [samples], written.
        scratch: address of scratch rows.
    """
    last = np.empty(NETWORKS, np.int64)
    q_at = scratch + width * ROW_BYTES
    hidden_at = q_at + agents * ROW_BYTES
    total_at = hidden_at + embed * ROW_BYTES
    for first in range(0, samples, LANES):
        lanes = min(LANES, samples - first)
        to_tile(state + first * width * 4, scratch, width, lanes)
        to_tile(values + first * agents * 4, q_at, agents, lanes)
        _perceptrons(table, begins, parameters, scratch, total_at + ROW_BYTES, last)
        _mix(
            agents,
            embed,
            _rows(q_at, agents),
            _rows(last[_W1], agents * embed),
            _rows(last[_B1], embed),
            _rows(last[_W2], embed),
            _rows(last[_V], 1),
            _rows(hidden_at, embed),
            _rows(total_at, 1),
        )
        from_tile(total_at, total + first * 4, 1, lanes)


@entry
def backward(
    table, begins, parameters, agents, embed, values, state, width, samples, d_total, scratch,
    widest, wanted, partials, d_parameters, d_values,
):  # fmt: skip
    """Gradients of all values and biases, and of the individual values, from those of Q_tot.

    Args:
        table: as in :func:`forward`, as all that is not named here.
        d_total: address of slopes of joint values [samples].
        scratch: address of scratch rows.
        widest: the width of the widest layer.
        wanted: whether the parameters' gradients are.
        partials: address of zeros, WIDTH floats for every link and then for every bias.
        d_parameters: addresses of the gradients of values and biases, int64 [NETWORKS, 2], written.
        d_values: address of rows [samples, agents], written.
    """
    last = np.empty(NETWORKS, np.int64)
    q_at = scratch + width * ROW_BYTES
    hidden_at = q_at + agents * ROW_BYTES
    total_at = hidden_at + embed * ROW_BYTES
    outputs = total_at + ROW_BYTES
    d_w1 = outputs + begins[NETWORKS, OUTPUTS] * ROW_BYTES
    d_b1 = d_w1 + agents * embed * ROW_BYTES
    d_w2 = d_b1 + embed * ROW_BYTES
    d_v = d_w2 + embed * ROW_BYTES
    d_q = d_v + ROW_BYTES
    spare = d_q + agents * ROW_BYTES
    bias_sums = partials + begins[NETWORKS, LINKS] * SUM_BYTES
    for first in range(0, samples, LANES):
        lanes = min(LANES, samples - first)
        to_tile(state + first * width * 4, scratch, width, lanes)
        to_tile(values + first * agents * 4, q_at, agents, lanes)
        _perceptrons(table, begins, parameters, scratch, outputs, last)
        q, hidden = _rows(q_at, agents), _rows(hidden_at, embed)
        w1, w2 = _rows(last[_W1], agents * embed), _rows(last[_W2], embed)
        b1, v = _rows(last[_B1], embed), _rows(last[_V], 1)
        _mix(agents, embed, q, w1, b1, w2, v, hidden, _rows(total_at, 1))
        to_tile(d_total + first * 4, d_v, 1, lanes)
        _slopes(
            agents,
            embed,
            _rows(d_v, 1),
            q,
            w1,
            w2,
            hidden,
            _rows(d_w1, agents * embed),
            _rows(d_b1, embed),
            _rows(d_w2, embed),
            _rows(d_q, agents),
        )
        from_tile(d_q, d_values + first * agents * 4, agents, lanes)
        if not wanted:
            continue
        for k in range(NETWORKS):
            upper = d_w1 if k == _W1 else d_b1 if k == _B1 else d_w2 if k == _W2 else d_v
            lower, other = spare, spare + widest * ROW_BYTES
            for layer in range(begins[k + 1, LAYERS] - 1, begins[k, LAYERS] - 1, -1):
                line = table[layer]
                inner = layer > begins[k, LAYERS]
                x = scratch
                if inner:
                    x = outputs + (begins[k, OUTPUTS] + table[layer - 1, BIAS]) * ROW_BYTES
                links = partials + begins[k, LINKS] * SUM_BYTES
                biases = bias_sums + (begins[k, OUTPUTS] + line[BIAS]) * SUM_BYTES
                add_layer(line, upper, x, links, biases)
                if inner:
                    gated = table[layer - 1, RELU] != 0
                    input_gradient(line, parameters[k, 0], upper, lower, x, gated, False)
                    upper, lower, other = lower, other, lower
    if not wanted:
        return
    for k in range(NETWORKS):
        links = begins[k + 1, LINKS] - begins[k, LINKS]
        biases = begins[k + 1, OUTPUTS] - begins[k, OUTPUTS]
        add_up(partials + begins[k, LINKS] * SUM_BYTES, links, d_parameters[k, 0])
        add_up(bias_sums + begins[k, OUTPUTS] * SUM_BYTES, biases, d_parameters[k, 1])
