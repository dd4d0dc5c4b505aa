"""The local server behind the page: fixed routes, one run, one annotator, this machine only.

| route | what it gives |
|---|---|
| GET / and /page.css, /page.js, /scene.js | the page, from inside the package |
| GET /api/state | counts, last answer, next query |
| POST /api/answer {query, answer, latency} | stores an answer, then gives the new state |
| POST /api/undo {query} | takes back the last answer, then gives the new state |

No route leads to a file by its name. A request is refused (403) unless its Host is this server, so
that no foreign name that leads here is of use; so is one with another page's Origin. What /api/
gives needs the token that stands in the page, which other pages cannot read. Whatever is refused
has changed nothing.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import json
import secrets
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from thrifty.labelling.seat import seat
from thrifty.labelling.session import Conflict, Session, UnknownQuery

ADDRESS = "127.0.0.1"
TOKEN = "X-Thrifty-Token"
LONGEST_POST = 2048
"""Bytes; an answer has about 60."""

_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/scene.js": ("scene.js", "text/javascript"),
}
_DRAINED = 1 << 20  # bytes of a refused post that are read, so that its sender hears the refusal
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class _Refused(Exception):
    """A request that gets a status of 4xx."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status, self.more = status, more


class LabelServer:
    """Serves the page of one session until it is closed.

    Args:
        session: what is shown, and where answers go.
        port: on 127.0.0.1; 0 takes any free one.

    Raises:
        ValueError: the port is taken or no port.

    Example:
        >>> with LabelServer(Session(run, "ann"), port=0).open() as server:  # doctest: +SKIP
        ...     server.serve()
    """

    def __init__(self, session: Session, *, port: int) -> None:
        if not 0 <= port <= 65535:
            raise ValueError(f"a port is a number from 0 to 65535, not {port}")
        self.session, self.token = session, secrets.token_urlsafe(24)
        self._port = port
        self._http: _Http | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[LabelServer]:
        """Take the annotator's seat and the port, and give both back at the end."""
        with seat(self.session.folder, self.session.annotator):
            try:
                http = _Http((ADDRESS, self._port), _Handler)
            except OSError as error:
                raise ValueError(
                    f"port {self._port} cannot be used ({error.strerror}): give another with "
                    "--port, or --port 0 for any free one"
                ) from None
            http.label, self._http = self, http
            with http:
                yield self

    @property
    def port(self) -> int:
        """Return the port that is served."""
        assert self._http is not None, "open() comes first"
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        """Return the address of the page."""
        return f"http://{ADDRESS}:{self.port}/"

    def serve(self) -> None:
        """Answer requests until :meth:`stop` or Ctrl-C."""
        assert self._http is not None, "open() comes first"
        self._http.serve_forever(poll_interval=0.05)

    def stop(self) -> None:
        """End :meth:`serve`, from another thread."""
        assert self._http is not None, "open() comes first"
        self._http.shutdown()


