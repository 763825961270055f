"""Requests that two readers could read in two ways: each is refused, or read in the one way that HTTP knows.

After each a marker follows on the same connection. What slips a request past a reader shows in the answers:
one more than was asked, or one fewer.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.conformance.gateway.client import BOUNDARY, field, file, form
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.test_protocol import LAST, exchange

BODY = form(field("model", "whisper"), file(b"RIFF" * 50))
LENGTH = f"Content-Length: {len(BODY)}\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
HIDDEN = b"GET /v1/engines HTTP/1.1\r\nHost: x\r\n\r\n"


def post(headers: str, path: str = "/v1/audio/transcriptions") -> bytes:
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n{headers}\r\n".encode()


def chunks(size: str = f"{len(BODY):x}", after: str = "\r\n", end: str = "0\r\n\r\n") -> bytes:
    return size.encode() + after.encode() + BODY + b"\r\n" + end.encode()


def get(target: str, headers: str = "Host: x\r\n") -> bytes:
    return f"GET {target} HTTP/1.1\r\n{headers}\r\n".encode("latin-1")


@dataclass(frozen=True, slots=True)
class Trick:
    id: str
    sent: bytes
    statuses: tuple[int, ...]
    """Of all answers, the marker's among them where the connection goes on."""


REFUSED = (400,)
READ = (200, 200)


