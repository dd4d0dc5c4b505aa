"""What a person sees of a sweep."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console
from toy_counter import Counter

from thrifty.runs.sweep import Place
from thrifty.runs.sweep_table import SweepTable
from thrifty.runs.worker import Job


def places_of(folder: Path, count: int) -> list[Place]:
    document = {"config": {"steps": Counter(steps=1000).steps}}
    jobs = [
        Job(directory=str(folder / f"run{n}"), document=document, namespace="")
        for n in range(count)
    ]
    return [Place(job) for job in jobs]


def test_the_table_shows_work_first_and_counts_what_does_not_fit(tmp_path: Path) -> None:
    places = places_of(tmp_path, 30)
    places[0].standing = "done"
    places[1].standing, places[1].message = "failed", "reward is NaN [at] step 3"
    places[7].standing, places[7].deaths = "at work", 1
    folder = tmp_path / "run7"
    folder.mkdir()
    record = {"kind": "train", "step": 400, "return": 12.5, "sparsity": 0.9}
    (folder / "records.jsonl").write_text(json.dumps(record) + "\n")
    console = Console(file=io.StringIO(), width=100, height=15, force_terminal=True)
    table = SweepTable(console)
    text = Console(file=io.StringIO(), width=100, height=15, record=True)
    text.print(table.picture(places))
    lines = text.export_text().splitlines()
    assert lines[1].split() == [
        "run7",
        "at",
        "work",
        "(1)",
        "400",
        "━━━━",
        "return",
        "12",
        "sparsity",
        "0.90",
    ]
    assert lines[2].split()[:2] == ["run1", "failed"]
    assert "reward is NaN [at] step 3" in lines[2]
    assert len(lines) == 12  # heading, ten runs, the sum
    assert lines[-1].split()[:8] == ["1", "at", "work", "1", "failed", "27", "waiting", "1"]
    assert "20 more not shown" in lines[-1]


def test_without_a_terminal_every_change_is_a_line(tmp_path: Path) -> None:
    places = places_of(tmp_path, 2)
    said = io.StringIO()
    with SweepTable(Console(file=said, width=60)) as table:
        table(places)
        places[0].standing = "at work"
        table(places)
        table(places)
        places[0].standing, places[0].deaths, places[0].message = "waiting", 1, "killed by SIGKILL"
        table(places)
        places[0].standing = "at work"
        table(places)
        places[0].standing = "done"
        table(places)
    assert said.getvalue().splitlines() == [
        "0/2 done  run0  at work",
        "0/2 done  run0  died, retry 1: killed by SIGKILL",
        "0/2 done  run0  at work: killed by SIGKILL",
        "1/2 done  run0  done",
    ]
