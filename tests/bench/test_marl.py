from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from thrifty.bench import marl, schema
from thrifty.bench.schema import NOT_MEASURED


def test_rows_fit_and_gaps_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "jaxmarl" else find(name)
    )
    rows = marl.measure(rounds=1, length=3, steps=64)
    schema.write(tmp_path / "marl.json", rows, command="thrifty bench marl")
    assert schema.read(tmp_path / "marl.json") == rows
    gaps = [row.implementation for row in rows if row.statistic == NOT_MEASURED]
    assert gaps == ["JaxMARL QMIX", "thrifty QMIX, engine"]
    compared = {(row.implementation, row.ratio_to) for row in rows if row.ratio is not None}
    assert compared == {("thrifty QMIX, masked", "thrifty QMIX, dense")}
    assert {row.case for row in rows} >= {"skirmish, 8 updates per 2,048 steps"}
