"""Who may ask the server of labels, and what for."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from label_client import Client, refused

Serve = Callable[..., Client]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1:{port}.x", ""],
)
@pytest.mark.parametrize("path", ["/", "/page.js", "/api/state"])
def test_other_host_names_are_refused(client: Client, run: Path, host: str, path: str) -> None:
    host = host.format(port=client.port)
    token = {"X-Thrifty-Token": client.token}
    status, body = client.request("GET", path, headers=token, host=host)
    refused(client, run, 403, (status, body))
    assert client.token not in json.dumps(body)
    entry = {"query": 0, "answer": "left"}
    refused(client, run, 403, client.post("/api/answer", entry, Host=host))


def test_its_own_names_are_served(client: Client) -> None:
    for name in ("127.0.0.1", "localhost", "LOCALHOST"):
        assert client.request("GET", "/", host=f"{name}:{client.port}")[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nHost: evil\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: evil\r\nHost: 127.0.0.1:%d\r\n\r\n",
    ],
)
def test_no_host_and_two_hosts_are_refused(client: Client, head: bytes) -> None:
    head = head.replace(b"%d", str(client.port).encode())
    with socket.create_connection(("127.0.0.1", client.port), 20) as sender:
        sender.sendall(head)
        reply = sender.makefile("rb").read()
    assert b" 403 " in reply.split(b"\r\n")[0]
    assert client.token.encode() not in reply


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1", "file://"],
)
def test_other_origins_are_refused(client: Client, run: Path, origin: str) -> None:
    origin = origin.format(port=client.port)
    entry = {"query": 0, "answer": "left"}
    refused(client, run, 403, client.post("/api/answer", entry, Origin=origin))
    refused(client, run, 403, client.request("GET", "/", headers={"Origin": origin}))


def test_its_own_origin_is_served(client: Client) -> None:
    own = f"http://localhost:{client.port}"
    assert client.post("/api/answer", {"query": 0, "answer": "left"}, Origin=own)[0] == 200


@pytest.mark.parametrize("token", ["", "x" * 32, "ünicode"])
def test_without_the_token_nothing_is_told_or_changed(
    client: Client, run: Path, token: str
) -> None:
    header = {"X-Thrifty-Token": token}
    entry = {"query": 0, "answer": "left"}
    for answer in (
        client.request("GET", "/api/state", headers=header),
        client.request("GET", "/api/state"),
        client.post("/api/answer", entry, **header),
        client.post("/api/undo", {"query": 0}, **header),
    ):
        refused(client, run, 403, answer)
        # So that the page of a server that was stopped loads itself, and with it the new token.
        assert answer[1]["reload"] is True


def test_a_form_of_another_page_has_no_token(client: Client, run: Path) -> None:
    """What a browser sends across origins without asking: a plain text form."""
    body = b'{"query":0,"answer":"left","latency":1}'
    sent = client.request("POST", "/api/answer", body, {"Content-Type": "text/plain"})
    refused(client, run, 403, sent)


def test_each_server_has_its_own_token(run: Path, serve: Serve) -> None:
    ann, bob = serve(run, "ann"), serve(run, "bob")
    assert ann.token != bob.token
    status, _ = bob.post("/api/answer", {"query": 0, "answer": "left"}, **{"X-Thrifty-Token": ""})
    assert status == 403
    bob.token = ann.token
    assert bob.answer(0, "left")[0] == 403


def test_only_this_machine_is_listened_to(client: Client) -> None:
    # 127.0.0.2 is this machine too, by another address: a server on all addresses would answer.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", client.port), 5)


@pytest.mark.parametrize(
    "path",
    [
        "/labels.jsonl",
        "/config.json",
        "/queries.jsonl",
        "/index.html",
        "/server.py",
        "/page/index.html",
        "/../session.py",
        "/page.css/../../session.py",
        "/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/../../../../../../../../etc/passwd",
        "//etc/passwd",
        "/\\..\\..\\etc\\passwd",
        "file:///etc/passwd",
        "/http://evil.example/",
        "etc/passwd",
        "/?file=/etc/passwd",
        "/api/",
        "/api/state/../../labels.jsonl",
        "*",
    ],
)
def test_no_path_leads_to_a_file(client: Client, run: Path, path: str) -> None:
    (run / "labels.jsonl").touch()
    token = {"X-Thrifty-Token": client.token}
    refused(client, run, 404, client.request("GET", path, headers=token))
    refused(client, run, 404, client.post(path, {"query": 0, "answer": "left"}))


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "BREW"])
def test_other_methods_are_refused(client: Client, run: Path, method: str) -> None:
    for path in ("/", "/api/answer", "/labels.jsonl"):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", client.port)) as sender:
            sender.request(method, path, headers={"X-Thrifty-Token": client.token})
            refused(client, run, 405, (sender.getresponse().status, path))


def test_get_and_post_have_their_own_routes(client: Client, run: Path) -> None:
    token = {"X-Thrifty-Token": client.token}
    refused(client, run, 405, client.request("GET", "/api/answer", headers=token))
    refused(client, run, 405, client.post("/api/state", {}))
    refused(client, run, 405, client.post("/", {}))
