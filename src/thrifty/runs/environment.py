"""environment.json: on what a run was made, and when. Nothing reads it back to decide anything.

It holds the commit, the versions and the hardware of the latest session, and every session: a
process that worked on the run, on what, from when to when (unix time) and from which step to which.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from thrifty.runs import durable

FILE = "environment.json"
# What can change what a run does. Tables of results are not of it: they change while one works.
_CODE = ("src", "*.py", "constraints.txt")
_PACKAGES = ("thrifty", "numpy", "torch", "numba", "gymnasium", "mujoco")


def describe_environment() -> dict[str, Any]:
    """Return commit, versions and hardware of this process; what is unknown is left out."""
    description: dict[str, Any] = {}
    commit = _commit()
    if commit:
        description["commit"] = commit
    description["versions"] = {"python": platform.python_version(), **_versions()}
    description["platform"] = platform.platform()
    description["hardware"] = {"cpu": _cpu_model(), "cores": os.cpu_count()}
    return description


class Sessions:
    """The environment file of the run at work, with this process as its last session.

    Args:
        directory: the run directory.
        threads: compute threads of this session.
    """

    def __init__(self, directory: Path, *, threads: int) -> None:
        self._path = directory / FILE
        description = describe_environment()
        self._session = {"start": time.time(), "threads": threads, **description}
        self._document = {**description, "sessions": [*self._earlier(), self._session]}

    def _earlier(self) -> list[dict[str, Any]]:
        try:
            sessions: list[dict[str, Any]] = json.loads(self._path.read_bytes())["sessions"]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{self._path} is damaged: delete it, then resume") from None
        return sessions

    def begin(self, step: int) -> None:
        """Note the step this session starts from."""
        self._session["first_step"] = step
        self.update(step)

    def update(self, step: int, status: str = "running") -> None:
        """Note how far this session has come; `end` is the time of the last note."""
        self._session |= {"end": time.time(), "last_step": step, "status": status}
        durable.write_json(self._path, self._document)


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _commit() -> str | None:
    """The commit of the checkout this file belongs to, marked where code differs from it."""
    here = Path(__file__).resolve().parent
    top = _git(here, "rev-parse", "--show-toplevel")
    # An installation inside somebody else's repository must not report that repository's commit.
    if not top or Path(top) / "src" / "thrifty" / "runs" != here:
        return None
    commit = _git(here, "rev-parse", "--verify", "--quiet", "HEAD")
    changed = _git(Path(top), "status", "--porcelain", "--untracked-files=no", "--", *_CODE)
    return f"{commit} (modified)" if commit and changed else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
