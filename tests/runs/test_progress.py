"""The progress bar: numbers by hand, on a clock that the test moves."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from toy_counter import make_run

from thrifty.runs import execute
from thrifty.runs.progress import ProgressBar


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)


def text(screen: Console) -> str:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_a_plain_line_every_ten_seconds_where_forced() -> None:
    clock, screen = Clock(), console(terminal=False)
    with ProgressBar(10_000, start=1000, force=True, console=screen, clock=clock) as bar:
        bar.record({"kind": "train", "step": 1500, "return": None, "sparsity": 0.9})
        assert text(screen) == ""
        clock.now += 10
        bar.record({"kind": "train", "step": 2000, "return": 123.4, "sparsity": 0.9})
        clock.now += 5
        bar.record({"kind": "topology", "step": 2400})
        bar.record({"kind": "evaluation", "step": 2400, "return_mean": -3.25})
        clock.now += 5
        bar.show(3000)
    # 1000 steps in 10 s, 8000 left: 80 s. Then 2000 in 20 s, 7000 left: 70 s.
    assert text(screen).splitlines() == [
        "2000/10000 100 steps/s  sparsity 0.90  return 123  1:20 left",
        "3000/10000 100 steps/s  sparsity 0.90  return 123  evaluation -3.25  1:10 left",
        "3000/10000 100 steps/s  sparsity 0.90  return 123  evaluation -3.25  1:10 left",
    ]


def test_without_a_terminal_nothing_is_shown() -> None:
    clock, screen = Clock(), console(terminal=False)
    with ProgressBar(10, console=screen, clock=clock) as bar:
        clock.now += 1000
        bar.record({"kind": "train", "step": 5, "return": 1.0, "sparsity": 0.5})
        assert bar.due == float("inf")
    assert text(screen) == ""


def test_a_terminal_shows_a_bar() -> None:
    clock, screen = Clock(), console(terminal=True)
    with ProgressBar(40_000, console=screen, clock=clock) as bar:
        clock.now += 1
        bar.record({"kind": "train", "step": 5, "return": 1.0, "sparsity": 0.5})
    # 5 steps/s, 39,995 left: 7999 s = 2 h 13 min 19 s.
    assert "5/40000 5 steps/s  return 1.00  sparsity 0.50  2:13:19 left" in text(screen)


def test_before_the_first_step_no_time_is_promised() -> None:
    screen = console(terminal=False)
    with ProgressBar(10, force=True, console=screen, clock=Clock()):
        pass
    assert text(screen) == "0/10 0 steps/s\n"


def test_execute_shows_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    execute(make_run(tmp_path / "quiet"), progress=True)
    assert capsys.readouterr() == ("", "")
    execute(make_run(tmp_path / "forced"), progress="force")
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("50/50 ")
    assert "sparsity 0.50" in error
