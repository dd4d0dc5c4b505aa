"""What the tests of the labelling page share: clips, questions, a client, a server to be killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thrifty.episodic.label_folder import LABELS, LabelFolder
from thrifty.episodic.preferences import Clip, Query

LAVA_RUN = {
    "recipe": "icvar.hf_lava",
    "arguments": {},
    "seed": 0,
    "threads": 1,
    "overrides": [],
    "config": {"instance": {"kind": "lava_grid", "width": 6, "height": 3}},
}
# On the default grid, states row by row from below: 0 S, 1..4 lava, 5 G, 6..11 and 12..17 above.
DRY = Clip((0, 6, 12, 13, 14, 15, 16, 17, 11) + (5,) * 11, (0, 0, 1, 1, 1, 1, 1, 2, 2) + (1,) * 11)
WET = Clip((0, 6, 7, 8, 9) + (3,) * 15, (0, 1, 1, 1, 1) + (1,) * 15)


def ask(folder: Path, first: int, count: int) -> None:
    """Ask as a learner does, from a folder object of its own: A takes the dry way, B slides."""
    learner = LabelFolder(folder)
    for number in range(first, first + count):
        learner.ask(Query(number, number + 1, DRY, WET))


def lines(folder: Path) -> list[dict[str, Any]]:
    """What is in the label file."""
    path = folder / LABELS
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


class Client:
    """Speaks HTTP to a label server, like the page unless told otherwise."""

    def __init__(self, port: int) -> None:
        self.port = port
        status, page = self.request("GET", "/")
        assert status == 200
        found = re.search(r'<meta name="token" content="([\w-]{32})">', page)
        assert found, "the page holds the token"
        self.token = found[1]

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        host: str | None = None,
    ) -> tuple[int, Any]:
        """Return status and body; the body as an object where it is JSON."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, 20)) as sender:
            more = {} if host is None else {"Host": host}
            sender.request(method, path, body, more | (headers or {}))
            reply = sender.getresponse()
            text = reply.read().decode()
            json_kind = "json" in reply.headers.get("Content-Type", "")
            return reply.status, json.loads(text) if json_kind else text

    def post(self, path: str, entry: Any, **headers: str) -> tuple[int, Any]:
        own = {"Content-Type": "application/json", "X-Thrifty-Token": self.token}
        body = entry if isinstance(entry, bytes) else json.dumps(entry).encode()
        return self.request("POST", path, body, own | headers)

    def answer(self, query: int, answer: Any, latency: float = 1.5) -> tuple[int, Any]:
        return self.post("/api/answer", {"query": query, "answer": answer, "latency": latency})

    def undo(self, query: int) -> tuple[int, Any]:
        return self.post("/api/undo", {"query": query})

    def state(self) -> Any:
        status, state = self.request("GET", "/api/state", headers={"X-Thrifty-Token": self.token})
        assert status == 200, state
        return state


def refused(client: Client, run: Path, status: int, answer: tuple[int, object]) -> None:
    """The status is as expected, nothing has changed, and the server serves on."""
    assert answer[0] == status, answer
    assert lines(run) == []
    assert client.state()["answered"] == 0


class Process:
    """`thrifty label` in a process of its own."""

    def __init__(self, folder: Path, *, port: int = 0, annotator: str = "ann") -> None:
        words = ["label", str(folder), "--port", str(port), "--annotator", annotator]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "thrifty", *words, "--no-browser"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
            if found:
                self.port = int(found[1])
                return
        raise AssertionError(f"no server: {self.said}")

    def kill(self) -> None:
        """SIGKILL: it gets no chance to finish anything."""
        self.end(signal.SIGKILL)

    def end(self, number: signal.Signals) -> str:
        self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=60)
        return self.said + said


@contextlib.contextmanager
def process(folder: Path, **options: Any) -> Iterator[Process]:
    server = Process(folder, **options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()
