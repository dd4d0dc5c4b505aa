"""Minibatches drawn in compiled code against the replay's own."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from thrifty.engine import noise
from thrifty.engine.cache import COMPILE
from thrifty.engine.windows import draw_rows, rows_drawn, windows
from thrifty.rl import Replay

CAPACITY = 40


@njit(**COMPILE)
def draw(out, key, update, first, total, data, valid):  # type: ignore[no-untyped-def]
    draw_rows(out, key, update, first, total, data, valid)


@njit(**COMPILE)
def follow(  # type: ignore[no-untyped-def]
    rows, last, path, path_disc, lengths, ret, disc, data, total, step, n, discount, columns
):
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
        step,
        n,
        discount,
        columns[0],
        columns[1],
        columns[2],
    )


def replay_of(seed: int, environments: int, rows: int, share: float) -> Replay:
    """Made-up rows whose episodes end with a probability; the oldest are overwritten."""
    rng = np.random.default_rng(seed)
    replay = Replay(CAPACITY, 2, 1, environments=environments)
    replay.matrix[:] = rng.normal(size=replay.matrix.shape)
    at = replay.columns
    replay.matrix[:, at.ended] = rng.random(CAPACITY) < share
    replay.matrix[:, at.terminated] = replay.matrix[:, at.ended] * (rng.random(CAPACITY) < 0.5)
    replay.matrix[:, at.valid] = rng.random(CAPACITY) < 0.7
    replay.total = rows
    replay.first = max(0, rows - CAPACITY)
    replay.matrix[replay.first % CAPACITY, at.valid] = 1.0  # there is something to draw
    return replay


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 4]), st.integers(1, 20), st.floats(0.0, 0.6))
def test_drawn_rows_are_the_references(
    seed: int, environments: int, steps: int, share: float
) -> None:
    replay = replay_of(seed, environments, steps * environments, share)
    key, valid = noise.key_of(seed, 0), replay.columns.valid
    out = np.zeros(37, np.int64)
    draw(out, key, 9, replay.first, replay.total, replay.matrix, valid)
    drawn = rows_drawn(key, 9, 37, replay.first, replay.total, replay.matrix[:, valid])
    assert np.array_equal(out, drawn)
    assert (replay.matrix[out % CAPACITY, valid] > 0).all()
    assert replay.first <= out.min()
    assert out.max() < replay.total


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 4]),
    st.integers(1, 20),
    st.floats(0.0, 0.6),
    st.integers(1, 5),
)
def test_windows_are_the_replays(
    seed: int, environments: int, steps: int, share: float, n: int
) -> None:
    replay = replay_of(seed, environments, steps * environments, share)
    at = replay.columns
    rows = np.arange(replay.first, replay.total)
    count = len(rows)
    last, lengths = np.zeros(count, np.int64), np.zeros(count, np.int64)
    path, path_disc = np.zeros((n, count), np.int64), np.zeros((n, count), np.float32)
    ret, disc = np.zeros(count, np.float32), np.zeros(count, np.float32)
    columns = np.array([at.reward, at.terminated, at.ended])
    follow(
        rows,
        *(last, path, path_disc, lengths, ret, disc),
        *(replay.matrix, replay.total, environments, n, 0.9, columns),
    )
    batch = replay.windows(rows, n_step=n, discount=0.9)
    np.testing.assert_allclose(ret, batch.n_step_return.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(disc, batch.discount.numpy(), rtol=1e-6)
    np.testing.assert_allclose(path_disc, batch.path_discount.numpy(), rtol=1e-6)
    np.testing.assert_array_equal(
        replay.matrix[last % CAPACITY, at.next_observation], batch.next_observation.numpy()
    )
    assert ((lengths >= 1) & (lengths <= n)).all()
    # The transitions that carry weight are the reference's.
    weighty = path_disc > 0
    np.testing.assert_array_equal(
        replay.matrix[path % CAPACITY][:, :, at.next_observation][weighty],
        batch.path_observation.numpy()[weighty],
    )
