"""Rows of claims.toml that a script writes, between two comment lines that name the script."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thrifty.report.claims import Claim, read_claims

CLAIMS = Path(__file__).resolve().parent / "claims.toml"


def claim_row(
    *,
    claim: str,
    where: str,
    metric: str,
    expected: str,
    measured: float | None,
    interval: tuple[float, float] | None,
    runs: Sequence[str],
    seeds: Sequence[int],
    hardware: str,
    hours: float,
) -> str:
    """Return one row as TOML; its status follows from the numbers.

    Args:
        claim: what is said.
        where: in the paper.
        metric: what is measured, with its unit.
        expected: a bound, such as ">= 97".
        measured: None where it was not run.
        interval: 95 %; None or not finite with a single seed.
        runs: folders or files beside claims.toml.
        seeds: that were measured.
        hardware: in words.
        hours: of computing.
    """
    row: dict[str, Any] = {
        "claim": claim,
        "where": where,
        "metric": metric,
        "expected": expected,
        "tolerance": 0,
    }
    if measured is not None:
        row["measured"] = float(f"{measured:.4g}")
        if interval is not None and all(abs(bound) < float("inf") for bound in interval):
            row["interval"] = [float(f"{bound:.4g}") for bound in interval]
        row |= {"runs": list(runs), "seeds": list(seeds), "hardware": hardware}
        row["hours"] = float(f"{hours:.2g}")
    status = Claim(
        paper="", **{**row, "interval": None, "runs": (), "seeds": (), "status": ""}
    ).verdict
    row["status"] = status
    # A JSON text, number or list of them reads the same in TOML.
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in row.items()]
    return "\n".join(["[[claims]]", *lines])


def write_rows(script: str, rows: Sequence[str], path: Path = CLAIMS) -> None:
    """Replace the rows that a script wrote before, or append them.

    Args:
        script: its name.
        rows: from :func:`claim_row`.
        path: of the claims file.

    Raises:
        ValueError: a row that cannot be read back; the file stays as it was.
    """
    begin, end = f"# Rows written by {script}: begin", f"# Rows written by {script}: end"
    text = path.read_text(encoding="utf-8")
    section = "\n\n".join([begin, *rows, end])
    if begin in text:
        before, rest = text.split(begin)
        text = before + section + rest.split(end)[1]
    else:
        text = f"{text.rstrip()}\n\n{section}\n"
    draft = path.with_name(path.name + ".new")
    draft.write_text(text, encoding="utf-8")
    try:
        read_claims(draft)  # before it takes the place of what is there
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
