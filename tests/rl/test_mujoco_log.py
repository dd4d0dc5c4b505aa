"""MuJoCo leaves nothing behind; in subprocesses, since its handlers are global to a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MAKE = "import gymnasium; gymnasium.make('HalfCheetah-v5').reset(seed=0)"
SILENCE = "from thrifty.rl.mujoco_log import silence_log_file as silence; silence(); silence()"
# A velocity of 1e30 is beyond mjMAXVAL = 1e10, which MuJoCo answers with a warning.
UNSTABLE = """
import gymnasium, mujoco
environment = gymnasium.make('HalfCheetah-v5').unwrapped
environment.data.qvel[:] = 1e30
mujoco.mj_step(environment.model, environment.data)
"""


def run(folder: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(lines)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )


def test_no_file_and_no_line(tmp_path: Path) -> None:
    done = run(tmp_path, SILENCE, MAKE)
    assert (list(tmp_path.iterdir()), done.stdout, done.stderr) == ([], "", "")


def test_an_unstable_simulation_is_still_told(tmp_path: Path) -> None:
    done = run(tmp_path, SILENCE, UNSTABLE)
    assert list(tmp_path.iterdir()) == []
    assert "The simulation is unstable" in done.stderr


def test_somebody_elses_handler_stays(tmp_path: Path) -> None:
    done = run(tmp_path, "import mujoco; mujoco.set_mju_user_warning(print)", SILENCE, MAKE)
    assert list(tmp_path.iterdir()) == []
    assert "settotalmass" in done.stdout or done.stdout == ""  # MuJoCo 3 does not warn at all


def test_a_graphics_backend_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from thrifty.rl import mujoco_log

    class Broken:
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name == "mujoco":
                raise AttributeError("no glGetError")  # what PyOpenGL says without its library

    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ValueError, match=r"MUJOCO_GL=osmesa \(no glGetError\): unset it"):
        mujoco_log.silence_log_file()


def test_without_mujoco_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from thrifty.rl import mujoco_log

    monkeypatch.setitem(sys.modules, "mujoco", None)  # `import mujoco` raises ImportError
    mujoco_log.silence_log_file()
