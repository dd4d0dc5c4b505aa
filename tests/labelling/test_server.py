"""The server's rules over HTTP: what is refused, what stands on the disk when."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_client import DRY, WET, Client, ask, lines, refused

from thrifty.labelling import LabelServer, Session, left_side
from thrifty.labelling.server import LONGEST_POST

Serve = Callable[..., Client]


# ---------------------------------------------------------------------- what it serves


def test_the_page_comes_from_inside_the_package_and_refers_to_nothing_outside(
    client: Client,
) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/scene.js", "text/javascript"),
    ):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", client.port)) as sender:
            sender.request("GET", path)
            reply = sender.getresponse()
            text = reply.read().decode()
        assert (reply.status, reply.headers.get_content_type()) == (200, kind)
        policy = reply.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert set(re.findall(r"\w+://[^\"' ]+", text)) <= {"http://www.w3.org/2000/svg"}
        assert "@token@" not in text


def test_the_state_shows_two_clips_and_progress(client: Client) -> None:
    state = client.state()
    assert (state["run"], state["annotator"]) == ("lava", "ann")
    assert (state["asked"], state["answered"], state["finished"]) == (3, 0, False)
    clips = {
        "A": {"states": list(DRY.states), "actions": list(DRY.actions)},
        "B": {"states": list(WET.states), "actions": list(WET.actions)},
    }
    left = left_side("ann", 0)
    assert state["query"]["left"] == clips[left]
    assert state["query"]["right"] == clips["B" if left == "A" else "A"]


def test_an_answer_moves_on_and_undo_moves_back(client: Client, run: Path) -> None:
    status, state = client.answer(0, "left", 2.25)
    assert status == 200
    assert (state["answered"], state["query"]["number"]) == (1, 1)
    assert state["last"] == {"query": 0, "answer": "left"}
    left = left_side("ann", 0)
    stored = {"query": 0, "annotator": "ann", "answer": left, "left": left, "latency": 2.25}
    assert lines(run) == [stored]
    status, state = client.undo(0)
    assert (status, state["answered"], state["query"]["number"]) == (200, 0, 0)
    assert [line["answer"] for line in lines(run)] == [left, "undo"]


def test_new_questions_appear_in_the_state(client: Client, run: Path) -> None:
    for number in range(3):
        client.answer(number, "equal")
    assert client.state()["query"] is None
    ask(run, 3, 1)
    state = client.state()
    assert (state["asked"], state["query"]["number"]) == (4, 3)


# ---------------------------------------------------------------------- on disk first


def test_an_answer_is_on_the_disk_before_it_is_confirmed(
    client: Client, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    force = os.fsync

    def watched(descriptor: int) -> None:
        written.append(len(lines(run)))  # complete when the disk is told
        force(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    assert client.answer(0, "left")[0] == 200
    assert client.undo(0)[0] == 200
    # The folder may be forced to the disk as well, when the file is new.
    assert [*dict.fromkeys(written)] == [1, 2]


def test_a_full_disk_is_no_confirmation(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, told = client.answer(0, "left")
    assert (status, "No space left" in told["error"]) == (500, True)


def test_of_many_equal_posts_at_once_one_is_taken(client: Client, run: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda _: client.answer(0, "left")[0], range(8))
    assert sorted(answers) == [200] + [409] * 7
    assert len(lines(run)) == 1


# ---------------------------------------------------------------------- what is sent


def over(n: int) -> bytes:
    """A valid answer that has n bytes."""
    start = b'{"query": 0, "answer": "left"'
    return start + b" " * (n - len(start) - 1) + b"}"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b""),
        (400, b"nonsense"),
        (400, b'{"query": 0, "answer": "left"'),
        (400, b'{"query": 0, "answer": "left"} and more'),
        (400, b"[]"),
        (400, b"null"),
        (400, b'"left"'),
        (400, b"[" * LONGEST_POST),
        (400, b'{"a":' * 400),
        (400, b"\xff\xfe\x00{}"),
        (400, '{"query": 0, "answer": "left"}'.encode("utf-16")),
        (400, b"{}"),
        (400, b'{"answer": "left"}'),
        (400, b'{"query": 0}'),
        (400, b'{"query": "0", "answer": "left"}'),
        (400, b'{"query": 0.0, "answer": "left"}'),
        (400, b'{"query": true, "answer": "left"}'),
        (400, b'{"query": null, "answer": "left"}'),
        (400, b'{"query": [0], "answer": "left"}'),
        (400, b'{"query": -1, "answer": "left"}'),
        (400, b'{"query": 0, "answer": "A"}'),
        (400, b'{"query": 0, "answer": "undo"}'),
        (400, b'{"query": 0, "answer": "up"}'),
        (400, b'{"query": 0, "answer": null}'),
        (400, b'{"query": 0, "answer": ["left"]}'),
        (400, b'{"query": 0, "answer": {"left": 1}}'),
        (400, b'{"query": 0, "answer": "left", "latency": -1}'),
        (400, b'{"query": 0, "answer": "left", "latency": NaN}'),
        (400, b'{"query": 0, "answer": "left", "latency": 1e999}'),
        (400, b'{"query": 0, "answer": "left", "latency": "1"}'),
        (400, b'{"query": 0, "answer": "left", "latency": true}'),
        (400, b'{"query": 0, "answer": "left", "annotator": "bob"}'),
        (404, b'{"query": 3, "answer": "left"}'),
        (404, b'{"query": ' + b"9" * 1000 + b', "answer": "left"}'),
        (413, over(LONGEST_POST + 1)),
        (413, over(500_000)),
    ],
    ids=lambda value: str(value[:40]) if isinstance(value, bytes) else str(value),
)
def test_malformed_and_oversized_posts_change_nothing(
    client: Client, run: Path, status: int, body: bytes
) -> None:
    refused(client, run, status, client.post("/api/answer", body))


def test_the_largest_post_that_is_taken(client: Client) -> None:
    assert client.post("/api/answer", over(LONGEST_POST))[0] == 200


@given(
    body=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["query", "answer", "latency"]), inner, max_size=3)
        ),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode())
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_whatever_else_is_posted_gets_a_4xx(client: Client, run: Path, body: bytes) -> None:
    # An answer is one of seven words, which random texts of up to 8 characters do not hit.
    for path in ("/api/answer", "/api/undo"):
        status, _ = client.post(path, body)
        assert 400 <= status < 500
    assert lines(run) == []


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (415, b"Content-Type: text/plain\r\nContent-Length: 30\r\n"),
        (415, b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 30\r\n"),
        (415, b"Content-Length: 30\r\n"),
        (411, b"Content-Type: application/json\r\n"),
        (411, b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"),
        (411, b"Content-Type: application/json\r\nContent-Length: -5\r\n"),
        (411, b"Content-Type: application/json\r\nContent-Length: 3x\r\n"),
        (411, b"Content-Type: application/json\r\nContent-Length: 30\r\nContent-Length: 5\r\n"),
        (413, b"Content-Type: application/json\r\nContent-Length: 99999999999\r\n"),
        (400, b"Content-Type: application/json\r\nContent-Length: 40\r\n"),  # cut off
    ],
)
def test_headers_that_do_not_fit(client: Client, run: Path, status: int, headers: bytes) -> None:
    own = f"Host: 127.0.0.1:{client.port}\r\nX-Thrifty-Token: {client.token}\r\n".encode()
    with socket.create_connection(("127.0.0.1", client.port), 20) as sender:
        sender.sendall(b"POST /api/answer HTTP/1.1\r\n" + own + headers + b"\r\n" + over(30))
        sender.shutdown(socket.SHUT_WR)
        reply = sender.makefile("rb").read()
    refused(client, run, status, (int(reply.split()[1]), reply))


def test_a_sender_who_leaves_disturbs_nobody(
    client: Client, run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for sent in (b"", b"POST", b"POST /api/answer HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"):
        with socket.create_connection(("127.0.0.1", client.port), 20) as sender:
            sender.sendall(sent)
    assert client.answer(0, "left")[0] == 200
    assert capfd.readouterr().err == ""


def test_what_is_answered_is_a_conflict(client: Client, run: Path) -> None:
    assert client.answer(0, "left")[0] == 200
    assert client.answer(0, "right")[0] == 409
    assert client.undo(1)[0] == 409
    assert client.undo(7)[0] == 404
    assert client.post("/api/undo", {"query": 0, "answer": "left"})[0] == 400
    assert len(lines(run)) == 1
    assert client.undo(0)[0] == 200
    assert client.undo(0)[0] == 409


def test_undo_takes_a_number_and_nothing_like_it(client: Client, run: Path) -> None:
    client.answer(0, "left")
    client.answer(1, "left")
    for number in (True, 1.0, "1", None, [1]):  # some of them equal 1
        assert client.post("/api/undo", {"query": number})[0] == 400
    assert client.post("/api/undo", {})[0] == 400
    assert len(lines(run)) == 2


def test_a_file_damaged_meanwhile_is_told_and_nothing_is_written(
    client: Client, run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (run / "labels.jsonl").write_bytes(b"nonsense\n{}\n")
    status, told = client.request("GET", "/api/state", headers={"X-Thrifty-Token": client.token})
    assert (status, "line 1 is no JSON object" in told["error"]) == (500, True)
    assert client.answer(0, "left")[0] >= 400
    assert (run / "labels.jsonl").read_bytes() == b"nonsense\n{}\n"
    assert "line 1 is no JSON object" in capfd.readouterr().err


# ---------------------------------------------------------------------- one server a seat


def test_an_annotator_has_one_server_at_a_time(run: Path, serve: Serve) -> None:
    first = serve(run, "ann")
    second = LabelServer(Session(run, "ann"), port=0)
    with pytest.raises(ValueError, match=r"ann is labelling .* already"), second.open():
        pass
    bob = serve(run, "bob")
    assert first.answer(0, "left")[0] == bob.answer(0, "left")[0] == 200
    assert {line["annotator"] for line in lines(run)} == {"ann", "bob"}


def test_the_seat_is_free_again_afterwards(run: Path) -> None:
    for _ in range(2):
        with LabelServer(Session(run, "ann/../x"), port=0).open() as server:
            assert server.url == f"http://127.0.0.1:{server.port}/"
    assert {path.parent for path in run.parent.rglob("*.lock")} == {run}


def test_a_port_that_is_taken(run: Path, client: Client) -> None:
    taken = LabelServer(Session(run, "bob"), port=client.port)
    match = rf"port {client.port} cannot be used .* --port 0"
    with pytest.raises(ValueError, match=match), taken.open():
        pass
    with pytest.raises(ValueError, match="from 0 to 65535"):
        LabelServer(Session(run, "bob"), port=70000)


def test_stop_ends_serving(run: Path) -> None:
    with LabelServer(Session(run, "ann"), port=0).open() as server:
        thread = threading.Thread(target=server.serve)
        thread.start()
        server.stop()
        thread.join(10)
        assert not thread.is_alive()
