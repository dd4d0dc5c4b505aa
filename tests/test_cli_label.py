"""`thrifty label`: what it says, what it opens, and mistakes in one line."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from thrifty import cli
from thrifty.labelling import LabelServer


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that has asked one question."""
    clips = {side: {"states": [0, 1], "actions": [1, 0]} for side in "AB"}
    query = {"number": 0, "episode": 1, **clips, "repeat_of": None}
    (tmp_path / "queries.jsonl").write_text(json.dumps(query) + "\n", encoding="utf-8")
    return tmp_path


def test_help_and_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    assert "$ thrifty label runs/x" in capsys.readouterr().out
    assert cli.main(["label", "--help"]) == 0
    said = capsys.readouterr().out
    for word in ("--annotator", "--port", "--no-browser", "Answer a run's questions"):
        assert word in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere"], "nowhere holds no run"),
        (["RUN", "--annotator", ""], "an annotator's name has 1 to 64 printable characters"),
        (["RUN", "--port", "99999"], "a port is a number from 0 to 65535"),
        (["RUN", "--port", "TAKEN"], "cannot be used (Address already in use): give another"),
        (["RUN", "--prot", "1"], "--port"),
    ],
)
def test_mistakes(
    run: Path, words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        known = {"RUN": str(run), "TAKEN": str(taken.getsockname()[1])}
        status = cli.main(["label", *(known.get(word, word) for word in words), "--no-browser"])
    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert expected in said.err


def test_it_opens_the_page_and_ends_with_ctrl_c(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    seen = threading.Event()

    def serve(server: LabelServer) -> None:
        assert seen.wait(10)
        raise KeyboardInterrupt

    def browse(url: str) -> None:
        opened.append(url)
        seen.set()

    monkeypatch.setattr(LabelServer, "serve", serve)
    monkeypatch.setattr("webbrowser.open", browse)
    assert cli.main(["label", str(run), "--port", "0", "--annotator", "bob"]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first == f"bob answers at {opened[0]}; stop with Ctrl-C at any moment"
    assert last == "stopped: 0 of 1 questions answered by bob"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_the_page(run: Path, number: signal.Signals) -> None:
    words = ["label", str(run), "--port", "0", "--no-browser"]
    server = subprocess.Popen(
        [sys.executable, "-m", "thrifty", *words],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as in the background
    )
    assert server.stdout is not None
    url = server.stdout.readline().split()[3].rstrip(";")
    with urllib.request.urlopen(url, timeout=20) as page:
        assert b"Which of the two would you rather have happen?" in page.read()
    server.send_signal(number)
    said, _ = server.communicate(timeout=60)
    assert (server.returncode, said) == (0, "stopped: 0 of 1 questions answered by person\n")


def test_a_run_that_asks_people_says_where_to_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "icvar.hf_lava", "--steps", "3", "--algorithm.no-wait", "--quiet"]
    assert cli.main([*words, "--out", str(tmp_path / "a")]) == 0
    assert "thrifty label" not in capsys.readouterr().out
    assert cli.main([*words, "--annotator", "person", "--out", str(tmp_path / "b")]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"answer its questions with: thrifty label {tmp_path / 'b'}\n")
