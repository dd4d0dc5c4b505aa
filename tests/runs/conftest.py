"""The toy experiment as an importable module, and runs that do not wait for the disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `import toy_counter`, here and in subprocesses


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look at versions, and no forcing to the disk: who is killed loses nothing written."""
    from thrifty.runs import environment

    monkeypatch.setattr(environment, "describe_environment", dict)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
