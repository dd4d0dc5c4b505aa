from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from tests.control.test_fused import OBS, A, config, filled

from thrifty.control import SAC, TD3, SACConfig, TD3Config
from thrifty.control.fused import transitions_of
from thrifty.control.sac_fused import sac_update
from thrifty.control.td3_fused import td3_update
from thrifty.engine import board, crew, executor
from thrifty.engine.update import Update
from thrifty.rl import Replay


def update_of(replay: Any, threads: int = 1) -> Update:
    settings = {**config(0.9, 1), "batch_size": 200}  # four tiles, the last one not full
    learner = TD3(TD3Config(**settings), OBS, A)
    return td3_update(learner, replay.columns, seed=3, threads=threads)


class Calls:
    """The compiled entry; notes the updates and the seconds of each call, or is interrupted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> None:
        self.compiled, self.stop_after = executor.run_updates, stop_after
        self.counts: list[int] = []
        self.seconds: list[float] = []
        monkeypatch.setattr(executor, "run_updates", self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.compiled, name)

    def __call__(self, part: int, count: int, *arguments: Any) -> Any:
        if len(self.counts) == self.stop_after:
            raise KeyboardInterrupt
        start = time.thread_time()
        result = self.compiled(part, count, *arguments)
        self.seconds.append(time.thread_time() - start)
        self.counts.append(count)
        return result


def test_many_updates_are_done_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    replay = filled()
    whole, single = update_of(replay), update_of(replay)
    calls = Calls(monkeypatch)
    whole.run(37, transitions_of(replay))
    assert calls.counts == [16, 16, 5]
    for _ in range(37):
        single.run(1, transitions_of(replay))
    assert whole.updates == single.updates == 37
    np.testing.assert_array_equal(whole.arena.params, single.arena.params)
    np.testing.assert_array_equal(whole.losses, single.losses)


def test_an_interruption_falls_between_two_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    replay = filled()
    stopped, twin = update_of(replay), update_of(replay)
    with monkeypatch.context() as patch:
        Calls(patch, stop_after=2)
        with pytest.raises(KeyboardInterrupt):
            stopped.run(1000, transitions_of(replay))
    assert stopped.updates == 32
    stopped.run(8, transitions_of(replay))
    twin.run(40, transitions_of(replay))
    np.testing.assert_array_equal(stopped.arena.params, twin.arena.params)


def test_a_part_of_an_update_does_not_count() -> None:
    replay = filled()
    parts, whole = update_of(replay), update_of(replay)
    for lines in ((0, 2), (2, 5)):
        assert parts.updates == 0
        parts.run(1, transitions_of(replay), lines=lines)
    whole.run(1, transitions_of(replay))
    assert parts.updates == whole.updates == 1
    np.testing.assert_array_equal(parts.arena.params, whole.arena.params)


def test_wrong_transitions_are_refused() -> None:
    replay = filled()
    update, good = update_of(replay), transitions_of(replay)
    for data in (good.data.astype(np.float64), good.data[:, ::2], np.asfortranarray(good.data)):
        with pytest.raises(ValueError, match="contiguous float32"):
            update.run(1, good._replace(data=data))
    with pytest.raises(ValueError, match="empty replay"):
        update.run(1, good._replace(total=good.first))


def test_what_does_not_fit_into_a_tile_is_refused() -> None:
    """Observations of 60,000 numbers: five slots of them are 300,000 rows, more than 2**18."""
    columns = Replay(1, 60_000, A).columns
    settings = {**config(0.9, 3), "actor_hidden": (2,), "critic_hidden": (2,)}
    with pytest.raises(
        ValueError, match=r"rows of a tile, the engine has 262,144: use backend=ref"
    ):
        sac_update(SAC(SACConfig(**settings), 60_000, A), columns)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "sparsity"), [(256, 0.5), (512, 0.5), (1024, 0.9)])
def test_one_compiled_call_lasts_under_200_ms(
    width: int, sparsity: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = filled()
    changes = {**config(sparsity, 1), "batch_size": 256}
    changes |= {"actor_hidden": (width, width), "critic_hidden": (width, width)}
    update = td3_update(TD3(TD3Config(**changes), OBS, A), replay.columns, seed=3)
    update.run(1, transitions_of(replay))
    calls = Calls(monkeypatch)
    update.run(16, transitions_of(replay))
    assert sum(calls.counts) == 16
    # Processor time, so that other work on the machine does not count.
    assert max(calls.seconds) < 0.2


def test_a_discount_given_as_an_integer_is_not_compiled_for() -> None:
    replay = filled()
    update_of(replay).run(1, transitions_of(replay))
    known = executor.run_updates.signatures
    settings = {**config(0.9, 1), "discount": 1}
    learner = TD3(TD3Config(**settings), OBS, A)
    td3_update(learner, replay.columns, seed=3).run(1, transitions_of(replay))
    assert executor.run_updates.signatures == known


def everything(update: Update) -> list[Any]:
    arena = update.arena
    vectors = (arena.params, arena.first_moment, arena.second_moment, arena.grads)
    return [*(vector.copy() for vector in vectors), update.losses.copy(), update.loss_counts.copy()]


@pytest.mark.parametrize("threads", [2, 3, 64])
def test_threads_that_share_an_update_are_bit_equal_and_right(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = filled()
    shared, again, nobody, alone = (update_of(replay, n) for n in (threads, threads, threads, 1))
    alone.run(3, transitions_of(replay))
    shared.run(3, transitions_of(replay))
    for mine, theirs in zip(everything(shared), everything(alone), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)
    shared.run(40, transitions_of(replay))
    for _ in range(43):
        again.run(1, transitions_of(replay))
        if again.updates % 10 == 0:
            time.sleep(0.01)  # the helpers leave
    # Where no helper comes, the first thread does the others' parts.
    monkeypatch.setattr(crew, "start", lambda call, threads: None)
    nobody.run(43, transitions_of(replay))
    for mine, *others in zip(*map(everything, (shared, again, nobody)), strict=True):
        for other in others:
            np.testing.assert_array_equal(mine, other)


def test_helpers_leave_and_come_back_for_other_transitions() -> None:
    first, second = filled(), filled()
    second.matrix[:, second.columns.reward] += 1.0
    shared, alone = update_of(first, 2), update_of(first)
    for replay in (first, second, first):
        for update in (shared, alone):
            update.run(1, transitions_of(replay))
        np.testing.assert_allclose(shared.losses, alone.losses, rtol=1e-5)
    end = time.monotonic() + 30  # a busy machine
    while not shared._board[1, board.DONE] and time.monotonic() < end:
        shared.run(16, transitions_of(first))
    assert shared._board[1, board.DONE]  # a helper has done a part
    while shared._board[1, board.AWAKE] and time.monotonic() < end:
        time.sleep(0.01)
    assert not shared._board[1, board.AWAKE]


def test_nobody_waits_for_a_helper_that_is_gone() -> None:
    # As in a child process, which has the board but not its parent's threads.
    first, second = filled(), filled()
    shared, alone = update_of(first, 2), update_of(first)
    for replay in (first, second):
        for update in (shared, alone):
            update.run(1, transitions_of(replay))
        np.testing.assert_allclose(shared.losses, alone.losses, rtol=1e-5)
        shared._board[1, board.AWAKE] = 1
