"""A plain HTTP client for the tests: one connection a request, nothing hidden, nothing repeated."""

import http.client
import json
import secrets
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

AUDIO = b"RIFF" + bytes(range(256)) * 64
BOUNDARY = "test-boundary"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The envelope's `error`, after a look at the envelope itself."""
        assert self.headers["content-type"] == "application/json"
        body = self.json
        assert set(body["error"]) == {"message", "type", "param", "code"}
        if "message" in body:  # for Cohere's clients
            assert body.pop("message") == body["error"]["message"]
        assert set(body) == {"error", "detail"}
        found: dict[str, Any] = body["error"]
        return found


def request(
    port: int,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    host: str = "127.0.0.1",
    seconds: float = 120,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    connection = (
        http.client.HTTPSConnection(host, port, timeout=seconds, context=tls)
        if tls
        else http.client.HTTPConnection(host, port, timeout=seconds)
    )
    try:
        connection.request(
            method, path, body, dict(headers or {}), encode_chunked=not isinstance(body, bytes)
        )
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, names, response.read())
    finally:
        connection.close()


def field(name: str, value: str) -> bytes:
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


def file(content: bytes = AUDIO, name: str = "file", filename: str = "speech.wav") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"'
    head = f"--{BOUNDARY}\r\n{disposition}\r\nContent-Type: audio/x-wav\r\n\r\n"
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


FORM_TYPE = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def start_upload(port: int, begin: bytes, *, total: int) -> socket.socket:
    """Sends the head of an upload of `total` bytes and their beginning; the rest is up to the test."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM_TYPE['Content-Type']}"
    connection.sendall(f"{head}\r\nContent-Length: {total}\r\n\r\n".encode() + begin)
    return connection


@contextmanager
def answer_on(connection: socket.socket) -> Iterator[http.client.HTTPResponse]:
    """The answer that comes on a connection of `start_upload`, its head read."""
    with http.client.HTTPResponse(connection) as response:
        response.begin()
        yield response


def random_audio(size: int) -> bytes:
    return secrets.token_bytes(size)
