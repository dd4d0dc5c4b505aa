"""The toy runs as an importable module, and their folder of tokens."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `import toy_pretraining`

import toy_pretraining


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return toy_pretraining.folder(tmp_path_factory.mktemp("tokens"))
