"""What a person sees of a sweep."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from toy_counter import Counter

from thrifty.runs.sweep import Place
from thrifty.runs.sweep_table import SweepTable
from thrifty.runs.worker import Job


def places_of(folder: Path, count: int, name: str = "run") -> list[Place]:
    document = {"config": {"steps": Counter(steps=1000).steps}}
    jobs = [
        Job(directory=str(folder / f"{name}{n}"), document=document, namespace="")
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


@pytest.mark.parametrize("width", [80, 120, 200])
def test_runs_can_be_told_apart_on_every_terminal(width: int, tmp_path: Path) -> None:
    places = places_of(tmp_path, 6, "rlx2.td3-Pendulum-v1-steps=1000000-seed")
    record = {"kind": "train", "step": 400, "return": -1403.5, "sparsity": 0.9}
    for place in places:
        place.standing = "at work"
        folder = Path(place.job.directory)
        folder.mkdir()
        (folder / "records.jsonl").write_text(json.dumps(record) + "\n")
    text = Console(file=io.StringIO(), width=width, height=20, record=True)
    text.print(SweepTable(text).picture(places))
    lines = text.export_text().splitlines()
    assert len(lines) == 8  # heading, six runs, the sum: no row takes two lines
    names = [line.split("  ")[0] for line in lines[1:7]]
    assert all(name.startswith("rlx2.td") for name in names)
    assert [name[-6:] for name in names] == [f"-seed{n}"[-6:] for n in range(6)]
    assert all("return" in line for line in lines[1:7])


def test_who_stops_a_sweep_is_told_what_goes_on(tmp_path: Path) -> None:
    places = places_of(tmp_path, 2)
    places[0].standing = "stopping"
    text = Console(file=io.StringIO(), width=100, height=15, record=True)
    text.print(SweepTable(text).picture(places))
    lines = text.export_text().splitlines()
    assert lines[1].split()[:2] == ["run0", "stopping"]
    assert lines[-1].split("   ") == [
        "1 stopping  1 waiting",
        "each saves a checkpoint; Ctrl-C again ends all at once",
    ]


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
