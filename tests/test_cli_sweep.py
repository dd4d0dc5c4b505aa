"""`thrifty sweep`, `thrifty claims` and the report of a sweep, as a person calls them."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from thrifty import cli

Command = Callable[..., tuple[int, str, str]]
INVENTORY = ("icvar.rm_inventory", "--set", "steps=200")
CLAIMS = """
[[claims]]
claim = "water is wet"
where = "table 1"
metric = "wetness"
expected = ">= 1"
tolerance = 0
measured = 2
status = "holds"

[[claims]]
claim = "fire is wet"
where = "table 2"
metric = "wetness"
expected = ">= 1"
tolerance = 0
measured = 0
status = "failed"
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_words: Command) -> Command:
    monkeypatch.chdir(tmp_path)
    return run_words


def test_a_sweep_is_done_reported_and_done_only_once(command: Command) -> None:
    words = ["sweep", "icvar.rm_chain", *INVENTORY, "--seeds", "0-1", "--out", "runs/x"]
    status, out, _ = command(*words, "--dry-run")
    assert status == 0
    assert out.splitlines()[0].split() == ["new", "icvar.rm_chain-steps=200-seed0"]
    assert not Path("runs").exists()

    status, out, err = command(*words)
    assert (status, out) == (
        0,
        "4 of 4 runs done, in runs/x\nreport with: thrifty report runs/x\n",
    )
    assert "4/4 done" in err  # without a terminal, lines instead of a table
    folders = sorted(path.name for path in Path("runs/x").iterdir())
    assert folders[0] == "icvar.rm_chain-steps=200-seed0"
    before = {path: path.stat().st_mtime_ns for path in Path("runs/x").rglob("*")}
    status, out, err = command(*words, "--quiet")
    assert (status, err) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in Path("runs/x").rglob("*")} == before

    status, out, _ = command("report", "runs/x", "--csv", "runs.csv")
    assert (status, out) == (0, "report: runs/x/report.html\ntable: runs.csv\n")
    assert len(Path("runs.csv").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("sweep", "a sweep needs a recipe"),
        ("sweep icvar.l_lavva", "did you mean icvar.l_lava"),
        ("sweep icvar.l_lava --seeds x", "write 0-9, or 0,3,5"),
        ("sweep icvar.l_lava --workers 0", "workers 0 cannot be: give 1 to"),
        ("sweep icvar.l_lava --retries -1", "retries -1 are negative"),
        ("sweep icvar.l_lava --set slip", "write --set name=value,value"),
        ("sweep icvar.l_lava --set slip=2", "slip"),
        ("sweep icvar.l_lava --seeeds 3", "unrecognized options: --seeeds"),
        ("sweep icvar.l_lava --workers 1 icvar.l_mixture", "unrecognized options: icvar.l_mixture"),
        ("sweep icvar.l_lava --launcher moon", "moon"),
        ("sweep icvar.l_lava --launcher-set a=1", "leave --launcher-set out"),
        ("claims nowhere", "nowhere holds no <paper>/claims.toml"),
    ],
)
def test_a_mistake_gets_one_line_and_writes_nothing(
    words: str, message: str, command: Command
) -> None:
    status, out, err = command(*words.split())
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert list(Path.cwd().iterdir()) == []


def test_recipes_of_every_family_are_one_sweep_and_one_page(command: Command) -> None:
    small = (
        "rlx2.td3 --env Pendulum-v1 --learning-starts 10 --random-episodes 1 --evaluate-every 30 "
        "--evaluation-episodes 1 --record-every 20 --algorithm.batch-size 8 "
        "--algorithm.critic.update-every 10 --algorithm.actor-hidden 16 "
        "--algorithm.critic-hidden 16 --backend reference"
    )
    recipes = [small, "lsvi_ucb_plus.river_swim", "icvar.rm_inventory"]
    status, out, err = command("sweep", *recipes, "--set", "steps=60", "--out", "x")
    assert status == 0, err
    assert "3 of 3 runs done" in out
    assert command("report", "x")[0] == 0
    page = Path("x/report.html").read_text(encoding="utf-8")
    assert "Pendulum-v1, over steps" in page
    assert "Regret, both axes logarithmic" in page


