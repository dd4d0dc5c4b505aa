from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from thrifty.cli import main
from thrifty.report import load_run

MakeRun = Any  # the fixture of conftest.py


def test_what_a_run_says_about_itself(make_run: MakeRun) -> None:
    run = load_run(make_run("a-run", recipe="dense.td3", seed=4, environment="Hopper-v5"))
    assert (run.name, run.recipe, run.seed, run.task) == ("a-run", "dense.td3", 4, "Hopper-v5")
    assert (run.steps, run.planned_steps, run.finished) == (20_000, 20_000, True)
    assert (run.wall_seconds, run.random_return) == (150.0, -275.0)
    assert run.processor == "Some CPU @ 2.80GHz"


def test_a_run_that_was_cut(make_run: MakeRun) -> None:
    run = load_run(make_run("cut", until=5_500))
    assert (run.steps, run.finished, run.wall_seconds) == (5400, False, 40.5)


def test_column_skips_what_is_missing_and_keeps_the_last_of_repeats(make_run: MakeRun) -> None:
    records = [
        {"kind": "evaluation", "step": 10, "return_mean": 1.0, "wall_seconds": 3.0},
        {"kind": "evaluation", "step": 30, "return_mean": 4.0},
        {"kind": "evaluation", "step": 20, "return_mean": None, "wall_seconds": 5.0},
        {"kind": "evaluation", "step": 10, "return_mean": 2.0, "wall_seconds": 4.0},
        {"kind": "train", "step": 40, "return_mean": 9.0},
    ]
    run = load_run(make_run("r", records=records))
    steps, values = run.column("evaluation", "return_mean")
    assert (steps.tolist(), values.tolist()) == ([10.0, 30.0], [2.0, 4.0])
    seconds, values = run.column("evaluation", "return_mean", "wall_seconds")
    assert (seconds.tolist(), values.tolist()) == ([3.0, 4.0], [1.0, 2.0])


def test_a_torn_last_line_is_left_out(make_run: MakeRun) -> None:
    folder = make_run("torn")
    whole = len(load_run(folder).records)
    with open(folder / "records.jsonl", "a") as file:
        file.write('{"kind": "train", "st')
    assert len(load_run(folder).records) == whole


def test_a_run_with_nothing_but_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"recipe": "x", "arguments": {}, "seed": 0}))
    run = load_run(tmp_path)
    assert (run.records, run.environment, run.steps) == ((), {}, 0)
    assert (run.task, run.wall_seconds, run.random_return) == ("unknown environment", None, None)


def test_folders_that_are_no_runs_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere does not exist; give the folder"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no run \(no config.json\); give the folder"):
        load_run(tmp_path)
    damaged = make_run("damaged")
    (damaged / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json"):
        load_run(damaged)
    strange = make_run("strange", records=[{"kind": "train", "step": 1}, {"kind": "train"}])
    with pytest.raises(ValueError, match="record 2 has no kind or no step"):
        load_run(strange)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"arguments": ["Hopper-v5"]}, "arguments is ['Hopper-v5'] and not an object"),
        ({"overrides": 3}, "overrides is 3 and not a list"),
        ({"config": "invented"}, "config is 'invented' and not an object"),
    ],
)
def test_an_invented_configuration_is_told_in_one_line(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], entry: dict[str, Any], told: str
) -> None:
    folder = make_run("invented")
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(document | entry))
    before = sorted(folder.iterdir())
    assert main(["report", str(folder)]) == 2
    line = capsys.readouterr().err
    assert line == (
        f"error: {folder / 'config.json'}: {told}: restore it from a copy, or start in a new "
        "folder\n"
    )
    assert sorted(folder.iterdir()) == before


def test_a_damaged_environment_file_costs_only_itself(make_run: MakeRun) -> None:
    folder = make_run("r")
    (folder / "environment.json").write_text("]")
    assert load_run(folder).environment == {}


def test_torch_is_not_imported(make_run: MakeRun, tmp_path: Path) -> None:
    import subprocess

    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import thrifty.stats\n"
        "from thrifty.report import write_report\n"
        f"write_report([{str(make_run('a'))!r}])\n"
        f"write_report([{str(tmp_path / 'a')!r}, {str(make_run('b', seed=1))!r}])\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
    assert (tmp_path / "a" / "report.html").is_file()
    assert (tmp_path / "report.html").is_file()
