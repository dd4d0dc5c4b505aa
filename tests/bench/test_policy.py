from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from thrifty.bench import policy, schema
from thrifty.bench.schema import NOT_MEASURED, Row

QUICK = {"rounds": 2, "calls": 3}


def ratio(rows: list[Row], case: str, implementation: str, other: str) -> float:
    (found,) = (
        row.ratio
        for row in rows
        if case in row.case
        and row.implementation == implementation
        and row.ratio_to == other
        and row.statistic in ("low", "exact")
    )
    assert found is not None
    return found


def test_every_case_is_measured_in_the_schema(tmp_path: Path) -> None:
    rows = policy.measure(**QUICK, sparsities=(0.95,))
    schema.write(tmp_path / "policy.json", rows, command="thrifty bench policy")
    assert schema.read(tmp_path / "policy.json") == rows
    assert {row.case.split(",")[0] for row in rows} == {"HalfCheetah-v5", "Humanoid-v5"}
    for case in ("HalfCheetah", "Humanoid"):
        # Hand-counted: dense float32 weights and biases, 2 % for the six members of the archive.
        inputs, actions = (17, 6) if case == "HalfCheetah" else (348, 17)
        (dense,) = (r.value for r in rows if case in r.case and r.implementation == policy.SAVEZ)
        numbers = 256 * (inputs + 256 + actions) + 512 + actions
        assert dense == pytest.approx(4 * numbers, rel=0.02)
        assert ratio(rows, case, policy.OURS_FILE, policy.SAVEZ) <= policy.MARK_FILE
        for other in (policy.NUMPY, policy.TORCH):
            assert ratio(rows, case, policy.OURS, other) > 0
        assert ratio(rows, case, policy.OURS_NUMPY, policy.NUMPY) > 0
    assert {row.sparsity for row in rows} == {0.0, 0.95}


def test_without_onnxruntime_a_gap_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    before = torch.get_num_threads(), torch.random.get_rng_state()
    rows = policy.measure(**QUICK, sparsities=(0.9,))
    gaps = [row.implementation for row in rows if row.statistic == NOT_MEASURED]
    assert gaps == [policy.ONNXRUNTIME] * 2
    assert 'pip install "thrifty[onnx]"' in capsys.readouterr().out
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])


@pytest.mark.slow
def test_the_marks_are_met() -> None:
    """The low quantiles, which a busy machine disturbs least."""
    rows = policy.measure(sparsities=(0.95,))
    for case in ("HalfCheetah", "Humanoid"):
        assert ratio(rows, case, policy.OURS, policy.NUMPY) <= policy.MARK_NUMPY
        assert ratio(rows, case, policy.OURS, policy.TORCH) <= policy.MARK_TORCH
        # Both are the same BLAS calls at heart; 3 % is what two samples of one thing differ by.
        assert ratio(rows, case, policy.OURS_NUMPY, policy.NUMPY) <= 1.03
