from __future__ import annotations

import dataclasses
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from thrifty import bench
from thrifty.bench import schema
from thrifty.bench.schema import NOT_MEASURED, Row


def row(**changes: Any) -> Row:
    fields: dict[str, Any] = {
        "case": "step",
        "implementation": "ours",
        "metric": "time per step",
        "statistic": "median",
        "value": 6.0,
        "unit": "us",
    }
    return Row(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"case": ""}, "case"),
        ({"unit": None}, "unit"),
        ({"sparsity": 1.0}, "sparsity"),
        ({"sparsity": -0.1}, "sparsity"),
        ({"threads": 0}, "threads"),
        ({"threads": True}, "threads"),
        ({"updates_per_call": -1}, "updates_per_call"),
        ({"value": float("nan")}, "finite"),
        ({"value": "6"}, "finite"),
        ({"value": None}, NOT_MEASURED),
        ({"statistic": NOT_MEASURED}, NOT_MEASURED),
        ({"ratio": 2.0}, "both"),
        ({"ratio_to": "theirs"}, "both"),
    ],
)
def test_a_row_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        row(**changes)


def test_compare_divides_within_case_metric_and_statistic() -> None:
    rows = [
        row(),
        row(implementation="theirs", value=4.0),
        row(statistic="low", value=5.0),  # no partner: theirs has no "low"
        row(implementation="theirs", case="other", value=100.0),
    ]
    compared = schema.compare(rows, implementation="ours", ratio_to="theirs")
    assert compared[0].ratio == 1.5  # 6 over 4
    assert compared[0].ratio_to == "theirs"
    assert compared[1:] == rows[1:]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = schema.compare(
        [row(), row(implementation="theirs", value=4.0)], implementation="ours", ratio_to="theirs"
    )
    path = tmp_path / "new" / "bench.json"
    schema.write(path, rows, command="thrifty bench x")
    assert schema.read(path) == rows
    document = json.loads(path.read_text())
    assert sorted(document) == ["command", "hardware", "load", "rows", "versions"]
    assert document["command"] == "thrifty bench x"
    assert document["versions"].keys() >= {"python", "numpy", "torch", "gymnasium", "mujoco"}
    assert set(document["rows"][0]) == {
        *("case", "implementation", "sparsity", "threads", "updates_per_call", "metric"),
        *("statistic", "value", "unit", "ratio_to", "ratio"),
    }
    assert [entry.name for entry in path.parent.iterdir()] == ["bench.json"]


def test_nothing_is_written_when_the_rows_do_not_fit(tmp_path: Path) -> None:
    lonely = dataclasses.replace(row(), ratio_to="theirs", ratio=1.5)
    with pytest.raises(ValueError, match="no row"):
        schema.write(tmp_path / "bench.json", [lonely], command="x")
    with pytest.raises(ValueError, match="at least one row"):
        schema.write(tmp_path / "bench.json", [], command="x")
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_load_averages_is_measured_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "getloadavg")  # Windows has none
    schema.write(tmp_path / "bench.json", [row()], command="x")
    load = json.loads((tmp_path / "bench.json").read_text())["load"]
    assert load == {"one_minute": None, "five_minutes": None}


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    schema.check_writable(tmp_path / "new" / "bench.json")
    schema.check_writable(tmp_path / "file")
    for path in (tmp_path, tmp_path / "file" / "bench.json"):
        with pytest.raises(ValueError, match=rf"{path} cannot be written \(.*\): choose another"):
            schema.check_writable(path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "new"]


def test_a_wrong_ratio_and_a_foreign_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    rows = [row(ratio_to="theirs", ratio=1.5), row(implementation="theirs", value=4.0)]
    schema.write(path, rows, command="x")
    path.write_text(path.read_text().replace('"ratio": 1.5', '"ratio": 1.4'))
    with pytest.raises(ValueError, match=r"bench\.json is not a benchmark file: row 0: 6\.0 over"):
        schema.read(path)
    path.write_text('{"rows": []}')
    with pytest.raises(ValueError, match="has the keys"):
        schema.read(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="is not a benchmark file"):
        schema.read(path)


def test_the_table_shows_numbers_and_gaps() -> None:
    rows = [row(ratio_to="theirs", ratio=1.5), row(statistic=NOT_MEASURED, value=None)]
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(schema.tables([*rows, row(case="another case")]))
    text = console.export_text()
    assert "step: time per step" in text
    assert "another case: time per step" in text
    assert "6.0 us" in text
    assert "1.50 x theirs" in text
    assert NOT_MEASURED in text


def test_benchmarks_are_found_by_name() -> None:
    assert "env_loop" in bench.names()
    assert not {"schema", "timing"} & set(bench.names())
    with pytest.raises(ValueError, match="env_loop"):
        bench.find("env_lop")
