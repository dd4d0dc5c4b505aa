"""What results/mast/summarise.py concludes from rows: both denominators, and nothing from none."""

from __future__ import annotations

import csv
import importlib.util
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from thrifty.report.claims import read_claims

SCRIPTS = Path(__file__).resolve().parents[1] / "results" / "mast"
MODULES = ("measure", "scores", "factorial", "summarise")  # other results have such names
TASKS = ("smax-3m", "smax-2s3z", "smax-3s5z", "mpe-simple_spread")


@pytest.fixture
def summarise(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location("summarise", SCRIPTS / "summarise.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "summarise", module)
    spec.loader.exec_module(module)
    return module


def row(environment: str, side: tuple[str, str, str], seed: int, value: float) -> dict[str, str]:
    metric = "return" if environment.startswith("mpe") else "win rate"
    return {
        "recipe": side[0], "environment": environment, "steps": "1000", "sparsity": side[1],
        "tricks": side[2], "seed": str(seed), "metric": metric, "last5": str(value),
        "last20": str(value), "first": "0", "curve": "0 0.5 0.7", "backend": "engine",
        "warnings": "0", "cpu_seconds": "360", "seconds": "400",
    }  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_the_better_denominator_counts(summarise: ModuleType) -> None:
    """Dense 80, dense with tricks 86, MAST 82: 2 above the one and 4 below the other."""
    values = {"dense": 0.80, "dense, MAST's tricks": 0.86, "MAST at 90 %": 0.82}
    rows = [
        row("smax-3m", summarise.SIDES[name], seed, value)
        for name, value in values.items()
        for seed in range(3)
    ]
    task = summarise.Task("smax-3m", rows, None)
    assert task.better() == "dense, MAST's tricks"
    assert task.distance("MAST at 90 %", "dense") == pytest.approx((2.0, 2.0, 2.0))
    assert task.distance("MAST at 90 %", "dense, MAST's tricks") == pytest.approx((-4, -4, -4))
    assert task.within("MAST at 90 %")
    assert task.complete("MAST at 90 %")
    assert not task.complete("MAST at 95 %")
    # Against plain dense alone 0.805 would pass; it is 5.5 below the better one.
    worse = [{**r, "last20": "0.805"} if r["recipe"] == "mast" else r for r in rows]
    assert not summarise.Task("smax-3m", worse, None).within("MAST at 90 %")


def test_seeds_that_disagree_ask_for_more(summarise: ModuleType) -> None:
    dense = [row("smax-3m", summarise.SIDES["dense"], seed, 0.8) for seed in range(3)]
    tricks = [row("smax-3m", summarise.SIDES["dense, MAST's tricks"], s, 0.7) for s in range(3)]
    mast = [
        row("smax-3m", summarise.SIDES["MAST at 95 %"], s, v)
        for s, v in enumerate((0.6, 0.76, 0.9))
    ]
    task = summarise.Task("smax-3m", dense + tricks + mast, None)
    assert task.within("MAST at 95 %")
    assert task.undecided("MAST at 95 %")


def test_returns_are_counted_from_random_teams(summarise: ModuleType) -> None:
    dense = [row("mpe-simple_spread", summarise.SIDES["dense"], seed, -20.0) for seed in range(3)]
    other = [row("mpe-simple_spread", summarise.SIDES["MAST at 90 %"], 0, -25.0)]
    # 100 (-25 + 40) / (-20 + 40) = 75
    assert summarise.points(other, dense, -40.0) == [75.0]
    assert summarise.points(other, dense, None) == []


def test_nothing_is_concluded_from_nothing(
    summarise: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = ["--out", str(tmp_path), "--bench", str(tmp_path / "none.json")]
    monkeypatch.setattr(sys, "argv", ["summarise.py", *nothing])
    summarise.main()
    claims = read_claims(tmp_path / "claims.toml")
    assert [claim.status for claim in claims] == ["not run"] * 6
    assert "not run" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_a_whole_table_is_counted(
    summarise: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MAST at 90 % loses 2 points everywhere, at 95 % it loses 10 on two of the four tasks."""
    scores = []
    for number, task in enumerate(TASKS):
        best, random = (-20.0, -40.0) if task.startswith("mpe") else (0.8, 0.0)
        point = (best - random) / 100 if task.startswith("mpe") else 0.01
        lost = {"dense": 0, "dense, MAST's tricks": 1, "MAST at 90 %": 2}
        lost["MAST at 95 %"] = 10 if number % 2 else 2
        scores += [
            row(task, summarise.SIDES[name], seed, best - point * loss)
            for name, loss in lost.items()
            for seed in range(3)
        ]
    write(tmp_path / "scores.csv", scores)
    write(tmp_path / "random.csv", [{"environment": "mpe-simple_spread", "return": "-40"}])
    gate = [row("smax-3m", summarise.SIDES["dense"], s, v) for s, v in enumerate((0.7, 0.4, 0.65))]
    gate += [row("smax-2s3z", summarise.SIDES["dense"], s, 0.3) for s in range(3)]
    write(tmp_path / "gate.csv", gate)
    monkeypatch.setattr(sys, "argv", ["summarise.py", "--out", str(tmp_path)])
    summarise.main()
    found = [(c.status, c.measured) for c in read_claims(tmp_path / "claims.toml")][:4]
    # The second best of three seeds; tasks within five points.
    assert found == [("holds", 0.65), ("failed", 0.3), ("holds", 4.0), ("failed", 2.0)]
    assert (tmp_path / "curves_smax_3m.png").exists()


def test_speed_is_read_from_the_benchmark(summarise: ModuleType, tmp_path: Path) -> None:
    """A tenth of the dense time; half of JaxMARL's rate where an update learns from as much."""
    marl, schema = summarise.marl, summarise.schema
    update = {"case": marl.UPDATE, "metric": "time per update", "statistic": "low", "unit": "ms"}
    loop = {"case": marl.LOOP, "metric": "rate", "statistic": "median", "unit": "steps per second"}
    engine = {"implementation": marl.ENGINE, "sparsity": 0.95}
    alike = {"implementation": marl.ENGINE_ALIKE, "sparsity": 0.95}
    rows = [
        schema.Row(implementation=marl.DENSE, value=60.0, **update),
        schema.Row(**engine, value=6.0, ratio=0.1, ratio_to=marl.DENSE, **update),
        schema.Row(implementation="JaxMARL QMIX (commit x)", value=4000.0, **loop),
        schema.Row(**engine, value=8000.0, ratio=2.0, ratio_to="JaxMARL QMIX (commit x)", **loop),
        schema.Row(**alike, value=2000.0, ratio=0.5, ratio_to="JaxMARL QMIX (commit x)", **loop),
    ]
    schema.write(tmp_path / "marl.json", rows, command="thrifty bench marl")
    found = summarise.speed(tmp_path / "marl.json")
    assert [(one["measured"], one["status"]) for one in found] == [(10.0, "holds"), (0.5, "failed")]


def test_the_softmax_over_all_rises_with_its_sharpness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A softmax mean of one network's values rises with beta and lies below their maximum."""
    spec = importlib.util.spec_from_file_location("softmax", SCRIPTS / "softmax.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(sys, "argv", ["softmax.py", "--steps", "320", "--out", str(tmp_path)])
    script.main()
    for folder in (tmp_path, SCRIPTS):
        with (folder / "softmax.csv").open(newline="", encoding="utf-8") as file:
            rows = [
                {name: float(value) for name, value in row.items()} for row in csv.DictReader(file)
            ]
        assert [row["beta"] for row in rows] == [0.05, 0.5, 5.0]
        for one, two in pairwise(rows):
            assert one["full"] <= two["full"]
            assert one["maximum_distance"] >= two["maximum_distance"]


def test_what_topology_and_tricks_contribute(summarise: ModuleType) -> None:
    cells = {
        (topology, tricks): [10.0 * t + {"none": 0.0, "rlx2": 2.0, "mast": 5.0}[tricks]]
        for t, topology in enumerate(summarise.TOPOLOGIES)
        for tricks in summarise.TRICKS
    }
    (line,) = summarise.contributions(cells)
    assert "rlx2 +2.0, mast +5.0 points" in line
    assert "dense -20.0, tiny -10.0, static +0.0, set +10.0, rigl +20.0" in line
    del cells["set", "mast"]
    cells["set", "mast"] = []
    assert summarise.contributions(cells) == ["What topology and tricks contribute: not run."]
