"""The benchmark of iterated-CVaR learners, at tiny sizes."""

from __future__ import annotations

from typing import Any

import pytest

from thrifty.bench import icvar
from thrifty.episodic.risk_config import MixtureConfig


def test_rows_fit_and_name_every_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(icvar, "LARGE", MixtureConfig(states=20, horizon=4))
    rows = icvar.measure(rounds=1, short=50, long=200, large=50, classes=50, comparisons=20)
    throughput: dict[str, Any] = {
        row.implementation: row for row in rows if row.metric == "throughput"
    }
    assert sorted(throughput) == [
        "ICVaR-G, K=50",
        "ICVaR-HF, m=1, K=20",
        "ICVaR-HF, m=20, K=20",
        "ICVaR-L, K=200",
        "ICVaR-L, K=50",
        "ICVaR-RM, K=200",
    ]
    for row in rows:
        if row.metric != "throughput":
            episodes = int(row.implementation.split("K=")[1])
            other = [
                r
                for r in rows
                if r.metric == "throughput"
                and (r.case, r.implementation, r.statistic)
                == (row.case, row.implementation, row.statistic)
            ]
            assert row.value == pytest.approx(episodes / other[0].value)
    assert throughput["ICVaR-L, K=200"].ratio_to == "ICVaR-L, K=50"
