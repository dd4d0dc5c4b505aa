"""What the scripts in results/rsd4 rest on: rows, scores, claims that agree with their numbers."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from thrifty.report.claims import read_claims

SCRIPTS = Path(__file__).resolve().parents[1] / "results" / "rsd4"
Script = Callable[[str], ModuleType]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """A script as a module; like Python, with its folder first on the path."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for name in ("measure", "summarise", "train"):  # other results have scripts of these names
        monkeypatch.delitem(sys.modules, name, raising=False)

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def row(recipe: str, scenario: str, seed: int, throughput: float, energy: float) -> dict[str, str]:
    return {
        "recipe": recipe, "scenario": scenario, "seed": str(seed), "agent": "RSD4",
        "energy": json.dumps([energy]), "throughput": str(throughput), "paired": "0.99",
        "of_optimum": "0.98", "off_budget": "0.004", "cpu_seconds": "60",
        "curve": json.dumps([[5.0, 11.0, 0.99], [10.0, 14.2, 0.99]]),
    }  # fmt: skip


def write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


ANCHORS = {
    "scenario": "S2", "budget": "20.0", "blind": "28.0", "blind_multiplier": "0.5",
    "filter": "30.0", "filter_error": "0.05", "filter_multiplier": "0.7", "delayed": "32.0",
}  # fmt: skip


def test_a_score_is_taken_at_the_energy_spent(script: Script) -> None:
    module = script("summarise")
    at_budget, above = row("s2", "S2", 0, 29.0, 20.0), row("s2", "S2", 1, 29.0, 20.2)
    # At 20.2 the blind table has 28 + .5 * .2 = 28.1, the filter 30 + .7 * .2 = 30.14.
    assert module.scores([at_budget, above], ANCHORS) == pytest.approx([0.5, 0.9 / 2.04])


def test_claims_agree_with_their_rows(script: Script, tmp_path: Path) -> None:
    module = script("summarise")
    write(
        tmp_path / "training.csv",
        [
            row("s1", "S1", 0, 14.2, 10.0),
            row("s2", "S2", 0, 29.4, 20.0),
            row("sd3", "S2", 0, 28.4, 20.0),
            row("sd3", "S2", 1, 28.4, 20.0),  # no RSD4 of this seed: no gain
        ],
    )
    write(tmp_path / "recurrent_ppo.csv", [row("", "S1", 0, 12.0, 10.0)])
    write(tmp_path / "anchors.csv", [ANCHORS])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["summarise.py", "--out", str(tmp_path)])
        module.main()
    found = {one.claim.split(" (")[0]: one for one in read_claims(tmp_path / "claims.toml")}
    assert found["RSD4 on S1"].status == "holds"
    assert found["RSD4 on S3"].status == "not run"
    assert found["RSD4 on S2, channel hidden"].measured == pytest.approx(0.7)  # 1.4 of 2
    assert found["RSD4 over its feed-forward twin on S2"].measured == pytest.approx(0.5)
    gain = found["RSD4 over its feed-forward twin on S2"]
    assert gain.seeds == (0,)
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == {"frontier_S1.png", "frontier_S2.png", "marks.png"}
    summary = (tmp_path / "summary.md").read_text()
    assert "S1: RSD4 99.00 %, the myopic rule 99.27 %: the simple rule is as good" in summary
    assert "S3: not run" in summary
    assert "RecurrentPPO" in summary


def test_the_two_agents_come_first_and_ablations_where_asked_for(script: Script) -> None:
    found = script("train").tasks(["S1", "S3"], 5)
    assert found[:2] == [
        {"recipe": "s1", "scenario": "S1", "seed": 0},
        {"recipe": "sd3", "scenario": "S1", "seed": 0},
    ]
    assert len(found) == 2 * 2 * 5 + 5 * 3
    assert all(one["seed"] < 100 for one in found)