def tricks() -> Iterator[Trick]:
    refused = {
        "two-lengths": post(f"{LENGTH}Content-Length: 5\r\n") + BODY,
        "same-length-twice": post(LENGTH * 2) + BODY,
        "list-of-lengths": post(f"Content-Length: {len(BODY)}, {len(BODY)}\r\n") + BODY,
        "plus": post(f"Content-Length: +{len(BODY)}\r\n") + BODY,
        "hexadecimal": post(f"Content-Length: {len(BODY):#x}\r\n") + BODY,
        "no-length": post("Content-Length: \r\n") + BODY,
        "space-in-length": post("Content-Length: 1 0\r\n") + BODY,
        "length-and-chunked": post(LENGTH + CHUNKED) + chunks(),
        "chunked-and-length": post(CHUNKED + LENGTH) + chunks(),
        "chunked-then-identity": post("Transfer-Encoding: chunked, identity\r\n") + chunks(),
        "chunked-twice": post(CHUNKED * 2) + chunks(),
        "chunked-and-identity": post(f"{CHUNKED}Transfer-Encoding: identity\r\n") + chunks(),
        "identity-and-chunked": post(f"Transfer-Encoding: identity\r\n{CHUNKED}") + chunks(),
        "coded-and-chunked": post("Transfer-Encoding: gzip, chunked\r\n") + chunks(),
        "vertical-tab": post("Transfer-Encoding:\x0bchunked\r\n") + chunks(),
        "quoted": post('Transfer-Encoding: "chunked"\r\n') + chunks(),
        "odd-coding": post("Transfer-Encoding: xchunked\r\n") + chunks(),
        "fold": post(f"{LENGTH}X: a\r\n b\r\n") + BODY,
        "space-before-colon": post(f"Content-Length : {len(BODY)}\r\n") + BODY,
        "bare-line-feeds": post(LENGTH).replace(b"\r\n", b"\n") + BODY,
        "nul": post(f"{LENGTH}X: a\0b\r\n") + BODY,
        "bare-return": post(f"{LENGTH}X: a\rb\r\n") + BODY,
        "no-name": get("/healthz", "Host: x\r\n: a\r\n"),
        "control-in-name": get("/healthz", "Host: x\r\nX\x01Y: a\r\n"),
        "two-hosts": get("/healthz", "Host: a\r\nHost: b\r\n"),
        "no-host": get("/healthz", ""),
        "version-0.9": b"GET /healthz\r\n",
        "version-2.0": b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n",
        "version-1.12": b"GET /healthz HTTP/1.12\r\nHost: x\r\n\r\n",
        "tabs-in-line": b"GET\t/healthz\tHTTP/1.1\r\nHost: x\r\n\r\n",
        "bytes-in-target": get("/v1/models/\xff\xfe"),
        "chunk-0x": post(CHUNKED) + chunks(f"{len(BODY):#x}"),
        "chunk-negative": post(CHUNKED) + chunks("-1"),
        "chunk-beyond": post(CHUNKED) + chunks("F" * 17),
        "chunk-too-short": post(CHUNKED) + chunks(f"{len(BODY) - 5:x}"),
        "chunk-line-feeds": post(CHUNKED) + chunks(after="\n", end="0\n\n"),
        "chunk-extension-line-feed": post(CHUNKED) + chunks(after=";a\n"),
        "chunk-space": post(CHUNKED) + chunks(after=" \r\n"),
        "chunk-without-size": post(CHUNKED) + chunks(""),
        "length-in-trailer": post(CHUNKED) + chunks(end="0\r\nContent-Length: 5\r\n\r\n"),
    }  # fmt: skip
    for name, sent in refused.items():
        yield Trick(name, sent, REFUSED)
    read = {
        "upper-case": post("Transfer-Encoding: CHUNKED\r\n") + chunks(),
        "tab": post("Transfer-Encoding:\tchunked\r\n") + chunks(),
        "underscore": post(f"Transfer_Encoding: chunked\r\n{LENGTH}") + BODY,
        "chunk-extension": post(CHUNKED) + chunks(after=';a=b;c="d"\r\n'),
        "chunk-leading-zeros": post(CHUNKED) + chunks(f"{'0' * 30}{len(BODY):x}"),
        "empty-lines-before": b"\r\n\r\n" + get("/healthz"),
        "whole-address": get("http://elsewhere/healthz"),
        "request-in-the-body-of-a-get": get("/healthz", f"Host: x\r\nContent-Length: {len(HIDDEN)}\r\n")
        + HIDDEN,
    }
    for name, sent in read.items():
        yield Trick(name, sent, READ)
    unread = post(f"Content-Length: {len(HIDDEN)}\r\n", "/v1/nothing") + HIDDEN
    yield Trick("request-in-a-body-that-nobody-reads", unread, (404, 200))
    yield Trick("star", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", (404, 200))
    handshake = "Host: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    handshake += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    yield Trick("handshake-behind-a-request", get("/healthz") + get("/v1/realtime", handshake), (200,))
    old = post(CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0") + chunks()
    yield Trick("chunked-of-1.0-ends-the-connection", old, (200,))


@pytest.mark.parametrize("trick", list(tricks()), ids=lambda trick: trick.id)
def test_tricks(world: World, trick: Trick) -> None:
    engine = world.serve(Variant("whisper"))
    answers = exchange(world, trick.sent + LAST).split(b"HTTP/1.1 ")[1:]
    heads = [answer for answer in answers if answer[:3].isdigit()]
    assert tuple(int(answer[:3]) for answer in heads) == trick.statuses
    assert b'"engines"' not in b"".join(answers), "the hidden request was answered"
    if trick.statuses == REFUSED:
        body = json.loads(b"HTTP/1.1 ".join(answers).partition(b"\r\n\r\n")[2])
        assert body["error"]["code"] == "malformed_request"
    assert all(received.file_size == 200 for received in engine.requests if received.complete)


PATHS = [
    *("/v1/models/../engines", "/v1/models/..%2f..%2fmetrics", "/v1/models/%2e%2e/%2e%2e/healthz"),
    *("/v1/models//", "/v1//models", "/v1/models/%00", "/v1/models/%0d%0aX-Forged:%201", "/v1/models/%zz"),
    *("/v1/models/%ff%fe", "/v1/models/..;/engines", "/v1/models/whisper%20", "/v1/models/whisper%2f"),
    *(
        "/v1/models/" + "a/" * 5000,
        "/v1/models/" + "%41" * 5000,
        "/v1/models/\\\\..\\\\engines",
        "/V1/MODELS",
    ),
    *("/v1/models;x=1", "/v1/models/whisper;x=1", "/v1/models/*", "/v1/models/?id=whisper", "//v1/models"),
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:40])
def test_paths_lead_nowhere_else(world: World, path: str) -> None:
    world.serve(Variant("whisper"))
    reply = world.gateway.get(path)
    assert reply.status == 404
    assert reply.error["code"] in {"model_not_found", "unknown_url"}
    assert "x-forged" not in reply.headers


@pytest.mark.parametrize(
    "name",
    [
        "../whisper",
        "whisper/../x",
        "whisper\x00",
        "whisper\r\nX-Forged: 1",
        "%77hisper",
        "ＷHISPER",
        " ",
        "a" * 200,
    ],
)
def test_model_names_of_uploads_are_names_and_nothing_else(world: World, name: str) -> None:
    engine = world.serve(Variant("whisper"))
    reply = world.gateway.transcribe(field("model", name), file())
    if name.strip():
        assert (reply.status, reply.error["param"]) == (400, "model")
        assert engine.requests == []
    else:
        assert reply.headers["x-roundhouse-model"] == "whisper"
    assert "x-forged" not in reply.headers
