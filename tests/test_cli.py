"""The command line, mostly in this process; a toy recipe stands in for what takes long."""

from __future__ import annotations

import html
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

# An experiment that counts; `speed` is its pause per step, at `fails_at` it gives up.
TOY = '''
from __future__ import annotations
import dataclasses, time

@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InnerConfig:
    discount: float = 0.9
    """Discount per step."""

@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ToyConfig:
    steps: int
    """How far to count."""
    fails_at: int = -1
    """The step at which a reward is NaN."""
    speed: float = 0.0
    """Seconds per step."""
    shout: bool = True
    """A switch."""
    sizes: tuple[int, ...] = (1, 2)
    """Several numbers."""
    inner: InnerConfig = InnerConfig()
    """What is inside."""
    def build(self, seed):
        if not 0 <= self.inner.discount <= 1:
            raise ValueError(f"discount must lie in [0, 1], got {self.inner.discount}")
        return Toy(self)

class Toy:
    def __init__(self, config):
        self.config, self.step = config, 0
    def records(self):
        while self.step < self.config.steps:
            time.sleep(self.config.speed)
            self.step += 1
            if self.step == self.config.fails_at:
                raise ValueError(f"reward is NaN at step {self.step}")
            yield {"kind": "count", "step": self.step}
    def state_dict(self):
        return {"step": self.step}
    def load_state_dict(self, state):
        self.step = state["step"]

def count(steps: int = 5, greeting: str = "hello") -> ToyConfig:
    """Count upwards.

    Expected: the last number.

    Args:
        steps: how far.
        greeting: a word.
    """
    return ToyConfig(steps=steps)

def unhinted(steps=5):
    return ToyConfig(steps=steps)

def wrong(steps: int = 5) -> int:
    return steps
'''

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_words: Command) -> Command:
    """Run a command line in an empty folder; returns exit status, stdout, stderr."""
    modules, work = tmp_path / "modules", tmp_path / "work"
    modules.mkdir()
    work.mkdir()
    (modules / "toy.py").write_text(TOY, encoding="utf-8")
    monkeypatch.syspath_prepend(modules)  # what main adds to sys.path is taken away with it
    monkeypatch.setenv("PYTHONPATH", str(modules))
    monkeypatch.delitem(sys.modules, "toy", raising=False)
    monkeypatch.delenv("THRIFTY_DEBUG", raising=False)
    monkeypatch.chdir(work)
    return run_words


