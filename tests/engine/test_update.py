from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from tests.control.test_fused import OBS, A, config, filled

from thrifty.control import TD3, TD3Config
from thrifty.control.fused import transitions_of
from thrifty.control.td3_fused import td3_update
from thrifty.engine import executor
from thrifty.engine.update import Update


def update_of(replay: Any) -> Update:
    return td3_update(TD3(TD3Config(**config(0.9, 1)), OBS, A), replay.columns, seed=3)


class Calls:
    """The compiled entry; notes the updates and the seconds of each call, or is interrupted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> None:
        self.compiled, self.stop_after = executor.run_updates, stop_after
        self.counts: list[int] = []
        self.seconds: list[float] = []
        monkeypatch.setattr(executor, "run_updates", self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.compiled, name)

    def __call__(self, count: int, *arguments: Any) -> Any:
        if len(self.counts) == self.stop_after:
            raise KeyboardInterrupt
        start = time.thread_time()
        result = self.compiled(count, *arguments)
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
