"""records.jsonl: complete lines in, complete lines out, cut where the checkpoint says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thrifty.runs.records import RecordFile, read_records

_FIRST = {"kind": "train", "step": 1, "return": None}
_SECOND = {"kind": "evaluation", "step": 2, "returns": [1.5, -2.0]}


def test_what_is_written_is_read_at_once(tmp_path: Path) -> None:
    with RecordFile(tmp_path / "records.jsonl", 0) as file:
        file.append(_FIRST)
        assert read_records(tmp_path) == [_FIRST]
        length = file.sync()
        file.append(_SECOND)
    assert read_records(str(tmp_path)) == [_FIRST, _SECOND]
    assert length == len('{"kind": "train", "step": 1, "return": null}\n')
    with RecordFile(tmp_path / "records.jsonl", length) as file:
        assert file.sync() == length
        file.append(_SECOND)
        assert file.sync() == (tmp_path / "records.jsonl").stat().st_size
    assert read_records(tmp_path) == [_FIRST, _SECOND]


def test_an_unfinished_last_line_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text('{"kind": "train", "step": 1}\n{"kind": "tr')
    assert read_records(tmp_path) == [{"kind": "train", "step": 1}]
    (tmp_path / "records.jsonl").write_text("")
    assert read_records(tmp_path) == []


@pytest.mark.parametrize("line", ["{", "[1]", "", "\x00\xff"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "records.jsonl").write_text(f'{{"kind": "train"}}\n{line}\n{{}}\n')
    with pytest.raises(ValueError, match=r"records.jsonl: line 2 is damaged: delete it to read"):
        read_records(tmp_path)


def test_a_folder_without_records_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ValueError, match=r"holds no records \(records.jsonl\): name a run"):
            read_records(folder)


@pytest.mark.parametrize(
    ("field", "place"),
    [
        ({"critic_loss": float("nan")}, "critic_loss"),
        ({"losses": {"actor": [1.0, float("inf")]}}, "losses.actor.1"),
    ],
)
def test_what_is_not_finite_is_named_with_its_step(
    tmp_path: Path, field: dict[str, Any], place: str
) -> None:
    with RecordFile(tmp_path / "records.jsonl", 0) as file:
        file.append(_FIRST)
        with pytest.raises(ValueError, match=f"train record at step 9: {place} is not finite"):
            file.append({"kind": "train", "step": 9, "fine": 1.0, **field})
    assert read_records(tmp_path) == [_FIRST]
