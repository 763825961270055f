"""Clients' WebSockets as uvicorn has them here, on a real connection: which of them are taken for gone."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.server import ServerState
from websockets.asyncio.client import connect

from roundhouse_gateway.realtime.client_socket import ClientSocket, socket_of, websockets
from roundhouse_gateway.realtime.wire import BINARY, TEXT, masked, unmasked
from roundhouse_gateway.series import Value
from tests.conformance.engine.streaming import DEADLINE
from tests.support.waiting import eventually

PING_SECONDS = 0.2
LONG_SECONDS = 10 * PING_SECONDS
PIECE = bytes(1 << 20)
SMALL = bytes(32 << 10)
TAKEN = 1000
PING, PONG, CLOSE = 0x89, 0x8A, 0x88
HEAD = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Slow:
    """Takes a piece of audio in a while, and the last one in a long while."""

    def __init__(self, pieces: int, while_seconds: float, then_seconds: float = 0) -> None:
        self._pieces = pieces
        self._while_seconds = while_seconds
        self._then_seconds = then_seconds
        self.got: list[Message] = []
        self.over = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(self._pieces):
            self.got.append(await receive())
            await asyncio.sleep(self._while_seconds)
        self.over.set()
        await asyncio.sleep(self._then_seconds)


@asynccontextmanager
async def listening(app: ASGIApp, ping_seconds: float = PING_SECONDS) -> AsyncIterator[int]:
    """The port of such a server."""
    pings = {"ws_ping_interval": ping_seconds, "ws_ping_timeout": ping_seconds}
    config = uvicorn.Config(app, lifespan="off", log_config=None, **{**websockets(Value()), **pings})
    config.load()
    protocol = config.ws_protocol_class
    assert protocol is not None
    state = ServerState()
    make: Callable[[], asyncio.Protocol] = lambda: protocol(config, state, {})  # type: ignore[call-arg]  # noqa: E731
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for each in list(state.connections):
            each.transport.abort()
        await eventually(lambda: _are_gone(state), seconds=DEADLINE, what="all connections are closed")


async def _are_gone(state: ServerState) -> bool:
    return not state.connections


@pytest.mark.parametrize(
    ("pieces", "while_seconds"),
    [(3, LONG_SECONDS), (20, PING_SECONDS * 0.7)],
    ids=["long waits", "many waits"],
)
async def test_a_client_whose_pong_stands_behind_its_audio_is_there(
    pieces: int, while_seconds: float
) -> None:
    app = Slow(pieces, while_seconds)
    async with (
        listening(app) as port,
        connect(f"ws://127.0.0.1:{port}", ping_interval=None, compression=None, proxy=None) as socket,
    ):
        for _ in range(pieces):
            await socket.send(PIECE)
        await asyncio.wait_for(app.over.wait(), DEADLINE)
    assert [each["type"] for each in app.got] == ["websocket.receive"] * pieces


async def test_a_client_that_says_nothing_at_all_is_gone() -> None:
    app = Slow(1, 0)
    async with listening(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD)
        await asyncio.wait_for(app.over.wait(), DEADLINE)
        assert app.got[0]["type"] == "websocket.disconnect"
        writer.close()


async def test_little_of_what_a_client_sends_stands_before_its_pings() -> None:
    """Once much was taken of it quickly, which has the kernel keep ever more, nothing is."""
    app = Slow(TAKEN, 0, then_seconds=DEADLINE)
    sent = 0
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
        async with listening(app) as port:
            own.connect(("127.0.0.1", port))
            async with connect(
                f"ws://127.0.0.1:{port}", sock=own, ping_interval=None, compression=None, close_timeout=0
            ) as client:
                held = False
                while not (held and app.over.is_set()):
                    sent += 1
                    held = False
                    try:
                        async with asyncio.timeout(1):
                            await client.send(SMALL)
                    except TimeoutError:
                        held = True
                client.transport.abort()
    assert len(app.got) == TAKEN
    assert (sent - TAKEN) * len(SMALL) < 3 << 19


class Listening:
    """Hears until the client is gone."""

    def __init__(self) -> None:
        self.socket: asyncio.Future[ClientSocket] = asyncio.get_running_loop().create_future()
        self.got: asyncio.Queue[Message] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        found = socket_of(scope)
        assert found is not None
        self.socket.set_result(found)
        while True:
            message = await receive()
            self.got.put_nowait(message)
            if message["type"] == "websocket.disconnect":
                return


@asynccontextmanager
async def spoken_to(
    app: Listening,
) -> AsyncIterator[tuple[ClientSocket, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A session as the server has it, and the client's side, which speaks in bytes."""
    async with listening(app, ping_seconds=3600) as port, asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD)
        await reader.readuntil(b"\r\n\r\n")
        yield await app.socket, reader, writer
        writer.close()


async def test_a_client_that_takes_nothing_has_its_last_ping_answered_later() -> None:
    """Pings are sent by nobody so that answers pile up here."""
    app = Listening()
    async with spoken_to(app) as (session, reader, writer):
        session.pause_writing()  # as the transport does, once it has more than it likes
        for number in range(500):
            writer.write(masked(PING, b"%d" % number))
        writer.write(masked(BINARY, b"heard"))
        assert (await app.got.get())["bytes"] == b"heard"
        session.resume_writing()
        writer.write(masked(PING, b"again"))
        expected = unmasked(PONG, b"499") + unmasked(PONG, b"again")
        assert await reader.readexactly(len(expected)) == expected


async def test_a_fault_with_a_close_behind_it_is_no_error_here() -> None:
    app, faults = Listening(), list[dict[str, object]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with spoken_to(app) as (_, reader, writer):
        writer.write(masked(TEXT, b"\xff") + masked(CLOSE, b"\x03\xe8"))
        assert await reader.read() == unmasked(CLOSE, b"\x03\xe8")
        assert await app.got.get() == {"type": "websocket.disconnect", "code": 1000, "reason": ""}
    assert faults == []
