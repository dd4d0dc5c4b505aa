"""A whole update, ready to run: programmes, scalars, random keys, scratch, and where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thrifty.engine import board, crew, executor
from thrifty.engine.cache import announce
from thrifty.engine.layout import Arena
from thrifty.engine.noise import key_of
from thrifty.engine.programme import Programme
from thrifty.engine.tile import MOST_ROWS
from thrifty.engine.vector import LANES

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_MOST = 16
"""Most updates in one compiled call."""
_WORK = 1_000_000_000
"""Most parameters times samples in one compiled call of several updates; about 100 ms."""


class Transitions(NamedTuple):
    """The replay as compiled code sees it: rows of one matrix, numbered as in the replay."""

    data: Floats  # [capacity, columns]
    first: int
    total: int
    environments: int
    reward: int  # columns
    terminated: int
    ended: int
    valid: int


class Update:
    """Runs updates of one agent on its arena.

    Args:
        arena: parameters and indices.
        phases: programmes in the order in which ``script`` names them.
        script: what follows what: (kind, a, b, c, every, scalar); for TILES a is the phase and c
            its loss, for ADAM [a, b) the parameters and c its counter, for POLYAK a the target's
            begin, b the online one's and c their length, for TEMPERATURE a the total of the log
            densities, b the scalar that it sets and c its counter.
        scalars: hyper-parameters by number.
        batch: samples of an update.
        discount: per step.
        n_step: longest window.
        n_step_from: first update with windows of that length.
        seed: of the random numbers; stream 0 draws the transitions.
        streams: how many streams the programmes use, the first included.
        temperature: log alpha and target entropy, where one is learned.
        threads: that share the tiles of a minibatch; results are bit-equal at an equal number.

    Raises:
        ValueError: the programmes are too large.
    """

    def __init__(
        self,
        arena: Arena,
        phases: Sequence[Programme],
        script: Sequence[tuple[int, ...]],
        *,
        scalars: Sequence[float],
        batch: int,
        discount: float,
        n_step: int = 1,
        n_step_from: int = 0,
        seed: int = 0,
        streams: int = 3,
        temperature: tuple[float, float] = (0.0, 0.0),
        threads: int = 1,
    ) -> None:
        self.arena = arena
        tables = [phase.rows() for phase in phases]
        begins = np.cumsum([0, *map(len, tables)])
        self._table = np.concatenate(tables)
        self._dense_table = np.concatenate([phase.dense_rows() for phase in phases])
        lines = [
            (kind, begins[a], begins[a + 1], *rest)
            if kind == executor.TILES
            else (kind, a, b, *rest)
            for kind, a, b, *rest in script
        ]
        self._script: Ints = np.array(lines, np.int64)
        self.scalars: Floats = np.array(scalars, np.float32)
        self._batch, self._discount = batch, float(discount)  # an int would compile anew
        self._n_step, self._n_step_from = n_step, n_step_from
        self.keys: Ints = np.array([key_of(seed, stream) for stream in range(streams)], np.int64)
        self.steps: Ints = np.zeros(len(script), np.int64)
        parts = crew.parts(batch, LANES, threads, least=LANES)
        self._parts, self._whole = (np.array(some, np.int64) for some in (parts, [(0, batch)]))
        self._board: Ints = np.zeros((len(parts), board.COLUMNS), np.int64)
        # What is added up over samples: the sums of each part, the first's are those of all.
        self._grads = np.zeros((len(parts), arena.trained), np.float32)
        self._losses = np.zeros((len(parts), len(phases)), np.float64)
        self._totals = np.zeros((len(parts), 2), np.float32)
        arena.grads = self._grads[0]
        self.losses: NDArray[np.float64] = self._losses[0]
        self.totals: Floats = self._totals[0]
        self.loss_counts: Ints = np.zeros(len(phases), np.int64)
        log_alpha, target_entropy = temperature
        # log alpha, its gradient, its two moments, the entropy aimed at
        self.temperature: Floats = np.array([log_alpha, 0, 0, 0, target_entropy], np.float32)
        height = max(phase.height for phase in phases) + LANES  # a panel for dense gradients
        if height > MOST_ROWS:  # compiled code would take what lies beyond for nothing
            raise ValueError(
                f"observations, hidden layers and their gradients take {height:,} rows of a tile, "
                f"the engine has {MOST_ROWS:,}: use backend=reference, or smaller observations"
            )
        self._scratch = np.zeros((len(parts), height * LANES + 16), np.float32)
        self._tiles: Ints = np.array([(row.ctypes.data + 63) & ~63 for row in self._scratch])
        self._draws = _draws(batch, n_step)
        self._helped: Floats | None = None  # the transitions that helpers read
        self.updates = 0
        self._piece = max(1, min(_MOST, _WORK // (arena.size * batch)))

    @property
    def lines(self) -> int:
        """Return the number of lines of the script."""
        return len(self._script)

    def run(
        self,
        count: int,
        transitions: Transitions,
        *,
        lines: tuple[int, int] | None = None,
        dense: bool = False,
    ) -> None:
        """Do a number of updates, or a part of one.

        Compiled code hears no Ctrl-C. So many updates are done in pieces of at most 16, each well
        under 200 ms, and an interruption falls between two: what is done is done and counted.

        Args:
            count: updates.
            transitions: where minibatches are drawn from; at least one valid row.
            lines: begin and end of the part of the script to do; the update counts as done with
                the script's last line.
            dense: write the dense gradients of the trained weights (``arena.dense``) in place of
                those of the links.

        Raises:
            ValueError: no transitions, or a matrix that is not contiguous float32.
        """
        data = transitions.data
        if data.dtype != np.float32 or not data.flags.c_contiguous:
            raise ValueError("transitions must be a contiguous float32 matrix")
        if transitions.total <= transitions.first:
            raise ValueError("cannot update from an empty replay; collect transitions first")
        begin, end = lines or (0, len(self._script))
        announce(executor.run_updates)
        shared = len(self._parts) > 1 and not dense
        if shared and self._helped is not data:
            # Who still looks at the old board, with other transitions, finds nothing and leaves.
            self._board, self._helped = np.zeros_like(self._board), data
        rest = (
            self._script[begin:end],
            self._dense_table if dense else self._table,
            *self._arguments(transitions, self._whole if dense else self._parts),
        )
        if shared:
            self._call_helpers(rest)
        update, last = self.updates, self.updates + count
        while update < last:
            update = executor.run_updates(0, min(self._piece, last - update), update, *rest)
            if end == len(self._script):
                self.updates = update

    def _arguments(self, transitions: Transitions, parts: Ints) -> tuple[Any, ...]:
        """Return what every call is given behind its script and table."""
        arena = self.arena
        return (
            arena.index,
            arena.params,
            self._grads,
            arena.dense,
            arena.first_moment,
            arena.second_moment,
            self.steps,
            self.scalars,
            self._losses,
            self.loss_counts,
            self._totals,
            *transitions[:4],
            np.array(transitions[4:], np.int64),
            *self._draws,
            parts,
            self._board,
            self._n_step,
            self._n_step_from,
            self._discount,
            self.keys,
            self.temperature,
            self._tiles,
        )

    def _call_helpers(self, rest: tuple[Any, ...]) -> None:
        """Let threads that do not look at the board look at it."""
        awake = self._board[1:, board.AWAKE]
        for part in np.flatnonzero(awake == 0) + 1:
            self._board[part, board.AWAKE] = 1
            crew.start(partial(executor.run_updates, int(part), 0, 0, *rest), len(awake))


def _draws(batch: int, n_step: int) -> tuple[Any, ...]:
    """Return scratch for the rows of a minibatch and for what its windows are."""
    return (
        np.zeros(batch, np.int64),
        np.zeros(batch, np.int64),
        np.zeros((n_step, batch), np.int64),
        np.zeros((n_step, batch), np.float32),
        np.zeros(batch, np.int64),
        np.zeros(batch, np.float32),
        np.zeros(batch, np.float32),
    )
