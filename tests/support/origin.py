"""A file server with ranges, and with the faults that real ones have: cut, slow, refusing, lying.

`Origin` serves plain files; other servers of the tests (the hub, the registry) send their bytes through it.
"""

import fnmatch
import re
import ssl
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self, cast
from urllib.parse import unquote, urlsplit

from typing_extensions import override

CHUNK_BYTES = 32 * 1024


@dataclass(slots=True)
class Fault:
    """What goes wrong with a path that matches `path`; the first fault that is left for it applies."""

    path: str = "*"
    times: int = 1
    """How often; negative: always."""
    status: int | None = None
    """Answer this instead."""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Break the connection after so many bytes of the body."""
    bytes_per_second: int | None = None
    """No faster than this; may be changed while it sends."""
    announce: int | None = None
    """Say that the whole file has so many bytes."""
    corrupt: bool = False
    """Send other bytes of the same length."""
    silent_seconds: float = 0.0
    """Say nothing for so long first."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    """By name in lower case."""


class Origin(ThreadingHTTPServer):
    """Serves `files` by path while its context is open. `seen` and `sent_bytes` say what it was asked for."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, files: dict[str, bytes] | None = None, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), self.handler())
        self.host = host
        self.files = files if files is not None else {}
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.sent_bytes: dict[str, int] = {}
        self.wanted_headers: dict[str, str] = {}
        """A request without these is answered 401."""
        self.ranges = True
        """Whether it honours Range."""
        self.lock = threading.Lock()
        self._over = threading.Event()

    def handler(self) -> type["OriginHandler"]:
        return OriginHandler

    @property
    def url(self) -> str:
        scheme = "https" if isinstance(self.socket, ssl.SSLSocket) else "http"
        return f"{scheme}://{self.host}:{self.server_port}"

    @override
    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    @override
    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.shutdown()
        self.server_close()

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: clients that break off are what the tests are about."""

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than the server lives."""
        self._over.wait(seconds)

    def fault(self, path: str) -> Fault:
        with self.lock:
            for fault in self.faults:
                if fault.times and fnmatch.fnmatchcase(path, fault.path):
                    fault.times -= 1
                    return fault
        return Fault()

    def requests(self, path: str, method: str = "GET") -> list[Seen]:
        return [each for each in self.seen if each.method == method and fnmatch.fnmatchcase(each.path, path)]


class OriginHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def origin(self) -> Origin:
        return cast("Origin", self.server)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, path, parts.query, headers)
        with self.origin.lock:
            self.origin.seen.append(seen)
        fault = self.origin.fault(path)
        self.origin.pause(fault.silent_seconds)
        if fault.status:
            self.answer(fault.status, headers=fault.headers)
        elif any(
            seen.headers.get(name.lower()) != value for name, value in self.origin.wanted_headers.items()
        ):
            self.answer(HTTPStatus.UNAUTHORIZED)
        else:
            self.route(seen, fault)

    do_HEAD = do_GET  # noqa: N815 - the name is the base class's

    def route(self, seen: Seen, fault: Fault) -> None:
        """Answer a request that no fault has answered."""
        body = self.origin.files.get(seen.path.removeprefix("/"))
        if body is None:
            self.answer(HTTPStatus.NOT_FOUND)
        else:
            self.send_file(body, fault)

    def answer(
        self, status: int, body: bytes = b"", *, headers: dict[str, str] | None = None, kind: str = ""
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_file(self, body: bytes, fault: Fault, headers: dict[str, str] | None = None) -> None:
        """`body`, or the range of it that is asked for, with what the fault does to it."""
        if fault.corrupt:
            body = bytes(255 - byte for byte in body)
        total = len(body) if fault.announce is None else fault.announce
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, end = 0, total - 1
        if asked and self.origin.ranges:
            start, end = int(asked[1]), min(end, int(asked[2] or end))
            if start >= total:
                self.answer(416, headers={"Content-Range": f"bytes */{total}", **(headers or {})})
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end}/{total}")
        else:
            self.send_response(200)
        for name, value in {"Accept-Ranges": "bytes", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(end + 1 - start))
        self.end_headers()
        if self.command != "HEAD":
            self._send(body[start : end + 1], fault)
        if start + len(body[start : end + 1]) < end + 1:
            self.close_connection = True

    def _send(self, data: bytes, fault: Fault) -> None:
        if fault.cut_after is not None:
            data = data[: fault.cut_after]
            self.close_connection = True
        path = unquote(urlsplit(self.path).path)
        for start in range(0, len(data), CHUNK_BYTES):
            chunk = data[start : start + CHUNK_BYTES]
            self.wfile.write(chunk)
            with self.origin.lock:
                self.origin.sent_bytes[path] = self.origin.sent_bytes.get(path, 0) + len(chunk)
            if pace := fault.bytes_per_second:
                self.origin.pause(len(chunk) / pace)

    @override
    def log_message(self, *_: object) -> None:
        """Says nothing: a test's output is the test's."""
