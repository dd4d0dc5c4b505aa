from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thrifty.report import claims as claims_module
from thrifty.report import read_claims, read_results, render_table, stale
from thrifty.report.claims import replace_section

ROW = """
[[claims]]
claim = "beats a random policy"
where = "section 5, table 2"
metric = "return above random"
expected = ">= 200"
tolerance = 0
measured = 812.46
interval = [640, 930.5]
runs = ["a", "b", "c"]
seeds = [0, 1, 2]
hardware = "two cores"
hours = 0.25
status = "holds"
"""
OPEN = """
[[claims]]
claim = "saves | parameters"
where = "table 1"
metric = "share kept"
expected = 0.133
tolerance = 0.001
status = "not run"
"""
README = "# T\n<!-- claims:begin -->\nold\n<!-- claims:end -->\nrest\n"


def write(folder: Path, text: str, paper: str = "rlx2") -> Path:
    path = folder / paper / "claims.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_row_is_read(tmp_path: Path) -> None:
    (claim,) = read_claims(write(tmp_path, ROW))
    assert claim.paper == "rlx2"
    assert claim.expected == ">= 200"
    assert (claim.measured, claim.interval) == (812.46, (640.0, 930.5))
    assert (claim.runs, claim.seeds) == (("a", "b", "c"), (0, 1, 2))
    assert (claim.hardware, claim.hours, claim.status) == ("two cores", 0.25, "holds")


def test_the_table(tmp_path: Path) -> None:
    table = render_table(read_claims(write(tmp_path, OPEN + ROW)))
    head, rule, first, blank, hardware, *folded = table.split("\n")
    assert head.count("|") == rule.count("|") == first.count("|") == 10
    assert first == (
        "| rlx2 | beats a random policy | section 5, table 2 | return above random | ≥ 200 "
        "| 812.5 [640, 930.5] | 3 (seeds 0, 1, 2) | 0.25 | holds |"
    )
    assert (blank, hardware) == ("", "Hardware: two cores.")
    # Between the tags a table needs a blank line on either side.
    assert folded == [
        "",
        "<details>",
        "<summary>Not run yet: 1 claim</summary>",
        "",
        "| paper | claim | where | metric | expected |",
        "|---|---|---|---|---|",
        "| rlx2 | saves \\| parameters | table 1 | share kept | 0.133 ± 0.001 |",
        "",
        "</details>",
    ]
    nothing = render_table(read_claims(write(tmp_path, OPEN)))
    assert nothing.split("\n") == ["Nothing has been run yet.", *folded]
    assert "<details>" not in render_table(read_claims(write(tmp_path, ROW)))
    # Where a table's rows stand for the runs.
    for seeds, told in (("[4, 5, 6]", "3 seeds"), ("[4]", "1 seed")):
        rows = ROW.replace('runs = ["a", "b", "c"]\n', "").replace("[0, 1, 2]", seeds)
        assert f"| {told} |" in render_table(read_claims(write(tmp_path, rows)))
    assert render_table([]) == "No claims yet."


@pytest.mark.parametrize(
    ("expected", "tolerance", "measured", "verdict"),
    [
        ("0.1", 0.2, 0.3, "holds"),  # exactly at the edge, although not in binary
        ("0.1", 0.2, 0.31, "failed"),
        ("0.1", 0.2, -0.11, "failed"),
        ('">= 200"', 0, 200, "holds"),
        ('">= 200"', 0, 199.9, "failed"),
        ('">= 200"', 1, 199.9, "holds"),
        ('"<= 0.5"', 0, 0.6, "failed"),
        ('"<= 0.5"', 0.1, 0.6, "holds"),
        ('"<= -250"', 0, -260, "holds"),
    ],
)
def test_the_status_follows_from_the_numbers(
    tmp_path: Path, expected: str, tolerance: float, measured: float, verdict: str
) -> None:
    text = OPEN.replace("expected = 0.133", f"expected = {expected}")
    text = text.replace("0.001", f"{tolerance}\nmeasured = {measured}")
    wrong = {"holds": "failed", "failed": "holds"}[verdict]
    (claim,) = read_claims(write(tmp_path, text.replace("not run", verdict)))
    assert claim.verdict == verdict
    if verdict == "failed":
        assert "**failed**" in render_table([claim])
    for status in (wrong, "not run"):
        with pytest.raises(ValueError, match=f"row 1: status is '{status}', but .*'{verdict}'"):
            read_claims(write(tmp_path, text.replace("not run", status)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('metric = "return above random"\n', "", "lacks metric"),
        ("hours", "hour", "unknown hour; the fields are claim, where"),
        ('"holds"', '"ok"', "status is 'ok'; it must be one of holds, failed, not run"),
        ('">= 200"', '"> 200"', "write a number"),
        ('">= 200"', '">= many"', "write a number"),
        ('">= 200"', "true", "expected is True"),
        ("tolerance = 0", "tolerance = -1", "must not be negative"),
        ("812.46", "nan", "finite number"),
        ("812.46", '"812"', "finite number"),
        ("[640, 930.5]", "[930.5, 640]", "lower bound comes first"),
        ("[640, 930.5]", "[640]", r"\[low, high\]"),
        ('["a", "b", "c"]', "3", "list of texts"),
        ("[0, 1, 2]", "[0.5]", "list of integers"),
        ('"beats a random policy"', '" "', "claim is ' '; it must be a text"),
        ("[[claims]]", "[[claim]]", r"must hold \[\[claims\]\] rows"),
        ("tolerance = 0", "tolerance =", "is not valid TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in ROW
    path = write(tmp_path, ROW.replace(old, new))
    with pytest.raises(ValueError, match=message) as refusal:
        read_claims(path)
    assert str(path) in str(refusal.value)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, ROW)
    path.write_bytes(ROW.replace("random", "zufällig").encode("latin-1"))
    with pytest.raises(ValueError, match=r"claims.toml is not valid TOML: 'utf-8' codec"):
        read_claims(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"claims.toml cannot be read"):
        read_claims(tmp_path / "claims.toml")


def test_all_papers_are_read_in_order(tmp_path: Path) -> None:
    write(tmp_path, ROW, "rlx2")
    write(tmp_path, OPEN, "mast")
    assert [claim.paper for claim in read_results(tmp_path)] == ["mast", "rlx2"]
    assert read_results(tmp_path / "empty") == ()


def test_a_readme_goes_stale_with_its_claims(tmp_path: Path) -> None:
    rows = read_claims(write(tmp_path, ROW))
    assert stale(README, rows)
    fresh = replace_section(README, rows)
    assert not stale(fresh, rows)
    assert fresh.startswith("# T\n<!-- claims:begin -->\n| paper |")
    assert fresh.endswith("\n<!-- claims:end -->\nrest\n")
    assert "\nold\n" not in fresh
    assert stale(fresh, rows * 2)
    changed = read_claims(write(tmp_path, ROW.replace("812.46", "912.46")))
    assert stale(fresh, changed)


@pytest.mark.parametrize(
    "text",
    ["", claims_module.BEGIN, README + README, f"{claims_module.END}{claims_module.BEGIN}"],
)
def test_a_readme_without_its_markers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the line <!-- claims:begin --> once"):
        stale(text, ())


def test_any_table_survives(tmp_path: Path) -> None:
    rows: Any = read_claims(write(tmp_path, OPEN.replace("saves |", "a \\\\ b\\n|")))
    line = render_table(rows).split("\n")[7]
    assert line.count("|") - line.count("\\|") == 6
