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


def counted(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[int]:
    """Record the updates of each compiled call; interrupt in place of the given one."""
    calls: list[int] = []
    compiled = executor.run_updates

    class Counted:
        overloads = compiled.overloads

        def __call__(self, count: int, *arguments: Any) -> Any:
            if len(calls) == stop_after:
                raise KeyboardInterrupt
            calls.append(count)
            return compiled(count, *arguments)

    monkeypatch.setattr(executor, "run_updates", Counted())
    return calls


def test_many_updates_are_done_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    replay = filled()
    whole, single = update_of(replay), update_of(replay)
    calls = counted(monkeypatch)
    whole.run(37, transitions_of(replay))
    assert calls == [16, 16, 5]
    for _ in range(37):
        single.run(1, transitions_of(replay))
    assert whole.updates == single.updates == 37
    np.testing.assert_array_equal(whole.arena.params, single.arena.params)
    np.testing.assert_array_equal(whole.losses, single.losses)


def test_an_interruption_falls_between_two_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    replay = filled()
    stopped, twin = update_of(replay), update_of(replay)
    with monkeypatch.context() as patch:
        counted(patch, stop_after=2)
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
def test_one_compiled_call_lasts_under_200_ms() -> None:
    # A large update: 512 wide, half of the links, minibatches of 256.
    replay = filled()
    changes = {**config(0.5, 1), "batch_size": 256}
    changes |= {"actor_hidden": (512, 512), "critic_hidden": (512, 512)}
    update = td3_update(TD3(TD3Config(**changes), OBS, A), replay.columns, seed=3)
    update.run(1, transitions_of(replay))
    start = time.thread_time()
    update.run(16, transitions_of(replay))
    assert time.thread_time() - start < 0.2
