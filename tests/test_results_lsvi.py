"""What results/lsvi_ucb_plus/summarise.py concludes from rows: not more than they show."""

from __future__ import annotations

import csv
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from thrifty.report.claims import read_claims

SCRIPTS = Path(__file__).resolve().parents[1] / "results" / "lsvi_ucb_plus"
MODULES = ("measure", "hard_instance", "summarise")  # other results have scripts of these names


@pytest.fixture
def summarise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = {name: sys.modules.pop(name, None) for name in MODULES}
    module = importlib.import_module("summarise")
    monkeypatch.setattr(module, "HERE", tmp_path)
    yield module
    for name, held in before.items():
        sys.modules.pop(name, None)
        if held is not None:
            sys.modules[name] = held


def write(folder: Path, family: str, weighted: list[float], unweighted: list[float]) -> None:
    rows: list[dict[str, Any]] = [
        {"learner": kind, "family": family, "K": 30_000, "regulariser": 0.01, "beta": beta,
         "seed": seed, "regret": regret, "uniform": 1.0}
        for kind, beta, regrets in (
            ("unweighted", 3.0, unweighted),
            ("weighted", 0.3, weighted),
            ("weighted, not monotone", 0.3, weighted),
        )
        for seed, regret in enumerate(regrets)
    ]  # fmt: skip
    with (folder / "weighted.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def status(summarise: ModuleType, folder: Path) -> str:
    summarise.write_claims(None)
    claims = read_claims(folder / "claims.toml")
    return next(claim.status for claim in claims if claim.claim.endswith("lottery d=8"))


def test_one_failed_seed_of_the_other_learner_shows_nothing(
    summarise: ModuleType, tmp_path: Path
) -> None:
    # The mean ratio is 30,000 / 49,000 = .61, but a resample without the last seed has 1.5.
    write(tmp_path, "lottery d=8", [3000.0] * 10, [2000.0] * 9 + [31_000.0])
    (line,) = summarise.weighted_table()[2:]
    assert "4,900, median 2,000, 1 failed (0.01, 3.0*)" in line
    assert "3,000, median 3,000 (0.01, 0.3)" in line
    assert "| 0.61 [" in line
    assert "| 1.50 | no difference shown |" in line
    assert status(summarise, tmp_path) == "failed"


def test_a_difference_on_every_seed_is_one(summarise: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, "lottery d=8", [1000.0, 1100.0] * 5, [2000.0] * 10)
    assert "| helps |" in summarise.weighted_table()[2]
    assert status(summarise, tmp_path) == "holds"
    write(tmp_path, "lottery d=8", [2000.0, 2200.0] * 5, [1000.0] * 10)
    assert "| harms |" in summarise.weighted_table()[2]
    write(tmp_path, "lottery d=8", [2000.0] * 10, [2000.0] * 10)
    assert status(summarise, tmp_path) == "failed"  # equal is not lower
