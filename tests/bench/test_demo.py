from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from thrifty.bench import demo, schema
from thrifty.recipes import rlx2


def test_the_dense_twin_differs_in_sparsity_alone() -> None:
    config, twin = rlx2.demo(), demo.dense_twin(rlx2.demo())
    assert twin.backend == "reference"
    for network in ("actor", "critic"):
        dense = getattr(twin.algorithm, network)
        assert (dense.sparsity, dense.update_until) == (0.0, 0)
    algorithm = dataclasses.replace(
        twin.algorithm, actor=config.algorithm.actor, critic=config.algorithm.critic
    )
    assert dataclasses.replace(twin, backend=config.backend, algorithm=algorithm) == config


def test_both_loops_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = rlx2.demo
    monkeypatch.setattr(rlx2, "demo", lambda: short("Pendulum-v1", 2_000))
    rows = demo.measure(rounds=2, steps=20)
    schema.write(tmp_path / "bench.json", rows, command="thrifty demo")
    assert schema.read(tmp_path / "bench.json") == rows
    value = {(row.implementation, row.statistic): row.value or 0.0 for row in rows}
    assert set(value) == {(n, s) for n in (demo.AGENT, demo.DENSE) for s in ("low", "median")}
    # Milliseconds: a dense update of this size takes more than 0.1 and less than 1,000.
    assert 0.1 < value[demo.DENSE, "low"] < 1_000
    assert value[demo.AGENT, "low"] < value[demo.DENSE, "low"]
    sparse, dense = (
        next(r for r in rows if r.implementation == n) for n in (demo.AGENT, demo.DENSE)
    )
    assert dense.sparsity == 0.0
    assert sparse.sparsity is not None
    assert 0.85 < sparse.sparsity < 0.9
    assert sparse.ratio == pytest.approx((sparse.value or 0.0) / (dense.value or 1.0))
    assert (sparse.ratio_to, sparse.unit) == (demo.DENSE, "ms")
