"""The gateway's socket to an engine, against a server of another make: every way to speak and to end."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, cast

import aiohttp
import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import Close
from websockets.http11 import Request, Response

from roundhouse_gateway.access import Access
from roundhouse_gateway.realtime import engine_link
from roundhouse_gateway.realtime.client_socket import ClientSocket
from roundhouse_gateway.realtime.engine_link import UNREAD_BYTES, EngineLink, connect
from roundhouse_gateway.realtime.greeting import RefusedError
from roundhouse_gateway.realtime.pumps import Bounds, Idle
from roundhouse_gateway.realtime.relay import Relay
from tests.conformance.engine.streaming import DEADLINE
from tests.support.waiting import eventually

HEADERS = {"x-request-id": "req-1"}
TRUST = ssl.create_default_context()
TEXT, CLOSE = aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.CLOSE


@asynccontextmanager
async def engine(say: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    options: dict[str, Any] = {
        "compression": None,
        "ping_interval": None,
        "max_size": None,
        "close_timeout": 1,
    }
    async with serve(say, "127.0.0.1", 0, **options) as server:
        yield url_of(server)


def url_of(server: Server | asyncio.Server) -> str:
    return f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/stream?model=m"


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[EngineLink]:
    link = await connect(url, HEADERS, TRUST, DEADLINE)
    try:
        yield link
    finally:
        await link.close()


async def told(link: EngineLink) -> aiohttp.WSMessage:
    return await asyncio.wait_for(link.receive(), DEADLINE)


async def test_what_is_said_comes_back_whole() -> None:
    async def echo(socket: ServerConnection) -> None:
        request = socket.request
        assert request is not None
        await socket.send(json.dumps([request.path, request.headers["x-request-id"]]))
        async for message in socket:
            await socket.send(f"{type(message).__name__} {len(message)}")

    async with engine(echo) as url, linked(url) as link:
        assert json.loads((await told(link)).data) == ["/stream?model=m", "req-1"]
        for size in (0, 125, 126, 65_535, 65_536, 1 << 20):
            await link.send_bytes(bytes(size))
            await link.send_str("ü" * size)
            assert [(await told(link)).data for _ in range(2)] == [f"bytes {size}", f"str {size}"]


async def test_fragments_with_a_ping_between_are_one_message() -> None:
    async def speak(socket: ServerConnection) -> None:
        async def parts() -> AsyncIterator[str]:
            yield "be"
            await (await socket.ping())
            yield "gin"

        await socket.send(parts())
        await socket.close(4010, "fell behind")

    async with engine(speak) as url, linked(url) as link:
        assert (await told(link)).data == "begin"
        ends = [await told(link) for _ in range(2)]
    assert [(end.type, end.data, end.extra) for end in ends] == [(CLOSE, 4010, "fell behind")] * 2


@pytest.mark.parametrize(
    "said",
    [b"\x82\x01a", b"\x81\x01\xff", b"\x81\x81\0\0\0\0a", b"\xc1\x01a", b"\x81\x7f" + (1 << 40).to_bytes(8)],
    ids=["binary", "no UTF-8", "masked", "of an extension", "longer than any"],
)
async def test_what_is_no_event_ends_the_session(said: bytes) -> None:
    async def speak(socket: ServerConnection) -> None:
        socket.transport.write(said)
        await socket.wait_closed()

    async with engine(speak) as url, linked(url) as link:
        assert (await told(link)).type is aiohttp.WSMsgType.CLOSED


async def test_leaving_is_said_and_answered() -> None:
    closes: list[Close | None] = []

    async def listen(socket: ServerConnection) -> None:
        await socket.wait_closed()
        closes.append(socket.protocol.close_rcvd)

    async with engine(listen) as url:
        async with linked(url):
            pass
        await eventually(lambda: _is(bool(closes)), seconds=DEADLINE, what="the engine has heard of it")
    assert closes == [Close(1000, "")]


async def _is(found: bool) -> bool:
    return found


async def test_a_refusal_counts_by_its_head() -> None:
    async def refuse(socket: ServerConnection, request: Request) -> Response:
        response = socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, "no")
        response.headers["X-Roundhouse-Reason"] = "engine_full"
        return response

    async def never(_: ServerConnection) -> None:
        raise AssertionError

    async with serve(never, "127.0.0.1", 0, process_request=refuse) as server:
        with pytest.raises(RefusedError) as refused:
            await connect(url_of(server), HEADERS, TRUST, DEADLINE)
    assert (refused.value.status, refused.value.headers["x-roundhouse-reason"]) == (503, "engine_full")


@pytest.mark.parametrize(
    ("answer", "raises"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", ConnectionError),
        (b"", ConnectionError),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000, ConnectionError),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 1000000\r\n\r\n", RefusedError),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            RefusedError,
        ),
    ],
    ids=["no HTTP", "nothing", "no end", "no body", "not our key"],
)
async def test_what_is_no_handshake_is_no_session(answer: bytes, raises: type[Exception]) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if answer:
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        with pytest.raises(raises):
            await asyncio.wait_for(connect(url_of(server), HEADERS, TRUST, DEADLINE), DEADLINE)


async def test_who_does_not_read_has_the_engine_wait() -> None:
    sent = 0

    async def speak(socket: ServerConnection) -> None:
        nonlocal sent
        for _ in range(1000):
            await socket.send("x" * 32_768)
            sent += 1

    async with engine(speak) as url, linked(url) as link:
        held = -1
        while held != sent:
            held = sent
            await asyncio.sleep(0.3)
        assert sent < 1000
        for _ in range(1000):
            assert (await told(link)).type is TEXT
        assert (await told(link)).data == 1000


async def test_an_engine_that_takes_nothing_has_its_last_ping_answered_later() -> None:
    """What it is owed does not grow with what it asks."""
    full, reads = asyncio.Event(), asyncio.Event()

    async def ask(socket: ServerConnection) -> None:
        socket.transport.pause_reading()
        await full.wait()
        answered = [await socket.ping(f"{number:0125}") for number in range(1000)]
        await socket.send("all were asked")
        await reads.wait()
        socket.transport.resume_reading()
        assert len(await socket.recv()) == 16 << 20
        await answered[-1]
        await socket.send("the last was answered")

    async with engine(ask) as url, linked(url) as link:
        await link.send_bytes(bytes(16 << 20))
        assert not link._taken.is_set()
        waits = link._transport.get_write_buffer_size()
        full.set()
        assert (await told(link)).data == "all were asked"
        assert link._transport.get_write_buffer_size() <= waits
        reads.set()
        assert (await told(link)).data == "the last was answered"


async def test_an_engine_that_answers_no_ping_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_link, "HEARTBEAT_SECONDS", 0.1)
    over = asyncio.Event()

    async def hang(socket: ServerConnection) -> None:
        socket.transport.pause_reading()
        await over.wait()

    async with engine(hang) as url:
        async with linked(url) as link:
            assert (await told(link)).type is aiohttp.WSMsgType.CLOSED
        over.set()


async def test_an_engine_that_says_nothing_but_answers_pings_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_link, "HEARTBEAT_SECONDS", 3600)  # its heart beats by hand here

    async def listen(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with engine(listen) as url, linked(url) as link:
        for _ in range(3):
            for _ in range(3):
                link._beat()
            assert link._silent == 3
            await eventually(lambda: _is(link._silent == 0), seconds=DEADLINE, what="the ping is answered")
        assert link.open


class FullClient:
    """One that takes nothing: all at once, or from its second event on."""

    def __init__(self, events: int) -> None:
        self.writable = asyncio.Event()
        self.writable.set()
        self.written: list[bytes] = []
        self._events = events
        self._relay: Relay

    def take(self, relay: Relay, _: int) -> bool:
        self._relay = relay
        self._is_full()
        return True

    def write(self, frame: bytes) -> None:
        self.written.append(frame)
        self._is_full()

    def _is_full(self) -> None:
        """Says so once, as transports do."""
        if self.writable.is_set() and len(self.written) >= self._events:
            self.writable.clear()
            self._relay.client_full()


@pytest.mark.parametrize("events", [0, 2])
async def test_an_engine_that_spoke_early_waits_for_a_client_that_is_full(events: int) -> None:
    async def speak(socket: ServerConnection) -> None:
        for _ in range(3):
            await socket.send(json.dumps("x" * (UNREAD_BYTES // 2)).join(('{"said":', "}")))
        await socket.wait_closed()

    client = FullClient(events)
    async with engine(speak) as url, linked(url) as link:
        await eventually(lambda: _is(link._paused), seconds=DEADLINE, what="the engine waits to be read")
        relay = Relay(cast("ClientSocket", client), link, Idle(Bounds(3600, 3600)), "m")
        assert relay.takes()
        running = asyncio.create_task(relay.run())
        await eventually(lambda: _is(bool(client.written)), seconds=DEADLINE, what="the client hears it")
        assert link._paused
        running.cancel()


async def test_what_an_engine_says_of_its_key_is_read_by_nobody() -> None:
    async def parts() -> AsyncIterator[str]:
        yield "the key is sk-0123"
        yield "456789"

    async def speak(socket: ServerConnection) -> None:
        await socket.send("the key is sk-0123456789")
        await socket.send(parts())
        await socket.close(4010, "sk-0123456789 has no quota")

    async with engine(speak) as url:
        link = await connect(url, HEADERS, TRUST, DEADLINE, Access(key="sk-0123456789"))
        try:
            assert [(await told(link)).data for _ in range(2)] == ["the key is ***"] * 2
            assert (await told(link)).extra == "*** has no quota"
        finally:
            await link.close()
