"""What a checkpoint costs: it grows with what is new, and stays under 3 % of the run time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thrifty.runs.store import JOURNAL, Checkpoint, CheckpointFolder

ROW = 200  # bytes: HalfCheetah's transition has 17 + 6 + 17 + 2 float32 and is smaller
NEW = 60 * 2_000  # rows of a minute at 2,000 steps/s, faster than any update allows
PARAMETERS = 1_000_000  # float32, 4 MB: networks, targets and moments of two 256 x 256 agents


class Replay:
    """Rows that are made up when they are asked for; counts those."""

    def __init__(self, total: int) -> None:
        self.first, self.total, self.asked = 0, total, 0

    def rows(self, start: int, stop: int) -> Any:
        self.asked += stop - start
        return np.random.default_rng(start).integers(256, size=(stop - start, ROW), dtype=np.uint8)


def checkpoint(replay: Replay) -> Checkpoint:
    parameters = np.random.default_rng(0).normal(size=PARAMETERS).astype(np.float32)
    state = {"step": replay.total, "parameters": parameters, "replay": replay}
    return Checkpoint(
        step=replay.total, wall_seconds=0.0, cpu_seconds=0.0, records_bytes=0, experiment=state
    )


@pytest.mark.parametrize("before", [0, 4 * NEW])
def test_a_checkpoint_takes_under_three_percent_of_a_minute(tmp_path: Path, before: int) -> None:
    """No trick with the disk here: every file is forced to it, as in a run."""
    (tmp_path / JOURNAL).mkdir()
    folder, replay = CheckpointFolder(tmp_path), Replay(before)
    folder.save(checkpoint(replay))
    seconds = []
    for _ in range(3):
        replay.total, replay.asked = replay.total + NEW, 0
        following = checkpoint(replay)
        began = time.perf_counter()
        folder.save(following)
        seconds.append(time.perf_counter() - began)
        # However much was stored before, only what is new is read and written.
        assert replay.asked == NEW
        written = max((tmp_path / JOURNAL).iterdir(), key=lambda path: path.stat().st_mtime_ns)
        assert NEW * ROW <= written.stat().st_size < NEW * ROW + 1_000
    assert min(seconds) < 0.03 * 60
