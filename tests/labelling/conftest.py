"""Runs with questions, servers in this process, and the client as an importable module."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from thrifty.labelling import LabelServer, Session

sys.path.insert(0, str(Path(__file__).parent))  # `import label_client`
from label_client import LAVA_RUN, Client, ask

Serve = Callable[..., Client]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run on the lava grid that has asked three questions."""
    folder = tmp_path / "lava"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LAVA_RUN), encoding="utf-8")
    ask(folder, 0, 3)
    return folder


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a run from a thread; returns a client that has the page's token."""
    with contextlib.ExitStack() as stack:

        def start(folder: Path, annotator: str = "ann", port: int = 0) -> Client:
            server = LabelServer(Session(folder, annotator), port=port)
            stack.enter_context(server.open())
            thread = threading.Thread(target=server.serve)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.stop)
            return Client(server.port)

        yield start


@pytest.fixture
def client(run: Path, serve: Serve) -> Client:
    """A client of that run's server."""
    return serve(run)
