"""The one executor: runs programmes of operations over tiles, many updates a call.

An update is a list of phases. In a phase every tile of LANES samples passes through the phase's
operations with its activations in cache (tile.py); then the trained network's parameters take their
Adam step, and targets follow. The tiles of a phase may be shared with helpers (board.py): threads
that are in the same function, with a part of their own.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from thrifty.engine.board import AWAKE, DONE, PATIENCE, TAKEN, TURN, WORK, pause, seen, show, take
from thrifty.engine.cache import COMPILE, entry
from thrifty.engine.optim import BETA1, BETA2, adam, polyak
from thrifty.engine.tile import run_tile
from thrifty.engine.vector import LANES
from thrifty.engine.windows import draw_rows, windows

TILES, ADAM, POLYAK, TEMPERATURE = range(4)
SCRIPT_COLUMNS = 6


@entry
def run_updates(
    part,
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
    rows,
    last,
    path,
    path_disc,
    lengths,
    ret,
    disc,
    parts,
    board,
    n_step,
    n_step_from,
    discount,
    keys,
    temperature,
    tiles,
):
    """Do ``count`` updates; returns the number of updates done so far.

    Args:
        part: 0; or what a helper does: its part of each phase, until nothing is posted any more.
        count: updates to do.
        update: updates done before.
        script: int64 [lines, SCRIPT_COLUMNS]: what follows what, each with its period.
        table: operations of all phases.
        grads: float32 [parts, ...], sums of each part; those of the first are whole in the end.
        dense: takes the dense gradients where the table asks for them.
        steps: optimizer steps of each trained network so far.
        losses: [parts, ...] sums over updates of each loss; ``loss_counts`` how many.
        totals: [parts, ...] sums over the samples of the last phase.
        columns: replay columns of reward, terminated, ended, valid.
        rows: [batch] scratch, as are the six below it; ``path`` and ``path_disc`` [n_step, batch].
            Before windows grow to n_step, the later transitions of a path weigh nothing.
        parts: int64 [parts, 2], begin and end of each part's samples, on borders of tiles.
        board: where work is posted, a line for each part.
        tiles: int64 [parts], addresses of scratch, aligned to 64 bytes.
    """
    if part > 0:
        line = board[part].ctypes.data
        waited = 0
        while waited < PATIENCE:
            turn = seen(line + 8 * TURN)
            if turn != seen(line + 8 * TAKEN) and take(line, turn):
                _pass(
                    part,
                    table[board[part, WORK] : board[part, WORK + 1]],
                    board[part, WORK + 2],
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
                    parts,
                    keys,
                    tiles,
                )
                show(line + 8 * DONE, turn)
                waited = 0
            else:
                pause()
                waited += 1
        show(line + 8 * AWAKE, 0)
        return update
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
                for p in range(1, len(parts)):
                    board[p, WORK], board[p, WORK + 1], board[p, WORK + 2] = a, b, update
                    show(board[p].ctypes.data + 8 * TURN, board[p, TURN] + 1)
                for p in range(len(parts)):
                    if p == 0 or take(board[p].ctypes.data, board[p, TURN]):
                        _pass(
                            p,
                            table[a:b],
                            update,
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
                            parts,
                            keys,
                            tiles,
                        )
                    else:
                        while seen(board[p].ctypes.data + 8 * DONE) != board[p, TURN]:
                            pause()
                for p in range(1, len(parts)):
                    _give(grads[p], grads[0])
                    _give(losses[p], losses[0])
                    _give(totals[p], totals[0])
                loss_counts[c] += 1
            elif kind == ADAM:
                steps[c] += 1
                adam(
                    params,
                    grads[0],
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
                temperature[1] = -(totals[0, a] + temperature[4])
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


@njit(**COMPILE)
def _pass(
    part,
    table,
    update,
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
    parts,
    keys,
    tiles,
):
    """Pass the tiles of a part through a phase."""
    mine = totals[part]
    mine[:] = np.float32(0.0)
    for start in range(parts[part, 0], parts[part, 1], LANES):
        run_tile(
            table,
            tiles[part],
            index,
            params,
            grads[part],
            dense,
            scalars,
            losses[part],
            mine,
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
            len(rows),
            start,
        )


@njit(**COMPILE)
def _give(part, whole):
    """Add a part's sums to those of the whole, and begin it anew."""
    for i in range(len(whole)):
        whole[i] += part[i]
        part[i] = 0
