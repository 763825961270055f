"""Connections that bring no whole request, or read no answer, are closed; good ones are not."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from typing_extensions import override
from websockets.asyncio.client import connect

from roundhouse_engine import connection as connection_module
from roundhouse_engine import unread
from roundhouse_engine.connection import Connection
from roundhouse_engine.session_socket import SessionSocket
from tests.support.waiting import eventually

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
WAIT_SECONDS = 0.2


async def refuse(scope: object, receive: object, send: object) -> None:
    """An answer before the body is read."""
    assert callable(send)
    await send({"type": "http.response.start", "status": 429, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@contextlib.asynccontextmanager
async def serving(app: Any, http: type[Connection] = Connection) -> AsyncIterator[int]:
    """The port at which it is served."""
    config = uvicorn.Config(app, http=http, ws=SessionSocket, lifespan="off", port=0, log_config=None)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve())
    try:
        async with asyncio.timeout(60):
            while not server.started:  # noqa: ASYNC110 - it has no event for this
                await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait_for(running, 60)


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(connection_module, "_REQUEST_SECONDS", WAIT_SECONDS)
    async with serving(refuse) as port:
        yield port


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    for byte in data:
        writer.write(bytes([byte]))
        await asyncio.sleep(WAIT_SECONDS / 4)


@pytest.mark.parametrize(
    ("sent", "then"), [(b"", b""), (b"", GET * 9), (POST, b"x" * 999)], ids=["silence", "headers", "body"]
)
async def test_what_never_becomes_a_request_is_closed(sent: bytes, then: bytes, port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    dripping = asyncio.create_task(drip(writer, then))
    answer = b""
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionResetError):  # a byte that came too late
            while data := await reader.read(1 << 16):
                answer += data
    assert answer.count(b"HTTP/1.1") == sent.count(b"HTTP/1.1")
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    await closed(writer)


async def test_a_refused_body_that_comes_whole_leaves_the_connection_as_good_as_new(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in (POST + bytes(1000), POST + bytes(1000), GET):
        writer.write(request)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert answer.startswith(b"HTTP/1.1 429")
        with pytest.raises(TimeoutError):  # it stays open
            await asyncio.wait_for(reader.read(1), 2 * WAIT_SECONDS)
    await closed(writer)


async def test_a_session_is_not_waited_for_as_a_request_that_never_comes() -> None:
    """Its connection is the WebSocket's from the handshake on."""
    made: list[Connection] = []

    class Kept(Connection):
        @override
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            made.append(self)
            super().connection_made(transport)

    async def accept(scope: object, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": "heard"})

    async with (
        serving(accept, Kept) as port,
        connect(f"ws://127.0.0.1:{port}", open_timeout=60, proxy=None) as client,
    ):
        await client.send(b"x")
        assert await asyncio.wait_for(client.recv(), 60) == "heard"
        assert [each._due for each in made] == [None]


ANSWER = bytes(16 << 20)
"""More than two kernels hold."""


@contextlib.asynccontextmanager
async def asking(port: int, *headers: bytes) -> AsyncIterator[socket.socket]:
    """A client that has asked, and reads nothing of itself."""
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, GET.removesuffix(b"\r\n") + b"".join(headers) + b"\r\n")
        yield client


UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
)


@pytest.mark.parametrize("headers", [(), UPGRADE], ids=["answer", "session"])
async def test_a_client_that_reads_nothing_is_cut_off(
    headers: Sequence[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for it in `send` would wait for as long as it lives."""
    monkeypatch.setattr(unread, "UNREAD_SECONDS", WAIT_SECONDS)
    over = asyncio.Event()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        session = scope["type"] == "websocket"
        piece: Message = {"type": "http.response.body", "body": ANSWER, "more_body": True}
        if session:
            await receive()
            piece = {"type": "websocket.send", "bytes": ANSWER}
        kind = "websocket.accept" if session else "http.response.start"
        await send({"type": kind, "status": 200, "headers": []})
        with contextlib.suppress(OSError):
            await send(piece)
            await send(piece)
        over.set()
        while not (await receive())["type"].endswith(".disconnect"):
            pass

    async with serving(answer) as port, asking(port, *headers):
        await asyncio.wait_for(over.wait(), 60)


async def test_a_client_that_reads_slowly_gets_all_of_its_answer() -> None:
    """It is looked at as often as it has read a little, which no clock decides here."""
    made: list[Connection] = []

    class Kept(Connection):
        @override
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            made.append(self)
            super().connection_made(transport)

    async def answer(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": ANSWER, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def is_looked_at() -> bool:
        return any(each._looking is not None for each in made)

    async with serving(answer, Kept) as port, asking(port, b"Connection: close\r\n") as client:
        await eventually(is_looked_at, seconds=60, what="the answer is more than the kernel takes")
        [connection] = made
        read = looks = 0
        while await is_looked_at():
            before = connection._left_bytes()
            while await is_looked_at() and connection._left_bytes() >= before:
                read += len(await some(client))
            if await is_looked_at():
                connection._look(before)
                looks += 1
        while data := await some(client):
            read += len(data)
        assert read > len(ANSWER)
        assert looks > 3


async def some(client: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1 << 20), 60)
