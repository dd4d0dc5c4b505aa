"""What every test gets: one torch thread, hypothesis without deadlines (the cores are shared)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # `import toy_environments`
# Before torch or numpy are imported by any test.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

import pytest
from hypothesis import settings

settings.register_profile("thrifty", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("thrifty")


@pytest.fixture
def run_words(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command line in this process; returns exit status, stdout, stderr."""
    from thrifty import cli

    def run(*words: str) -> tuple[int, str, str]:
        status = cli.main(words)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run
