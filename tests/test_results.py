"""What the scripts in results/rlx2 rest on: thinned records, rewritten claims, interrupted runs."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from thrifty.report import load_run
from thrifty.report.claims import read_claims

SCRIPTS = Path(__file__).resolve().parents[1] / "results" / "rlx2"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A script as a module; like Python, with its folder first on the path."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def test_thinned_records_keep_every_evaluation_and_one_training_record_in_twenty(
    script: Callable[[str], ModuleType],
) -> None:
    records = [{"kind": "start", "step": 0}]
    records += [{"kind": "train", "step": step} for step in range(40)]
    records += [{"kind": "topology", "step": 40}]
    records += [{"kind": "evaluation", "step": 40, "returns": [1.23456789012]}]
    text = "".join(json.dumps(record) + "\n" for record in records) + '{"kind": "tra'  # cut off
    kept = [json.loads(line) for line in script("evidence_1m").thinned(text).splitlines()]
    assert [(record["kind"], record["step"]) for record in kept] == [
        ("start", 0),
        ("train", 0),
        ("train", 20),
        ("evaluation", 40),
    ]
    assert kept[-1]["returns"] == [1.234568]


def test_a_run_that_was_begun_anew_does_not_replace_the_copy_of_a_finished_one(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = script("evidence_1m")
    monkeypatch.setattr(evidence, "RUNS", tmp_path / "copies")

    def collected(place: str, step: int, done: bool) -> int:
        run = tmp_path / place / "td3-Ant-v5-0"
        run.mkdir(parents=True, exist_ok=True)
        (run / "config.json").write_text("{}")
        (run / "records.jsonl").write_text(json.dumps({"kind": "evaluation", "step": step}) + "\n")
        if done:
            (run / "DONE").write_text("{}")
        evidence.collect(tmp_path / place)
        text = (tmp_path / "copies" / run.name / "records.jsonl").read_text()
        return int(json.loads(text)["step"])

    assert collected("here", 5, done=False) == 5
    assert collected("here", 9, done=True) == 9
    assert collected("elsewhere", 3, done=False) == 9
    assert collected("elsewhere", 9, done=True) == 9


def test_a_script_rewrites_its_own_claims_and_no_others(
    script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    rows = script("claim_rows")

    def row(measured: float | None) -> str:
        text: str = rows.claim_row(
            claim='a "claim"',
            where="here",
            metric="m",
            expected=">= 1",
            measured=measured,
            interval=(float("nan"), float("nan")),
            runs=["r"],
            seeds=[0],
            hardware="h",
            hours=1.0,
        )
        return text

    path = tmp_path / "claims.toml"
    path.write_text("# head\n\n" + row(2.0) + "\n")
    rows.write_rows("a.py", [row(None)], path)
    rows.write_rows("b.py", [row(3.0)], path)
    rows.write_rows("a.py", [row(0.5), row(1.0)], path)
    claims = read_claims(path)
    assert [claim.measured for claim in claims] == [2.0, 0.5, 1.0, 3.0]
    assert [claim.status for claim in claims] == ["holds", "failed", "holds", "holds"]
    assert {claim.interval for claim in claims} == {None}  # a single seed has none
    before = path.read_text()
    with pytest.raises(ValueError, match="hardware is ''"):
        rows.write_rows("a.py", [row(1.0).replace('"h"', '""')], path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_has_not_been_run_is_a_row_too(
    script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    """Of every environment with published figures, whether there are runs or not."""
    evidence = script("evidence_1m")
    path = tmp_path / "claims.toml"
    told = {claim.claim for claim in read_claims(SCRIPTS / "claims.toml")}
    for task in evidence.ENVIRONMENTS:
        path.write_text("\n".join(evidence.rows_of(task, {})))
        rows = read_claims(path)
        assert [claim.status for claim in rows] == ["not run"] * 3
        assert {claim.claim for claim in rows} <= told


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"kind": "start"}\n{"kind": "end", "minutes": 10}\n', True),
        ('{"kind": "start"}\n{"kind": "end", "minutes": 0.5}\n', False),  # a shorter trial
        ('{"kind": "start"}\n{"kind": "evaluation"}\n', False),
        ('{"kind": "start"}\n{"kind": "en', False),
        ("", False),
    ],
)
def test_a_run_against_the_clock_is_finished_when_its_end_is_written(
    script: Callable[[str], ModuleType], tmp_path: Path, text: str, answer: bool
) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    assert script("wall_clock").finished(path, 10) is answer


def test_the_demos_minutes_are_those_of_undisturbed_runs(
    script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    times = {0: (200.0, 190.0), 1: (900.0, 250.0), 2: (260.0, 250.0)}  # the clock's, the process's
    runs = []
    for seed, (wall, cpu) in times.items():
        folder = tmp_path / f"demo-engine-{seed}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"recipe": "rlx2.demo", "seed": seed}))
        end = {"kind": "end", "step": 9, "wall_seconds": wall, "wall_cpu_seconds": cpu}
        (folder / "records.jsonl").write_text(json.dumps(end) + "\n")
        content = {"episodes": 2, "seed": 9, "returns": [1000.0 * seed, 1000.0 * seed + 2]}
        (folder / "returns.json").write_text(json.dumps(content))
        runs.append(load_run(folder))
    demo, path = script("demo"), tmp_path / "claims.toml"
    path.write_text("")
    script("claim_rows").write_rows("demo.py", demo.claims(runs), path)
    returns, minutes = read_claims(path)
    assert (returns.measured, returns.interval) == (1001, (1, 2001))
    assert returns.status == "failed"  # not 1,500
    # Seed 1's clock shows other work; the median of 200 and 260 is 230.
    assert (minutes.measured, minutes.interval, minutes.seeds) == (230, (200, 260), (0, 2))
    assert minutes.status == "holds"
    script("claim_rows").write_rows("demo.py", demo.claims(runs[1:2]), path)
    assert [claim.status for claim in read_claims(path)] == ["failed", "not run"]


@pytest.mark.slow
def test_the_wide_agent_costs_what_dense_256_costs(script: Callable[[str], ModuleType]) -> None:
    # By hand: a dense update of 256 x 256 has 438,495,104 operations on HalfCheetah-v5 (17
    # observations, 6 actions): 256 (2.5 A + 9.5 C) with A = 256 * 33 + 256 * 511 + 6 * 511 and
    # C = 256 * 45 + 256 * 511 + 511. Its sparse twin of width 1024 must come within 1 per mille.
    wall_clock = script("wall_clock")
    config = wall_clock.our_config(
        "HalfCheetah-v5", wall_clock.wide_sparsity("HalfCheetah-v5"), wall_clock.WIDE
    )
    cost = config.algorithm.build(17, 6, seed=0).ledger()["training_flops"]
    assert cost["dense"] == 438_495_104
    assert cost["sparse"] == pytest.approx(cost["dense"], rel=1e-3)


def test_the_queue_begins_with_seed_0_of_everything(script: Callable[[str], ModuleType]) -> None:
    queue = script("wall_clock").queue()
    assert len(queue) == len(set(queue)) == 33  # 6 contenders, less wide on Hopper: 11 a seed
    assert [seed for *_, seed in queue] == [0] * 11 + [1] * 11 + [2] * 11
