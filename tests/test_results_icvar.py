"""What results/icvar/summarise.py concludes from rows: slopes, exponents, and nothing from none."""

from __future__ import annotations

import csv
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from thrifty.report.claims import read_claims

SCRIPTS = Path(__file__).resolve().parents[1] / "results" / "icvar"
MODULES = ("measure", "summarise")  # other results have scripts of these names


@pytest.fixture
def summarise(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = {name: sys.modules.pop(name, None) for name in MODULES}
    yield importlib.import_module("summarise")
    for name, held in before.items():
        sys.modules.pop(name, None)
        if held is not None:
            sys.modules[name] = held


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def claims(summarise: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr(sys, "argv", ["summarise.py", "--out", str(folder)])
    summarise.main()
    return list(read_claims(folder / "claims.toml"))


def test_without_rows_nothing_is_claimed(
    summarise: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = claims(summarise, tmp_path, monkeypatch)
    assert len(found) == 8
    assert {claim.status for claim in found} == {"not run"}


def test_slopes_and_the_exponent_of_m_are_those_of_the_rows(
    summarise: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Regret (seed + 1) k^p on one instance, of a uniform policy 1 an episode; (seed + 1) m^-.5.
    points = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000]
    powers = {"1.0": 0.5, "0.1": 0.7}
    write(
        tmp_path / "regret.csv",
        [
            {"instance": "lava", "risk_level": level, "learner": kind, "K": 1000, "seed": seed}
            | {f"regret_{k}": 0.1 * (seed + 1) * k**power for k in points}
            | {"regret": 0.1 * (seed + 1) * 1000**power, "uniform": 1.0, "worst": 1, "neutral": 0}
            for level, power in powers.items()
            for kind in ("optimistic", "greedy")
            for seed in range(3)
        ],
    )
    write(
        tmp_path / "comparisons.csv",
        [
            {"annotator": "as assumed", "m": m, "risk_level": 1.0, "instance": 0, "K": 10}
            | {"seed": seed, "regret": (seed + 1) / m**0.5, "uniform": 1.0}
            for m in (1, 5, 20)
            for seed in range(3)
        ],
    )
    found = claims(summarise, tmp_path, monkeypatch)
    # The steepest of the learner's instances and levels; the other learner has no rows.
    slopes = [claim for claim in found if "slope" in claim.metric]
    assert [(claim.measured, claim.status) for claim in slopes] == [
        (0.7, "failed"),
        (None, "not run"),
    ]
    (exponent,) = [claim for claim in found if "exponent" in claim.metric]
    assert (exponent.measured, list(exponent.interval)) == (-0.5, [-0.5, -0.5])
    (control,) = [claim for claim in found if claim.where == "control"]
    # The worst cell is alpha .1: mean of .1, .2, .3 times 1000^.7 over 1000.
    assert control.measured == pytest.approx(0.2 * 1000**-0.3, abs=1e-3)
    text = (tmp_path / "summary.md").read_text()
    assert "![Regret on fixed instances: regret_lava](regret_lava.png)" in text
    assert (tmp_path / "regret_lava.png").exists()


def test_the_interval_of_the_steepest_slope_is_that_of_the_steepest(
    summarise: ModuleType,
) -> None:
    # Last decade from 100 to 1000. Of one instance seed 0 grows by k^.2 and seed 1 not at all, of
    # the other the other way round: alone each resample may miss its growing seed, but one of the
    # two always has one, as no resample of both seeds is without either.
    points, k = [100, 1000], np.array([1.0, 10.0**0.2])
    one, two = np.array([k, [1.0, 1.0]]), np.array([[1.0, 1.0], k])
    alone = summarise.steepest([(points, one)])
    mean = np.log10((1 + k[1]) / 2)
    assert alone == pytest.approx((mean, 0.0, 0.2))
    assert summarise.steepest([(points, one), (points, two)]) == pytest.approx((mean, mean, 0.2))


def test_the_order_in_which_rows_were_finished_decides_nothing(
    summarise: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor which seed is the first: its map is shown."""
    monkeypatch.setattr(summarise, "_RESAMPLES", 50)
    monkeypatch.setattr(summarise.panel(1.0)[0].__class__, "savefig", lambda *_, **__: None)

    def told(rows: Any) -> tuple[list[Any], set[Any]]:
        for name in ("comparisons", "hard_chain", "policies"):
            write(tmp_path / f"{name}.csv", rows(summarise.read(SCRIPTS / f"{name}.csv")))
        found = claims(summarise, tmp_path, monkeypatch)
        return found, set((tmp_path / "summary.md").read_text().splitlines())

    def turned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        maps = {"0": "first", "9": "last"}
        named = [{**row, "picture": maps.get(row["seed"], "")} for row in rows if "picture" in row]
        return (named or rows)[::-1]

    (ours, lines), (theirs, _) = told(turned), told(list)
    assert {one.claim: one.interval for one in ours} == {o.claim: o.interval for o in theirs}
    assert sum("`first`" in line for line in lines) == 7  # of every level


def test_one_session_that_is_not_replayed_fails_the_claim(
    summarise: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"K": 9, "queries": 3, "lines": 3, "undone": 0, "labels": 3, "value": 1, "optimum": 1}
    write(
        tmp_path / "replay.csv",
        [
            {**row, "seed": seed, "same_records": 1, "same_policy": int(seed > 0)}
            for seed in range(4)
        ],
    )
    (claim,) = [one for one in claims(summarise, tmp_path, monkeypatch) if "replayed" in one.claim]
    assert (claim.measured, claim.status) == (0.75, "failed")


def test_a_trial_leaves_the_evidence_as_it_is(
    summarise: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = sys.modules["measure"]
    for told, out in (
        ([], SCRIPTS),
        (["--toy"], Path("runs/icvar/toy")),
        (["--toy", "--out", "here"], Path("here")),
    ):
        monkeypatch.setattr(sys, "argv", ["regret.py", *told])
        assert measure.arguments(None).out == out