def plain(text: str) -> str:
    """Help without its boxes and line breaks."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


def test_the_overview_teaches_every_verb(command: Command) -> None:
    status, out, err = command("--help")
    assert (status, err) == (0, "")
    for verb in ("list", "describe", "train", "evaluate", "report", "resume", "demo", "bench"):
        assert f"$ thrifty {verb}" in out
    assert command() == (0, out, "")


def test_version(command: Command) -> None:
    assert command("--version") == (0, "thrifty 0.1.0\n", "")


def test_list_names_every_recipe_in_one_line(command: Command) -> None:
    status, out, _ = command("list")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert status == 0
    assert lines.keys() >= {"rlx2.td3", "rlx2.sac", "rlx2.dense", "rlx2.demo", "rlx2.static_plus"}
    assert "RLx2-TD3" in lines["rlx2.td3"]


def test_list_names_the_recipes_of_one_paper(command: Command) -> None:
    status, out, _ = command("list", "rsd4")
    assert status == 0
    assert {line.partition(".")[0] for line in out.splitlines()} == {"rsd4"}
    assert command("list", "rsd4.s1")[1].startswith("rsd4.s1  Four users")


def test_describe_shows_text_and_configuration(command: Command) -> None:
    status, out, _ = command("describe", "toy:count")
    assert status == 0
    assert "Expected: the last number." in out
    config = json.loads(out[out.index("{") :])
    assert config.items() >= {"steps": 5, "fails_at": -1, "speed": 0.0, "shout": True}.items()
    assert config["inner"] == {"discount": 0.9}


def test_the_help_of_a_recipe_shows_its_text_and_every_field(command: Command) -> None:
    status, out, err = command("train", "toy:count", "--steps", "7", "--help")
    assert (status, err) == (0, "")
    text = plain(out)
    for expected in (
        "Expected: the last number.",
        "--seed INT The one seed",
        "--out PATH The run's folder. (default: runs/RECIPE-ENVIRONMENT-seedN, numbered",
        "--threads INT",
        "--steps INT How far to count. (default: 7)",  # what the recipe made of the flags so far
        "--greeting STR a word. (default: hello)",
        "--inner.discount FLOAT Discount per step. (default: 0.9)",
    ):
        assert expected in text


@pytest.mark.parametrize(
    "verb", ["describe", "train", "evaluate", "report", "resume", "demo", "bench", "list"]
)
def test_every_verb_has_help(verb: str, command: Command) -> None:
    status, out, err = command(verb, "--help")
    assert (status, err) == (0, "")
    assert f"Example: thrifty {verb}" in out


def test_help_says_that_env_is_short_for_environment(command: Command) -> None:
    _, out, _ = command("train", "rlx2.td3", "--env", "Pendulum-v1", "--help")
    text = plain(out)
    assert "--env is short for --environment" in text
    assert "--environment STR Gymnasium id. (default: Pendulum-v1)" in text


def test_train_writes_what_flags_and_recipe_say(command: Command) -> None:
    status, out, _ = command(
        *("train", "toy:count", "--steps", "7", "--inner.discount", "0.5", "--seed", "3"),
        *("--greeting", "hi", "--out", "runs/x", "--quiet"),
    )
    assert status == 0
    written = json.loads(Path("runs/x/config.json").read_text())
    assert written["recipe"] == "toy:count"
    assert written["arguments"] == {"steps": 7, "greeting": "hi"}
    assert written["seed"] == 3
    assert written["config"]["steps"] == 7
    assert written["config"]["inner"] == {"discount": 0.5}
    assert written["overrides"] == ["--inner.discount", "0.5"]
    records = Path("runs/x/records.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in records] == [1, 2, 3, 4, 5, 6, 7]
    assert re.search(r"done: 7 steps in \d+ s, in runs/x", out)
    assert "thrifty report runs/x" in out


def test_the_command_of_the_report_repeats_the_run(command: Command) -> None:
    words = ["train", "toy:count", "--seed", "3", "--inner.discount=0.5", "--greeting", "hi there"]
    assert command(*words, "--no-shout", "--sizes", "4", "5", "--quiet", "--out", "runs/x")[0] == 0
    assert command("report", "runs/x")[0] == 0
    page = Path("runs/x/report.html").read_text(encoding="utf-8")
    shown = re.search(r"thrifty (train toy:count .*?)</", page)
    assert shown is not None
    told = shlex.split(html.unescape(shown[1]))
    assert told[-2:] == ["--out", "runs/x"]
    assert command(*told[:-1], "runs/y", "--quiet")[0] == 0
    one, two = (json.loads(Path(f"runs/{run}/config.json").read_text()) for run in "xy")
    assert one == two
    assert one["config"]["sizes"] == [4, 5]
    assert one["config"]["shout"] is False


def test_a_recipe_in_the_current_folder_is_found_and_resumed(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the installed script, which does not have the current folder on its path by itself."""
    monkeypatch.delenv("PYTHONPATH")
    Path("mine.py").write_text(TOY, encoding="utf-8")
    script = Path(sys.executable).with_name("thrifty")

    def thrifty(*words: str) -> tuple[int, str]:
        done = subprocess.run([script, *words], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    status, said = thrifty("train", "mine:count", "--fails-at", "3", "--out", "x", "--quiet")
    assert (status, said) == (2, "error: reward is NaN at step 3\n")
    status, said = thrifty("resume", "x", "--quiet")
    assert (status, said) == (2, "error: reward is NaN at step 3\n")
    assert len(list(Path("x").glob("checkpoint-*.npz"))) == 1  # of the first step
    Path("mine.py").unlink()
    status, said = thrifty("resume", "x", "--quiet")
    assert status == 2
    assert f"no module mine (looked in {Path.cwd()} and the rest" in said


def test_a_finished_run_is_not_trained_again(command: Command) -> None:
    words = ["train", "toy:count", "--out", "runs/x", "--quiet"]
    command(*words)
    before = Path("runs/x/records.jsonl").read_bytes()
    for again in (words, ["resume", "runs/x"]):
        status, out, _ = command(*again)
        assert status == 0
        assert "runs/x is finished already (5 steps)" in out
    assert Path("runs/x/records.jsonl").read_bytes() == before


def test_without_out_every_run_gets_a_folder_of_its_own(command: Command) -> None:
    for _ in range(2):
        assert command("train", "toy:count", "--seed", "2", "--quiet")[0] == 0
    assert len(list(Path("runs").iterdir())) == 2
    assert all("seed2" in path.name for path in Path("runs").iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trian rlx2.td3", "no verb 'trian': did you mean train?"),
        ("train rlx2.td4", "no recipe 'rlx2.td4': did you mean rlx2.td3"),
        ("describe rlx2.td4", "did you mean rlx2.td3"),
        ("train toy:cuont", "did you mean toy:count"),
        (
            "train toy:count --stepz 3",
            "unrecognized options: --stepz, 3; perhaps you meant --steps",
        ),
        ("train toy:count --inner.discuont 1", "perhaps you meant --inner.discount"),
        ("train toy:count --steps many", "--steps: invalid literal for int()"),
        ("train toy:count --steps", "missing value for argument '--steps'"),
        ("train toy:count stray", "unrecognized options: stray (see thrifty train toy:count"),
        ("train rlx2.td3 Hopper-v5", "unrecognized options: Hopper-v5 (see"),
        ("train rlx2.td3 --seed 1 Hopper-v5", "; perhaps you meant --env Hopper-v5"),
        ("train toy:count --seed -1", "seed -1 is negative: give an integer >= 0"),
        ("evaluate nothing --seed -1", "seed -1 is negative: give an integer >= 0"),
        ("train toy:count --threads 0", "threads 0 are too few: give 1 or more"),
        ("train toy:count --threads 100000", "threads 100000 are too many here: give 1 to "),
        ("train nowhere:count", "no module nowhere (looked in "),
        ("train .toy:count", "no module .toy (looked in "),
        ("bench env_loop --json file/x.json", "file/x.json cannot be written"),
        ("bench nothing --json new/x.json", "no benchmark 'nothing'"),
        ("train toy:count --inner.discount 2", "discount must lie in [0, 1], got 2.0"),
        ("train toy:unhinted", "argument 'steps' needs a type hint"),
        ("train toy:wrong", "returned int, not a configuration"),
        ("train rlx2.td3 --env NoSuchTask-v0", "NoSuchTask"),
        ("train rlx2.td3 --env nowhere/Task-v0", "nowhere"),
        ("train rlx2.td3 --env CartPole-v1", "continuous actions"),
        ("train rlx2.td3 --algorithm.actor.sparsity 1", "sparsity must lie in [0, 1), got 1.0"),
        ("train rlx2.td3 --algorithm.critic.sparsity -0.1", "sparsity must lie in [0, 1)"),
        ("train toy:count --out file/x", "file"),
        ("list nothing", "no recipe begins with 'nothing': `thrifty list` names them all"),
        ("resume nothing", "nothing holds no run"),
        ("evaluate nothing", "nothing holds no run"),
        ("evaluate file", "file is a file: name a run's folder; what agent.save wrote"),
        ("report nothing", "nothing"),
        ("report", "no run to report on"),
        ("bench nothing", "no benchmark 'nothing'; there are: compact, demo"),
    ],
)
def test_a_mistake_gets_one_line_and_writes_nothing(
    words: str, message: str, command: Command
) -> None:
    Path("file").write_text("in the way")
    status, out, err = command(*words.split())
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in Path.cwd().iterdir()] == ["file"]


