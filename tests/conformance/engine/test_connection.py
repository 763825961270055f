"""Connections that bring no request, or never the rest of one, are closed; good ones are not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import Receive, Send
from typing_extensions import override
from websockets.asyncio.client import connect

from roundhouse_engine import connection as connection_module
from roundhouse_engine.connection import Connection
from roundhouse_engine.session_socket import SessionSocket

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
WAIT_SECONDS = 0.2


async def refuse(scope: object, receive: object, send: object) -> None:
    """An answer before the body is read."""
    assert callable(send)
    await send({"type": "http.response.start", "status": 429, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(connection_module, "_REQUEST_SECONDS", WAIT_SECONDS)
    config = uvicorn.Config(refuse, http=Connection, ws="none", lifespan="off", port=0, log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    async with asyncio.timeout(60):
        while not server.started:  # noqa: ASYNC110 - it has no event for this
            await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


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

    config = uvicorn.Config(accept, http=Kept, ws=SessionSocket, lifespan="off", port=0, log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    async with asyncio.timeout(60):
        while not server.started:  # noqa: ASYNC110 - it has no event for this
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with connect(f"ws://127.0.0.1:{port}", open_timeout=60, proxy=None) as socket:
        await socket.send(b"x")
        assert await asyncio.wait_for(socket.recv(), 60) == "heard"
        assert [each._due for each in made] == [None]
    server.should_exit = True
    await serving
