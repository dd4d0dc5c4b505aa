"""A process that dies at any instant leaves a run that goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from crashing import CRASHED, STEPS, in_child
from toy_counter import make_run, result

from thrifty.runs import execute, read_checkpoint
from thrifty.runs.store import CheckpointFolder

if not hasattr(os, "fork"):
    pytest.skip("crashes are injected into forked children", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("quick")


def crash(case: str, folder: Path) -> Any:
    """Let crashing.py work on one of its cases; it asserts that every result is equal."""
    script = Path(__file__).with_name("crashing.py")
    command = [sys.executable, "-W", "error", str(script), case, str(folder)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_a_crash_at_every_file_operation_is_survived(tmp_path: Path) -> None:
    froms = crash("file_operations", tmp_path)
    assert len(froms) > 120  # 6 checkpoints of more than 20 operations
    # A later crash never redoes more: everything up to the last checkpoint is kept.
    assert froms == sorted(froms)
    assert set(froms) == set(range(STEPS + 1))


def test_a_crash_while_resuming_is_survived(tmp_path: Path) -> None:
    froms = crash("while_resuming", tmp_path)
    assert len(froms) > 50
    assert set(froms) == {3, 4, 5}


def test_a_crash_at_any_line_is_survived(tmp_path: Path) -> None:
    """Kills at lines of our own code, spread evenly: also between file operations."""
    froms = crash("lines", tmp_path)
    assert len(froms) > 30
    assert froms == sorted(froms)


def test_a_kill_at_random_times_is_survived(tmp_path: Path) -> None:
    assert crash("random_times", tmp_path) >= 3


def test_nothing_is_redone_but_the_time_since_the_last_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=300, delay=0.001, record_every=1)
    killed_at = 200

    def die(record: dict[str, Any]) -> None:
        if record["step"] == killed_at:
            os._exit(CRASHED)

    with warnings.catch_warnings():
        # Newer Pythons warn when other threads exist (torch's): the child uses none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        status = in_child(lambda: execute(run, callbacks=[die], checkpoint_seconds=0.02))
    assert status == CRASHED
    records = (run.directory / "records.jsonl").read_text().splitlines()
    assert len(records) == killed_at
    outcome = execute(run)
    # 20 ms are at most 20 steps of 1 ms; a busy machine makes steps longer, never shorter.
    assert killed_at - 20 <= outcome.steps_executed_from < killed_at


def test_leftovers_of_a_crash_are_removed_on_resume(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    execute(run, callbacks=[lambda record: False])
    for name in ("checkpoint-0000000009.npz.tmp", "journal/x.npy.tmp", "journal/orphan-3-9.npy"):
        (run.directory / name).write_text("half")
    execute(run)
    left = [path.name for path in run.directory.rglob("*") if "orphan" in path.name]
    assert left == []
    assert not list(run.directory.rglob("*.tmp"))


def test_a_failed_checkpoint_keeps_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is an exception, not a crash: it propagates, and the run can go on later."""
    run = make_run(tmp_path / "run", steps=12)
    replaced = os.replace

    def full(source: Any, target: Any) -> None:
        if "0000000007" in str(target):
            raise OSError(28, "No space left on device")
        replaced(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            execute(run, checkpoint_seconds=0)
    checkpoint = read_checkpoint(run.directory)
    assert checkpoint is not None
    assert checkpoint.step == 6
    assert not list(run.directory.rglob("*.tmp"))
    assert execute(run).steps_executed_from == 6


def test_the_check_finds_a_broken_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The crash test itself can fail: without the cut of the records, lines appear twice."""
    run = make_run(tmp_path / "run", steps=12, record_every=1)
    execute(run, callbacks=[lambda record: record["step"] < 6])
    execute(make_run(tmp_path / "whole", steps=12, record_every=1))
    with open(run.directory / "records.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 7, "return": 0.0}\n')
    load = CheckpointFolder.load

    def forgetful(self: CheckpointFolder) -> Any:
        checkpoint = load(self)
        length = (run.directory / "records.jsonl").stat().st_size
        object.__setattr__(checkpoint, "records_bytes", length)
        return checkpoint

    monkeypatch.setattr(CheckpointFolder, "load", forgetful)
    execute(run)
    assert result(run.directory) != result(tmp_path / "whole")
