from __future__ import annotations

import sys

import pytest

from thrifty.bench import find, lsvi, names
from thrifty.bench.schema import NOT_MEASURED


def test_it_is_listed() -> None:
    assert "lsvi" in names()
    assert find("lsvi") is lsvi.measure


def test_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(lsvi.INTERPRETER, raising=False)
    rows = lsvi.measure(rounds=1, short=200, long=400, few=(10,), continuous=(10, 20))
    throughput = [row for row in rows if row.metric == "throughput" and row.ratio is not None]
    assert {row.implementation for row in throughput} == {"LSVI-UCB, K=400", "LSVI-UCB+, K=400"}
    times = {
        row.implementation: row.value for row in rows if row.metric == "processor time of a run"
    }
    assert len(times) == 4
    for row in throughput:
        assert row.value == pytest.approx(400 / times[row.implementation], rel=1e-9)
    (theirs,) = [row for row in rows if row.implementation == lsvi.THEIRS]
    assert theirs.statistic == NOT_MEASURED
    continuous = [row for row in rows if row.case.startswith("latent")]
    assert [row.ratio is None for row in continuous] == [True, False, True, False]


def test_an_interpreter_without_rlberry_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lsvi.INTERPRETER, sys.executable)
    with pytest.raises(ValueError, match=r"cannot run rlberry-scool: .*rlberry"):
        lsvi._rlberry((10,))
    monkeypatch.setenv(lsvi.INTERPRETER, "/nowhere/python")
    with pytest.raises(ValueError, match="RLBERRY_PYTHON=/nowhere/python cannot be run"):
        lsvi._rlberry((10,))


def test_the_ratio_and_its_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lsvi, "_rlberry", lambda few: [1.0, 4.0])  # seconds
    rows = lsvi._beside(1, (10, 20))
    one, two = (row for row in rows if row.ratio is not None)
    assert (one.value, two.value) == (1000.0, 4000.0)
    assert one.ratio is not None
    assert two.ratio is not None
    growth = rows[-1]
    assert growth.metric == "growth of the ratio from K=10 to K=20"
    assert growth.value == pytest.approx(two.ratio / one.ratio)
