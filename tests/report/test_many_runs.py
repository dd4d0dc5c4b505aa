"""Reports over a sweep: groups by settings, tasks together, a table, and two hundred runs."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thrifty.report import load_run, write_report
from thrifty.report.aggregates import normalised
from thrifty.report.groups import by_task, labels
from thrifty.report.run_table import run_table

MakeRun = Callable[..., Path]


def short_records(final: float, *, environment: str = "A-v0", random: float = 0.0) -> list[Any]:
    """Three records: a random policy and one evaluation, by which scores are known by hand."""
    return [
        {"kind": "start", "step": 0, "environment": environment, "steps": 100},
        {"kind": "random_policy", "step": 0, "return_mean": random, "wall_seconds": 0.0},
        {"kind": "evaluation", "step": 100, "return_mean": final, "wall_seconds": 50.0},
        {"kind": "end", "step": 100, "wall_seconds": 50.0, "wall_cpu_seconds": 40.0},
    ]


@pytest.fixture
def short_run(write_run_at: MakeRun) -> MakeRun:
    """Writes short_records: short_run(folder, recipe, environment, seed, final)."""

    def write(
        folder: Path, recipe: str, environment: str, seed: int, final: float, random: float = 0.0
    ) -> Path:
        return write_run_at(
            folder / f"{recipe}-{environment}-{seed}",
            recipe=recipe,
            environment=environment,
            seed=seed,
            records=short_records(final, environment=environment, random=random),
        )

    return write


def set_config(folder: Path, **entries: Any) -> None:
    document = json.loads((folder / "config.json").read_text())
    document["arguments"] |= entries.pop("arguments", {})
    (folder / "config.json").write_text(json.dumps(document | entries))


def test_groups_are_named_by_the_settings_that_differ(make_run: MakeRun) -> None:
    one, two, three, four = (make_run(name, until=1000) for name in "abcd")
    set_config(one, arguments={"learner": "td3"})
    set_config(two, arguments={"learner": "sac"}, overrides=["--algorithm.tau", "0.01", "--no-x"])
    set_config(three, arguments={"learner": "td3", "steps": 7})  # a length is no setting
    set_config(four, recipe="rlx2.dense")
    assert labels([load_run(run) for run in (one, two, three, four)]) == [
        "rlx2.td3 (algorithm.tau=default, learner=td3, no-x=default)",
        "rlx2.td3 (algorithm.tau=0.01, learner=sac, no-x=on)",
        "rlx2.td3 (algorithm.tau=default, learner=td3, no-x=default)",
        "rlx2.dense",
    ]


def test_runs_of_different_lengths_are_never_averaged(
    write_run_at: MakeRun, tmp_path: Path
) -> None:
    """A sweep with `--set steps=100,200`: n-step delay, warm-up and so on are fractions of it."""
    runs = []
    for task, steps, seed in (
        ("A-v0", 100, 0),
        ("A-v0", 200, 0),
        ("A-v0", 200, 1),
        ("B-v0", 50, 0),
    ):
        records = short_records(1.0, environment=task)
        records[0]["steps"] = steps
        folder = tmp_path / f"{task}-{steps}-{seed}"
        runs.append(
            load_run(
                write_run_at(
                    folder, recipe="rlx2.td3", environment=task, seed=seed, records=records
                )
            )
        )
    assert labels(runs) == [
        "rlx2.td3 (steps=100)",
        "rlx2.td3 (steps=200)",
        "rlx2.td3 (steps=200)",
        "rlx2.td3",  # alone on its task
    ]
    assert {name: len(own) for name, own in by_task(runs)["A-v0"].items()} == {
        "rlx2.td3 (steps=100)": 1,
        "rlx2.td3 (steps=200)": 2,
    }


def test_normalised_scores_by_hand(short_run: MakeRun, tmp_path: Path) -> None:
    runs = [
        # Task A: random 100, reference 300 and 500, mean 400. Task B: random 0, reference 10, 10.
        short_run(tmp_path, "ref", "A-v0", 0, 300, random=100.0),
        short_run(tmp_path, "ref", "A-v0", 1, 500, random=100.0),
        short_run(tmp_path, "ref", "B-v0", 0, 10),
        short_run(tmp_path, "ref", "B-v0", 1, 10),
        short_run(tmp_path, "new", "A-v0", 0, 700, random=100.0),
        short_run(tmp_path, "new", "B-v0", 0, 5),
        short_run(tmp_path, "new", "B-v0", 4, 5),  # task A lacks this seed
        short_run(tmp_path, "ref", "C-v0", 0, -3),  # not above random
        short_run(tmp_path, "new", "C-v0", 0, 9),
        short_run(tmp_path, "ref", "D-v0", 0, 1),  # nobody else is there
    ]
    tasks = by_task([load_run(run) for run in runs])
    scores, used, remarks = normalised(tasks, ["ref", "new"])
    assert used == ["A-v0", "B-v0"]
    np.testing.assert_allclose(scores["ref"], [[2 / 3, 1.0], [4 / 3, 1.0]])
    np.testing.assert_allclose(scores["new"], [[2.0, 0.5]])
    told = " ".join(remarks)
    assert "C-v0 is left out: ref is not above the random policy." in told
    assert "D-v0 is left out: no comparable run of new." in told
    assert "new: seeds that not every task has are left out: 4." in told


def test_several_runs_of_a_seed_count_once(short_run: MakeRun, tmp_path: Path) -> None:
    runs = [
        short_run(tmp_path, "ref", "A-v0", 0, 10),
        short_run(tmp_path, "ref", "B-v0", 0, 10),
        short_run(tmp_path, "new", "A-v0", 0, 7),
        short_run(tmp_path / "again", "new", "A-v0", 0, 5),
        short_run(tmp_path, "new", "B-v0", 0, 5),
    ]
    tasks = by_task([load_run(run) for run in runs])
    scores, _, remarks = normalised(tasks, ["ref", "new"])
    np.testing.assert_allclose(scores["new"], [[0.6, 0.5]])  # the mean of .7 and .5
    assert "A-v0: new has several runs of a seed: their mean." in remarks


def test_a_sweeps_folder_stands_for_its_runs(short_run: MakeRun, tmp_path: Path) -> None:
    for recipe, level in (("ref", 100.0), ("new", 120.0)):
        for task in ("A-v0", "B-v0"):
            for seed in range(3):
                short_run(tmp_path / "sweep", recipe, task, seed, level + seed)
    (tmp_path / "sweep" / "notes").mkdir()
    page = write_report([tmp_path / "sweep"], table=tmp_path / "runs.csv")
    assert page == tmp_path / "sweep" / "report.html"
    html = page.read_text()
    assert "12 runs" in html
    assert "All tasks together" in html
    assert "improvement over new" in html  # the first by name
    assert html.count("<svg") == 6  # two of all tasks together, two a task
    rows = list(csv.DictReader(io.StringIO((tmp_path / "runs.csv").read_text())))
    assert len(rows) == 12
    first = next(row for row in rows if row["run"] == "new-A-v0-1")
    assert first.items() >= {
        "recipe": "new", "group": "new", "task": "A-v0", "seed": "1", "steps": "100",
        "finished": "yes", "final_return": "121.0", "random_return": "0.0", "regret": "",
        "wall_seconds": "50.0", "cpu_seconds": "40.0", "steps_per_second": "2.0",
    }.items()  # fmt: skip


def test_a_report_can_be_repeated_with_all_that_lies_there(
    short_run: MakeRun, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    for seed in range(2):
        short_run(runs, "ref", "A-v0", seed, 100.0)
    pages = []
    for _ in range(2):  # the second time, page and table are among what runs/* names
        write_report(sorted(runs.iterdir()), None, runs / "runs.csv")
        pages.append((runs / "report.html").read_text())
    assert pages[0] == pages[1]
    with pytest.raises(ValueError, match="there is no run to report on"):
        write_report([runs / "report.html"])


def test_an_empty_folder_is_no_sweep(short_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no run"):
        write_report([tmp_path])
    run = short_run(tmp_path, "ref", "A-v0", 0, 1.0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="choose another --csv"):
        write_report([run], table=tmp_path / "file" / "x.csv")


def test_the_ledger_is_in_the_table(make_run: MakeRun) -> None:
    run = load_run(make_run("x"))
    (row,) = csv.DictReader(io.StringIO(run_table([run])))
    ledger = run.first("start")["ledger"]
    assert float(row["parameters_kept"]) == pytest.approx(ledger["parameters"]["ratio"])
    assert float(row["training_flops_kept"]) == pytest.approx(ledger["training_flops"]["ratio"])
    assert float(row["inference_flops_kept"]) == pytest.approx(ledger["inference_flops"]["ratio"])
    assert run_table([]) == "\n"


def test_two_hundred_runs_make_a_page_that_opens_quickly(
    write_run_at: MakeRun, records_of: Callable[..., list[Any]], tmp_path: Path
) -> None:
    """Size is what a browser has to read: under 8 MB and 60,000 elements, written in a minute."""
    for task in ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5"):
        for number, recipe in enumerate(
            ("rlx2.td3", "rlx2.rigl", "rlx2.set", "rlx2.static", "rlx2.dense")
        ):
            for seed in range(10):
                records = [
                    record
                    for record in records_of(
                        seed=97 * number + seed, environment=task, steps=1_000_000, evaluations=200,
                        final=2000 + 100 * number,
                    )
                    if record["kind"] in ("start", "random_policy", "evaluation", "end")
                ]  # fmt: skip
                write_run_at(
                    tmp_path / f"{recipe}-{task}-{seed}",
                    recipe=f"rlx2.{recipe}",
                    environment=task,
                    seed=seed,
                    steps=1_000_000,
                    records=records,
                )
    began = time.process_time()
    page = write_report([tmp_path])
    seconds = time.process_time() - began
    html = page.read_text()
    assert "200 runs" in html
    size, elements = len(html), len(re.findall("<[a-z]", html))
    assert size < 8_000_000, f"{size / 1e6:.1f} MB"
    assert elements < 60_000
    assert seconds < 60
    assert not re.search(r"<(script|link|img)\b|https?://(?!www\.w3\.org)", html)  # self-contained
