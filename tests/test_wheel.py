"""The wheel: built, installed into a clean environment, and the demo runs from it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def call(*words: str | Path, cwd: Path) -> str:
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(words, cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: building writes beside the sources
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout, so what belongs to the project is not known")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    call(*pip, "--no-deps", "--wheel-dir", str(folder), str(source), cwd=folder)
    (built,) = folder.glob("thrifty-*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    sources = {
        path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src/thrifty").rglob("*.py")
    }
    assert sources <= set(names)
    assert {"thrifty/py.typed", "thrifty/labelling/page/index.html"} <= set(names)
    assert {name.split("/")[0] for name in names} <= {
        "thrifty",
        wheel.name.split("-py3")[0] + ".dist-info",
    }
    assert wheel.stat().st_size < 3_000_000  # two of them the embedded corpus


def test_the_demo_runs_from_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    """Minutes: installs PyTorch into an empty environment, trains the whole demo."""
    call(sys.executable, "-m", "venv", str(tmp_path / "clean"), cwd=tmp_path)
    python = tmp_path / "clean" / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    call(*pip, "-c", str(ROOT / "constraints.txt"), str(wheel), cwd=tmp_path)
    thrifty = python.with_name("thrifty")
    assert "rlx2.demo" in call(thrifty, "list", cwd=tmp_path)
    assert call(thrifty, "--version", cwd=tmp_path).startswith("thrifty ")
    said = call(thrifty, "demo", "--quiet", cwd=tmp_path)
    assert "report: runs/demo/report.html" in said
    html = (tmp_path / "runs/demo/report.html").read_text(encoding="utf-8")
    assert "rlx2.demo on HalfCheetah-v5" in html
    assert not re.search(r"<(script|link|img)\b[^>]*https?:", html)
