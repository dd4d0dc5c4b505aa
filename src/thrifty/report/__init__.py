"""Reports of runs: figures, one self-contained HTML page, and the table of claims. Never torch."""

from __future__ import annotations

from thrifty.report.claims import Claim, read_claims, read_results, render_table, stale
from thrifty.report.page import write_report
from thrifty.report.run_data import RunData, load_run

__all__ = [
    "Claim",
    "RunData",
    "load_run",
    "read_claims",
    "read_results",
    "render_table",
    "stale",
    "write_report",
]