class _Http(ThreadingHTTPServer):
    label: LabelServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        problem = sys.exception()
        if not isinstance(problem, ConnectionError | TimeoutError):  # a browser that has gone
            print(f"label: {type(problem).__name__}: {problem}", file=sys.stderr)


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    timeout = 30  # seconds for a request to arrive
    server_version, sys_version = "thrifty", ""

    def do_GET(self) -> None:
        self._respond(self._get)

    def do_POST(self) -> None:
        self._respond(self._post)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):  # every other method
            return lambda: self._respond(self._refuse_method)
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the page asks once a second."""

    def _respond(self, give: Callable[[], tuple[str, bytes]]) -> None:
        status, more = 200, {}
        try:
            self._check_sender()
            kind, body = give()
        except _Refused as refusal:
            self._drain()
            status, more = refusal.status, refusal.more
            kind, body = _json({"error": str(refusal), **more})
        except (OSError, ValueError) as problem:  # a full disk, a damaged file: say it on the page
            if isinstance(problem, ConnectionError | TimeoutError):
                raise
            print(f"label: {problem}", file=sys.stderr)
            status = 500
            kind, body = _json({"error": str(problem)})
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # ------------------------------------------------------------------ who asks

    def _check_sender(self) -> None:
        port = self.server.label.port
        names = {f"{name}:{port}" for name in (ADDRESS, "localhost")}
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].strip().lower() not in names:
            raise _Refused(403, f"this server is http://{ADDRESS}:{port}/ and no other")
        for origin in self.headers.get_all("Origin") or []:
            if origin.strip().lower() not in {f"http://{name}" for name in names}:
                raise _Refused(403, "requests of other pages are refused")

    def _check_token(self) -> None:
        given = self.headers.get(TOKEN, "")
        if not secrets.compare_digest(given.encode(), self.server.label.token.encode()):
            # A page that was loaded from an earlier server: it gets the token by loading anew.
            raise _Refused(403, "the token is missing or of another server", reload=True)

    # ------------------------------------------------------------------ what is asked

    def _get(self) -> tuple[str, bytes]:
        if self.path in _FILES:
            name, kind = _FILES[self.path]
            page = importlib.resources.files("thrifty.labelling") / "page" / name
            text = page.read_text(encoding="utf-8")
            return kind, text.replace("@token@", self.server.label.token).encode()
        if self.path == "/api/state":
            self._check_token()
            return self._state()
        if self.path in ("/api/answer", "/api/undo"):
            raise _Refused(405, f"{self.path} takes POST")
        raise _Refused(404, "there is no such page")

    def _post(self) -> tuple[str, bytes]:
        session = self.server.label.session
        if self.path not in ("/api/answer", "/api/undo"):
            known = self.path in _FILES or self.path == "/api/state"
            raise _Refused(405 if known else 404, "there is nothing to post to here")
        self._check_token()
        entry = self._entry()
        number = entry.get("query")
        if type(number) is not int:
            raise _Refused(400, "query must be the number of a query")
        try:
            if self.path == "/api/undo":
                _check_names(entry, {"query"})
                session.undo(number)
            else:
                _check_names(entry, {"query", "answer", "latency"})
                choice = entry.get("answer")
                if not isinstance(choice, str):
                    raise _Refused(400, "answer must be a text")
                session.answer(number, choice, entry.get("latency"))
        except UnknownQuery as problem:
            raise _Refused(404, str(problem)) from None
        except Conflict as problem:
            raise _Refused(409, str(problem)) from None
        except ValueError as problem:
            raise _Refused(400, str(problem)) from None
        return self._state()

    def _refuse_method(self) -> tuple[str, bytes]:
        raise _Refused(405, "only GET and POST are known here")

    def _state(self) -> tuple[str, bytes]:
        return _json(self.server.label.session.view())

    # ------------------------------------------------------------------ what was sent

    def _entry(self) -> dict[str, Any]:
        """Return the JSON object of a post, or refuse it."""
        if self.headers.get_content_type() != "application/json":
            raise _Refused(415, "a post must be application/json")
        length = self._length()
        if length is None:
            raise _Refused(411, "a post must tell its length")
        if length > LONGEST_POST:
            raise _Refused(413, f"a post has at most {LONGEST_POST} bytes")
        data, self._read = self.rfile.read(length), True
        try:
            entry = json.loads(data.decode(), parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise _Refused(400, "the post is no JSON") from None
        if len(data) != length or not isinstance(entry, dict):
            raise _Refused(400, "the post is no JSON object")
        return entry

    _read = False

    def _length(self) -> int | None:
        lengths = self.headers.get_all("Content-Length") or []
        if len(lengths) != 1 or "Transfer-Encoding" in self.headers:
            return None
        text = lengths[0].strip()
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            return None
        return int(text)

    def _drain(self) -> None:
        """Read what a refused sender is sending still: it listens only when it has finished."""
        if not self._read:
            self.rfile.read(min(self._length() or 0, _DRAINED))


def _check_names(entry: dict[str, Any], names: set[str]) -> None:
    if not entry.keys() <= names:
        raise _Refused(400, f"a post has the fields {', '.join(sorted(names))}")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _json(value: dict[str, Any]) -> tuple[str, bytes]:
    return "application/json", json.dumps(value, allow_nan=False).encode()
