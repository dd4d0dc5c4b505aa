"""The README says what the results say, and its Python example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from thrifty.report.claims import read_results, stale

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_claims_table_is_the_one_that_the_results_give() -> None:
    assert not stale(README, read_results(ROOT / "results"))


def test_the_first_example_is_short_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    # The same lines on a short run: Pendulum-v1 has three observations.
    for long, short in (("HalfCheetah-v5", "Pendulum-v1"), ("100_000", "300"), ("50_000", "50")):
        assert long in code
        code = code.replace(long, short)
    code = code.replace("evaluate_every=5_000", "evaluate_every=200").replace(
        "np.zeros(17)", "np.zeros(3)"
    )
    exec(compile(code, "README", "exec"), {})


def test_every_file_that_it_links_is_there() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
