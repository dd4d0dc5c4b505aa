from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thrifty.bench import marl, marl_loops, schema
from thrifty.bench.schema import NOT_MEASURED
from thrifty.cli import main
from thrifty.marl.environments import make_team


def without_jaxmarl(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "jaxmarl" else find(name)
    )


def test_rows_fit_and_gaps_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_jaxmarl(monkeypatch)
    rows = marl.measure(rounds=1, lengths=(3, 4), steps=64)
    schema.write(tmp_path / "marl.json", rows, command="thrifty bench marl")
    assert schema.read(tmp_path / "marl.json") == rows
    gaps = [row.implementation for row in rows if row.statistic == NOT_MEASURED]
    assert gaps == [marl.DENSE, marl.ENGINE, "JaxMARL QMIX"]
    compared = {(row.implementation, row.ratio_to) for row in rows if row.ratio is not None}
    assert compared == {(marl.MASKED, marl.DENSE), (marl.ENGINE, marl.DENSE)}
    sparsities = {
        row.sparsity
        for row in rows
        if row.implementation == marl.ENGINE and row.metric == "time per update"
    }
    assert sparsities == {0.8, 0.9, 0.95}
    assert {row.case for row in rows} >= {"skirmish, 8 updates per 2,048 steps"}


def test_sides_take_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each in a process of its own; the reference's row names its commit."""
    asked: list[list[str]] = []

    class Done:
        returncode, stderr = 0, ""

        def __init__(self, stdout: str) -> None:
            self.stdout = stdout

    def run(command: list[str], **_: Any) -> Done:
        if command[0] == "git":
            return Done("0123456789ab\n")
        asked.append(command[3:])
        rate = 100.0 + len(asked)
        return Done("a greeting\n" + json.dumps({"rate": rate}) + "\n")

    monkeypatch.setattr(marl.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(marl.subprocess, "run", run)
    rows = marl._turns(2, tmp_path)
    assert [command[0] for command in asked] == ["thrifty", "thrifty", "thrifty", "jaxmarl"] * 2
    (theirs,) = {row.implementation for row in rows if row.implementation.startswith("JaxMARL")}
    assert theirs == "JaxMARL QMIX (commit 0123456789ab)"
    medians = {row.implementation: row for row in rows if row.statistic == "median"}
    # The engine was asked second and sixth: 102 and 106; JaxMARL fourth and eighth: 104 and 108.
    assert medians[marl.ENGINE].value == 104.0
    assert medians[marl.ENGINE].ratio == pytest.approx(104.0 / 106.0)
    assert medians[marl.ENGINE].ratio_to == theirs


def test_a_side_that_fails_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ValueError, match="thrifty cannot be measured: it says nothing"):
        marl._side("", "thrifty")


def test_bad_references(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="is no checkout of JaxMARL"):
        marl.measure(reference=tmp_path)
    assert main(["bench", "lsvi", "--reference", str(tmp_path)]) != 0
    assert "the benchmark lsvi takes no --reference" in capsys.readouterr().err


def test_the_reference_runs_at_our_sizes() -> None:
    found = marl_loops.settings(3)
    assert found["TOTAL_TIMESTEPS"] == 3 * 2048
    config = marl.algorithm(0.95)
    assert found["BUFFER_BATCH_SIZE"] == config.batch_episodes
    assert found["HIDDEN_SIZE"] == config.hidden
    assert found["MIXER_EMBEDDING_DIM"] == config.mixer_embed
    assert found["MIXER_HYPERNET_HIDDEN_DIM"] == config.hypernet_hidden


@pytest.mark.slow
def test_as_many_episodes_hold_as_many_steps_as_the_references_windows() -> None:
    """Random teams on SMAX 3m, as in the loop that is timed: about 18 steps an episode."""
    pytest.importorskip("jaxmarl")
    team, rng = make_team("smax-3m", 64, 0), np.random.default_rng(0)
    steps, ended = 400, 0
    for _ in range(steps):
        available = team.seen.available
        outcome = team.step(np.where(available, rng.random(available.shape), -1.0).argmax(2))
        over = outcome.terminated | outcome.truncated
        ended += int(over.sum())
        team.restart(over)
    length = steps * team.copies / ended
    assert length == pytest.approx(18, abs=1)
    assert marl.AS_MANY_STEPS * length >= marl_loops.SEQUENCES * marl_loops.ROLLOUT
