"""environment.json says on what a run was made, and does not guess."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest
from toy_counter import make_run

from thrifty.runs import environment, execute
from thrifty.runs.environment import describe_environment


def test_the_file_says_what_and_when(tmp_path: Path) -> None:
    execute(make_run(tmp_path / "run"))
    document = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert document["versions"]["python"] == platform.python_version()
    assert document["versions"]["numpy"] == np.__version__
    assert document["hardware"]["cores"] >= 1
    assert document["hardware"]["cpu"]
    (session,) = document.pop("sessions")
    assert session.items() >= document.items()  # on what this session ran
    assert session["threads"] == 1
    assert session["start"] < session["end"]


def test_absent_packages_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package == "mujoco":
            raise importlib.metadata.PackageNotFoundError(package)
        return "1.2"

    monkeypatch.setattr(importlib.metadata, "version", version)
    versions = describe_environment()["versions"]
    assert versions["torch"] == "1.2"
    assert "mujoco" not in versions


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with this package in its src folder, as far as the file's path goes."""
    package = tmp_path / "src" / "thrifty" / "runs"
    package.mkdir(parents=True)
    (package / "environment.py").write_text("1")
    (tmp_path / "rows.csv").write_text("1")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "script.py").write_text("1")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    try:
        subprocess.run([*git, "init", "-q"], check=True)
    except OSError:
        pytest.skip("git is not installed")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x", "--no-gpg-sign"], check=True)
    monkeypatch.setattr(environment, "__file__", str(package / "environment.py"))
    return tmp_path


def test_the_commit_is_that_of_our_checkout(checkout: Path) -> None:
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert describe_environment()["commit"] == head
    (checkout / "rows.csv").write_text("2")  # a table that a script is adding to
    assert describe_environment()["commit"] == head
    for changed in ("src/thrifty/runs/environment.py", "results/script.py"):
        (checkout / changed).write_text("2")
        assert describe_environment()["commit"] == f"{head} (modified)"
        (checkout / changed).write_text("1")


def test_somebody_elses_commit_is_not_ours(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = checkout / ".venv" / "site-packages" / "thrifty" / "runs"
    installed.mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(installed / "environment.py"))
    assert "commit" not in describe_environment()


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "commit" not in describe_environment()