@pytest.mark.parametrize(
    ("verb", "takes"), [("sweep", "RECIPE [RECIPE"), ("report", "RUN [RUN"), ("claims", "RESULTS")]
)
def test_help(verb: str, takes: str, command: Command) -> None:
    status, out, err = command(verb, "--help")
    assert (status, err) == (0, "")
    assert f"Example: thrifty {verb}" in out
    assert takes in out.splitlines()[0]


def test_ctrl_c_names_the_command_that_goes_on(command: Command) -> None:
    words = ["sweep", "icvar.rm_inventory", "--set", "steps=100000000", "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "thrifty", *words, "--out", "my runs"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    folder = Path("my runs/icvar.rm_inventory-steps=100000000-seed0")
    deadline = time.monotonic() + 120
    while not list(folder.glob("checkpoint-*.npz")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    told = re.search(r"go on with: thrifty (.*)\n", out)
    assert told is not None
    assert shlex.split(told[1]) == [*words, "--out", "my runs"]
    (session,) = json.loads((folder / "environment.json").read_text())["sessions"]
    assert session["status"] == "interrupted"


def test_a_run_that_fails_is_told_and_the_status_is_one(command: Command) -> None:
    status, out, _ = command(
        "sweep",
        "icvar.rm_inventory",
        "--set",
        "steps=100",
        "--out",
        "x",
        "--retries",
        "0",
        "--quiet",
    )
    assert status == 0
    (run,) = Path("x").iterdir()
    (run / "DONE").unlink()
    for checkpoint in run.glob("checkpoint-*.npz"):
        checkpoint.write_bytes(b"damaged")
    status, out, _ = command(
        "sweep", "icvar.rm_inventory", "--set", "steps=100", "--out", "x", "--quiet"
    )
    assert status == 1
    assert out.startswith(f"failed: {run}: ")
    assert "0 of 1 runs done" in out


def test_claims_are_shown_written_and_checked(command: Command) -> None:
    Path("results/paper").mkdir(parents=True)
    Path("results/paper/claims.toml").write_text(CLAIMS)
    page = Path("PAGE.md")
    page.write_text("before\n<!-- claims:begin -->\nold\n<!-- claims:end -->\nafter\n")
    status, out, _ = command("claims")
    assert status == 0
    assert "2 claims: 1 holds, 1 failed, 0 not run" in out
    assert "water is wet" in out
    status, out, _ = command("claims", "results", "--check", "PAGE.md")
    assert status == 1
    assert "PAGE.md is stale: thrifty claims results --write PAGE.md" in out
    assert command("claims", "results", "--write", "PAGE.md")[0] == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| paper | fire is wet | table 2 |" in text
    assert "**failed**" in text
    assert command("claims", "--check", "PAGE.md")[0] == 0
    Path("results/paper/claims.toml").write_text(CLAIMS.replace("measured = 2", "measured = 3"))
    assert command("claims", "--check", "PAGE.md")[0] == 1
    status, _, err = command("claims", "--check", "missing.md")
    assert (status, err) == (2, "error: missing.md cannot be read (No such file or directory)\n")
    for content, message in (
        (b"no marks", "BAD.md: the text needs the line <!-- claims:begin --> once"),
        ("<!-- claims:begin -->é".encode("latin-1"), "BAD.md cannot be read ('utf-8' codec"),
    ):
        Path("BAD.md").write_bytes(content)
        status, _, err = command("claims", "--write", "BAD.md")
        assert status == 2
        assert err.startswith(f"error: {message}")
        assert Path("BAD.md").read_bytes() == content
    # A status that contradicts the numbers is a mistake of the file.
    Path("results/paper/claims.toml").write_text(CLAIMS.replace("measured = 2", "measured = 0"))
    status, _, err = command("claims")
    assert status == 2
    assert "status is 'holds'" in err


def test_the_readme_of_this_project_is_checked_by_the_verb(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = Path(__file__).resolve().parents[1]
    assert cli.main(["claims", str(root / "results"), "--check", str(root / "README.md")]) == 0
    capsys.readouterr()


def test_a_verbs_progress_reaches_the_terminal(command: Command) -> None:
    """The verbs' flags are read in silence; what the verb itself writes must not be."""
    _, _, err = command("sweep", *INVENTORY, "--out", "x")
    assert "1/1 done" in err
