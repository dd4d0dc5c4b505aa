"""The one executor: runs programmes of operations over tiles, many updates a call.

An update is a list of phases. In a phase every tile of LANES samples passes through the phase's
operations with its activations in cache (tile.py); then the trained network's parameters take their
Adam step, and targets follow.
"""

from __future__ import annotations

import numpy as np

from thrifty.engine.cache import entry
from thrifty.engine.optim import BETA1, BETA2, adam, polyak
from thrifty.engine.tile import run_tile
from thrifty.engine.vector import LANES
from thrifty.engine.windows import draw_rows, windows

TILES, ADAM, POLYAK, TEMPERATURE = range(4)
SCRIPT_COLUMNS = 6


@entry
def run_updates(
    count,
    update,
    script,
    table,
    index,
    params,
    grads,
    dense,
    first,
    second,
    steps,
    scalars,
    losses,
    loss_counts,
    totals,
    data,
    live_from,
    total,
    environments,
    columns,
    batch,
    n_step,
    n_step_from,
    discount,
    keys,
    temperature,
    tile,
):
    """Do ``count`` updates; returns the number of updates done so far.

    Args:
        count: updates to do.
        update: updates done before.
        script: int64 [lines, SCRIPT_COLUMNS]: what follows what, each with its period.
        table: operations of all phases.
        dense: takes the dense gradients where the table asks for them.
        steps: optimizer steps of each trained network so far.
        losses: sums over updates of each loss; ``loss_counts`` how many.
        columns: replay columns of reward, terminated, ended, valid.
        tile: scratch, aligned to 64 bytes.
    """
    rows = np.empty(batch, np.int64)
    last = np.empty(batch, np.int64)
    # Before windows grow to n_step, the later transitions of a path are nobody's and weigh nothing.
    path = np.zeros((n_step, batch), np.int64)
    path_disc = np.zeros((n_step, batch), np.float32)
    lengths = np.empty(batch, np.int64)
    ret = np.empty(batch, np.float32)
    disc = np.empty(batch, np.float32)
    base = tile.ctypes.data
    for _ in range(count):
        update += 1
        n = n_step if update >= n_step_from else 1
        draw_rows(rows, keys[0], update, live_from, total, data, columns[3])
        windows(
            rows,
            last,
            path,
            path_disc,
            lengths,
            ret,
            disc,
            data,
            total,
            environments,
            n,
            discount,
            columns[0],
            columns[1],
            columns[2],
        )
        for line in range(script.shape[0]):
            if update % script[line, 4] != 0:
                continue
            kind, a, b, c = script[line, 0], script[line, 1], script[line, 2], script[line, 3]
            if kind == TILES:
                totals[:] = 0.0
                for start in range(0, batch, LANES):  # a literal 0 would compile everything twice
                    run_tile(
                        table[a:b],
                        base,
                        index,
                        params,
                        grads,
                        dense,
                        scalars,
                        losses,
                        totals,
                        data,
                        rows,
                        last,
                        path,
                        path_disc,
                        lengths,
                        ret,
                        disc,
                        keys,
                        update,
                        batch,
                        start,
                    )
                loss_counts[c] += 1
            elif kind == ADAM:
                steps[c] += 1
                adam(
                    params,
                    grads,
                    first,
                    second,
                    a,
                    b,
                    steps[c],
                    scalars[script[line, 5]],
                    BETA1,
                    BETA2,
                    1e-8,
                    True,
                )
            elif kind == TEMPERATURE:
                # -log alpha (log pi + target entropy): one Adam step on log alpha.
                steps[c] += 1
                temperature[1] = -(totals[a] + temperature[4])
                gradient, slope = temperature[1:2], temperature[0:1]
                adam(
                    slope,
                    gradient,
                    temperature[2:3],
                    temperature[3:4],
                    0,
                    1,
                    steps[c],
                    scalars[script[line, 5]],
                    BETA1,
                    BETA2,
                    1e-8,
                    True,
                )
                scalars[b] = np.float32(np.exp(np.float64(temperature[0])))
            else:
                polyak(params, a, b, c, scalars[script[line, 5]])
    return update
