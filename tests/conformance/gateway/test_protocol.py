"""What clients may send as HTTP: offers to change the protocol, tricks with lengths, and what is no HTTP."""

import json
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from itertools import chain

import pytest

from tests.conformance.gateway import text_engine as scripts
from tests.conformance.gateway.client import BOUNDARY, field, file, form
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant
from tests.support.waiting import wait_until

H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
WEBSOCKET = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
AUDIO = b"RIFF" * 50_000
BODY = form(field("model", "whisper"), file(AUDIO))
LENGTH = f"Content-Length: {len(BODY)}\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
IN_CHUNKS = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (10, BODY[:10], len(BODY) - 10, BODY[10:])
LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def post(headers: str) -> bytes:
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    return (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n{headers}\r\n".encode()
    )


def exchange(world: World, *sent: bytes) -> bytes:
    """All that comes back until the gateway closes the connection."""
    with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=60) as connection:
        for piece in sent:
            connection.sendall(piece)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("offer", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
@pytest.mark.parametrize("framing", [LENGTH, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("piece", [1 << 20, 1000, 7], ids=["whole", "pieces", "crumbs"])
def test_an_offer_to_change_the_protocol_is_passed_over(
    world: World, offer: str, framing: str, piece: int
) -> None:
    engine = world.serve(Variant("whisper"))
    request = post(offer + framing) + (BODY if framing == LENGTH else IN_CHUNKS)
    head, rest = request[:1000], request[1000:]
    pieces = chain(
        (head[at : at + piece] for at in range(0, len(head), piece)),
        (rest[at : at + 10_000] for at in range(0, len(rest), 10_000)),
    )
    answered = exchange(world, *pieces, request, LAST)
    assert answered.count(b"HTTP/1.1 200 OK") == 3
    assert [received.file_size for received in engine.requests] == [len(AUDIO)] * 2


def test_an_offer_with_a_get(world: World) -> None:
    get = f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{H2C}\r\n".encode()
    assert exchange(world, get, get, LAST).count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01" + bytes(100),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        post(f"{LENGTH}Content-Length: 5\r\n") + BODY,
        post(LENGTH + CHUNKED) + IN_CHUNKS,
        post("Transfer-Encoding: xchunked\r\n") + IN_CHUNKS,
        post("Content-Length: -5\r\n") + BODY,
        post("Content-Length: 99999999999999999999999\r\n") + BODY,
        post(f"{H2C}{LENGTH}{CHUNKED}") + IN_CHUNKS,
    ],
    ids=["tls", "http2", "connect", "two-lengths", "length-and-chunked", "odd-coding", "negative", "beyond",
         "offer"],
)  # fmt: skip
def test_what_is_no_sound_http_is_refused_in_the_one_shape(world: World, sent: bytes) -> None:
    engine = world.serve(Variant("whisper"))
    head, _, body = exchange(world, sent[:1000]).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"connection: close" in head
    assert b"\r\nx-request-id: " in head
    error = json.loads(body)["error"]
    assert error["code"] == "malformed_request"
    assert error["message"].startswith("The request is not HTTP/1.1 as it should be: ")
    assert engine.requests == []


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "2 headers `Host`"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", "0 headers `Host`"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "`chunked`"),
        (b"GET /healthz HTTP/1.1\nHost: x\n\n", "CR"),
    ],
)
def test_what_is_no_sound_http_is_told_what_is_wrong(world: World, sent: bytes, says: str) -> None:
    _, _, body = exchange(world, sent).partition(b"\r\n\r\n")
    assert says in json.loads(body)["error"]["message"]


def test_a_stream_for_http_1_0_ends_with_its_connection(world: World) -> None:
    world.serve(Variant("qwen", stage="Chat", languages=None)).answer = scripts.chat
    asked = json.dumps({"model": "qwen", "messages": [], "stream": True})
    head = f"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: {len(asked)}\r\n\r\n"
    said, _, body = exchange(world, (head + asked).encode()).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in said.lower()
    assert body.startswith(b"data: {")
    assert body.endswith(b"data: [DONE]\n\n")
    assert b"\r\n" not in body


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/chat/completions"])
def test_what_cannot_be_expected_is_refused(path: str, world: World) -> None:
    head, _, body = exchange(
        world, f"POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\n{LENGTH}\r\n".encode() + BODY
    ).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 417 Expectation Failed\r\n")
    error = json.loads(body)["error"]
    assert (error["code"], "'200-ok'" in error["message"]) == ("expectation_failed", True)


HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
LONG = b"X-Long: " + b"y" * 70_000


@pytest.mark.parametrize(
    "sent",
    [
        [HEAD + LONG + b"\r\n\r\n"],
        [HEAD, *[LONG[:8_000]] * 100],
        [HEAD + b"".join(b"X-%d: %s\r\n" % (n, b"y" * 100) for n in range(800)) + b"\r\n"],
        [b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"],
    ],
    ids=["one-header", "without-end", "many-headers", "line"],
)
def test_a_head_that_is_too_long_is_refused(world: World, sent: list[bytes]) -> None:
    with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=60) as connection:
        connection.sendall(LAST.replace(b"close", b"keep-alive"))
        first = b""
        while not first.endswith(b"\r\n\r\nok\n"):
            first += connection.recv(65536)
        for piece in sent:
            connection.sendall(piece)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large")
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert body["error"]["code"] == "headers_too_large"
    assert "65536 bytes" in body["error"]["message"]


def test_trailers_without_end_end_the_connection_and_not_the_gateway(world: World) -> None:
    world.serve(Variant("whisper"))
    before = world.gateway.rss_mib()
    trailer = b"X-Trailer: " + b"y" * 65_536
    with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=60) as connection:
        connection.sendall(post(CHUNKED) + IN_CHUNKS[: -len(b"\r\n")])
        with pytest.raises(ConnectionError):
            connection.sendall(trailer * 2_000)
    assert world.gateway.rss_mib() - before < 20
    assert world.gateway.get("/healthz").status == 200


def test_a_head_that_does_not_come_ends_the_connection(
    own_world: Callable[[Mapping[str, str]], World],
) -> None:
    world = own_world({"HEADER_SECONDS": "0.5"})
    for sent in (b"", HEAD, LAST.replace(b"close", b"keep-alive") + HEAD):
        answer = exchange(world, sent)
        assert answer.count(b"HTTP/1.1 408 ") == 1, sent
        assert b"headers_timeout" in answer


def test_a_connection_more_than_the_limit_is_told_so(
    own_world: Callable[[Mapping[str, str]], World],
) -> None:
    world = own_world({"CONNECTION_LIMIT": "3"})
    address = ("127.0.0.1", world.gateway.port)
    wait_until(
        lambda: world.gateway.metric("roundhouse_gateway_connections") == 0,
        seconds=30,
        what="those that asked whether it is ready are gone",
        every=0.02,
    )
    with ExitStack() as stack:
        for _ in range(3):
            held = stack.enter_context(socket.create_connection(address, timeout=60))
            held.sendall(LAST.replace(b"close", b"keep-alive"))
            assert held.recv(65536).startswith(b"HTTP/1.1 200")
        answer = exchange(world, b"")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"too_many_connections" in answer
    wait_until(lambda: world.gateway.get("/healthz").status == 200, seconds=10, what="there is room again")
