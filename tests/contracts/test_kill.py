"""SIGKILL at any moment costs what came after the last checkpoint, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from states import plain

from thrifty.cli import main
from thrifty.control import ControlExperiment
from thrifty.runs import read_checkpoint, read_records

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")

STEPS = 800
TRAIN = (
    *("train", "rlx2.td3", "--env", "Pendulum-v1", "--steps", str(STEPS), "--seed", "4", "--quiet"),
    *("--learning-starts", "50", "--record-every", "50"),
    *("--evaluate-every", "400", "--evaluation-episodes", "1", "--random-episodes", "1"),
    *("--replay.check-every", "60", "--replay.minimum", "100", "--replay.threshold", "0.01"),
    *("--algorithm.actor-hidden", "8", "8", "--algorithm.critic-hidden", "8", "8"),
    *("--algorithm.batch-size", "8", "--algorithm.n-step-delay", "100"),
    *("--algorithm.actor.update-every", "20", "--algorithm.critic.update-every", "20"),
    *("--algorithm.actor.update-until", "400", "--algorithm.critic.update-until", "800"),
)


def without_clock(folder: Path) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in record.items() if not key.startswith("wall_")}
        for record in read_records(folder)
    ]


def final_state(folder: Path) -> Any:
    checkpoint = read_checkpoint(folder)
    assert checkpoint is not None
    assert checkpoint.step == STEPS
    return plain(checkpoint.experiment)


def noted_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that will hold the step after every yield, by the experiment's own counter."""
    steps: list[int] = []
    records = ControlExperiment.records

    def noting(experiment: ControlExperiment) -> Iterator[Any]:
        for record in records(experiment):
            steps.append(experiment.step)
            yield record

    monkeypatch.setattr(ControlExperiment, "records", noting)
    return steps


def killed_after(folder: Path, step: int) -> int:
    """Train in a process of its own, kill it after a checkpoint at or past a step; its last one."""
    script = Path(__file__).with_name("often.py")
    process = subprocess.Popen([sys.executable, str(script), "0.2", *TRAIN, "--out", str(folder)])
    try:
        end = time.monotonic() + 300  # the engine may have to be compiled, on a busy machine
        while time.monotonic() < end and process.poll() is None:
            saved = [int(path.stem.split("-")[1]) for path in folder.glob("checkpoint-*.npz")]
            if max(saved, default=0) >= step:
                break
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"
    checkpoint = read_checkpoint(folder)
    assert checkpoint is not None
    return checkpoint.step


def test_a_killed_run_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    reached = killed_after(killed, 200)
    assert 200 <= reached < STEPS
    assert not (killed / "DONE").exists()
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    executed = noted_steps(monkeypatch)
    assert main(["resume", str(killed), "--quiet"]) == 0
    sessions = json.loads((killed / "environment.json").read_text())["sessions"]
    # The second session began with what the first had saved, not from the start.
    assert reached <= executed[0] <= reached + 1 < executed[-1] == STEPS
    assert [session["first_step"] for session in sessions] == [0, reached]
    assert main([*TRAIN, "--out", str(whole)]) == 0
    records = without_clock(whole)
    assert without_clock(killed) == records
    assert {"topology", "n_step", "buffer", "evaluation", "end"} <= {r["kind"] for r in records}
    one, two = final_state(killed), final_state(whole)
    assert one == two