def test_debug_shows_the_traceback(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THRIFTY_DEBUG", "1")
    status, _, err = command("resume", "nothing")
    assert status == 2
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("error: nothing holds no run")


def test_a_folder_with_another_run_is_left_alone(command: Command) -> None:
    command("train", "toy:count", "--out", "runs/x", "--quiet")
    before = {path: path.read_bytes() for path in Path("runs/x").rglob("*") if path.is_file()}
    status, _, err = command("train", "toy:count", "--out", "runs/x", "--seed", "1", "--quiet")
    assert status == 2
    assert "another run (different seed)" in err
    after = {path: path.read_bytes() for path in Path("runs/x").rglob("*") if path.is_file()}
    assert after == before


def test_a_failure_in_the_middle_is_told_in_one_line(command: Command) -> None:
    status, _, err = command("train", "toy:count", "--fails-at", "3", "--out", "runs/x", "--quiet")
    assert (status, err) == (2, "error: reward is NaN at step 3\n")
    assert not Path("runs/x/DONE").exists()


def test_ctrl_c_stops_with_a_checkpoint_and_names_the_command(command: Command) -> None:
    words = ["train", "toy:count", "--steps", "100", "--speed", "0.02", "--out", "runs/my run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "thrifty", *words, "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    records = Path("runs/my run/records.jsonl")
    deadline = time.monotonic() + 60
    while not (records.exists() and records.read_bytes().count(b"\n") >= 3):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    said = re.fullmatch(r"stopped at step (\d+); go on with: thrifty resume 'runs/my run'\n", out)
    assert said is not None
    assert 3 <= int(said[1]) < 100
    assert command("resume", "runs/my run", "--quiet")[0] == 0
    steps = [json.loads(line)["step"] for line in records.read_text().splitlines()]
    assert steps == list(range(1, 101))


def test_tensorboard_writes_event_files(command: Command) -> None:
    pytest.importorskip("tensorboard", reason='needs pip install "thrifty[tensorboard]"')
    command("train", "toy:count", "--tensorboard", "--out", "runs/x", "--quiet")
    assert len(list(Path("runs/x/tensorboard").glob("events.out.tfevents.*"))) == 1


def test_a_missing_extra_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer", None)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    status, _, err = command("train", "toy:count", "--tensorboard", "--quiet")
    assert status == 2
    assert 'pip install "thrifty[tensorboard]"' in err
    assert list(Path.cwd().iterdir()) == []
