"""Frames that pass through the gateway as they are, and those that do not: whole protocol, real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from roundhouse_api.realtime import MESSAGE_BYTES, PATH, Close
from tests.conformance.engine.streaming import DEADLINE
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant, slice_of
from tests.support.waiting import eventually

ECHO = Variant("echo", streaming="Chunked", interfaces=("Batch", "Realtime"))
BEGIN = {"type": "session.begin", "model": "the engine's name", "lagMs": 0}
HEAD = (
    f"GET {PATH}?model={ECHO.id} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


async def echo(socket: ServerConnection) -> None:
    """Says what kind each message is of, and how long."""
    async for message in socket:
        await socket.send(f"{type(message).__name__} {len(message)}")


@asynccontextmanager
async def served(
    world: World, say: Callable[[ServerConnection], Awaitable[None]] = echo, **options: Any
) -> AsyncIterator[None]:
    async def session(socket: ServerConnection) -> None:
        await socket.send(json.dumps(BEGIN))
        await say(socket)

    async with serve(session, "127.0.0.1", 0, compression=None, max_size=None, **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        await asyncio.to_thread(_publish, world, port)
        yield


def _publish(world: World, port: int) -> None:
    world.api.put("endpointslices", slice_of(ECHO.name, port))
    world.publish(ECHO)
    world.wait_for(ECHO.id, "running")


@asynccontextmanager
async def session(world: World) -> AsyncIterator[ClientConnection]:
    url = f"ws://127.0.0.1:{world.gateway.port}{PATH}?model={ECHO.id}"
    async with connect(url, proxy=None, max_size=None, ping_timeout=None) as socket:
        assert json.loads(await heard(socket)) == {**BEGIN, "model": ECHO.id}
        yield socket


async def heard(socket: ClientConnection) -> str:
    return str(await asyncio.wait_for(socket.recv(), DEADLINE))


async def test_messages_of_every_form_arrive_in_their_order(world: World) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"1"
        await (await socket.ping())
        yield b"23"

    async def words() -> AsyncIterator[str]:
        yield "flu"
        yield "sh"

    async with served(world), session(world) as socket:
        for size in (0, 1, 125, 126, 3200, 65_535, 65_536, MESSAGE_BYTES):
            await socket.send(bytes(size))
        await socket.send("flush ü")
        await socket.send(parts())
        await socket.send(b"1234")
        await socket.send(words())
        found = [await heard(socket) for _ in range(12)]
        await (await socket.ping())
    sizes = [f"bytes {size}" for size in (0, 1, 125, 126, 3200, 65_535, 65_536, MESSAGE_BYTES)]
    assert found == [*sizes, "str 7", "bytes 3", "bytes 4", "str 5"]


@pytest.mark.parametrize("piece", ["x", b"x"], ids=["text", "audio"])
async def test_a_message_in_pieces_is_no_longer_than_one_that_is_whole(
    world: World, piece: str | bytes
) -> None:
    async with served(world), session(world) as socket:
        await socket.send([piece * MESSAGE_BYTES, piece])
        with pytest.raises(ConnectionClosed) as closed:
            await heard(socket)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == Close.TOO_LARGE


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x81\x81\0\0\0\0\xff", 1007),
        (b"\x82\x01a", 1002),
        (b"\xc2\x81\0\0\0\0a", 1002),
        (b"\x80\x81\0\0\0\0a", 1002),
        (b"\x02\x81\0\0\0\0a\x82\x81\0\0\0\0b", 1002),
        (b"\x82\xff" + (1 << 40).to_bytes(8), Close.TOO_LARGE),
        (b"\x88\x82\0\0\0\0\x03\xe8", 1000),
    ],
    ids=["no UTF-8", "no mask", "an extension", "no beginning", "two at once", "too long", "a close"],
)
async def test_what_is_against_the_protocol_ends_the_session(world: World, sent: bytes, code: int) -> None:
    async with served(world):
        reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port)
        try:
            writer.write(HEAD)
            await asyncio.wait_for(reader.readuntil(b"}"), DEADLINE)
            for at in range(len(sent)):
                writer.write(sent[at : at + 1])
                await writer.drain()
            rest = await asyncio.wait_for(reader.read(), DEADLINE)
        finally:
            writer.close()
    at = rest.rindex(b"\x88")
    assert int.from_bytes(rest[at + 2 : at + 4]) == code


async def test_one_who_speaks_before_being_let_in_is_heard(world: World) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def think(_: ServerConnection, __: Request) -> None:
        asked.set()
        await may_answer.wait()

    async with served(world, process_request=think):
        reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port)
        try:
            writer.write(HEAD)
            await asyncio.wait_for(asked.wait(), DEADLINE)
            writer.write(b"\x82\x83\0\0\0\0abc")
            await asyncio.sleep(0.2)  # by which it has come; where it has not, it is heard as all others
            may_answer.set()
            said = await asyncio.wait_for(reader.readuntil(b"bytes 3"), DEADLINE)
        finally:
            writer.close()
    assert said.endswith(b"\x81\x07bytes 3")


async def test_an_engine_that_takes_nothing_has_the_client_wait_and_go_on(world: World) -> None:
    goes_on = asyncio.Event()
    taken = 0

    async def wait(socket: ServerConnection) -> None:
        nonlocal taken
        await goes_on.wait()
        async for message in socket:
            taken += len(message)

    piece, pieces, sent = bytes(256 << 10), 200, 0

    async def speak(socket: ClientConnection) -> None:
        nonlocal sent
        for _ in range(pieces):
            await socket.send(piece)
            sent += 1

    async def all_is_taken() -> bool:
        return taken == pieces * len(piece)

    async with served(world, wait), session(world) as socket:
        speaking = asyncio.create_task(speak(socket))
        held = -1
        while held != sent or not sent:
            held = sent
            await asyncio.sleep(0.5)
        assert sent < pieces
        goes_on.set()
        await eventually(all_is_taken, seconds=DEADLINE, what="all of it is taken")
        await speaking


async def test_a_client_that_takes_nothing_has_the_engine_wait_and_go_on(world: World) -> None:
    told, events = 0, 2000

    async def speak(socket: ServerConnection) -> None:
        nonlocal told
        for _ in range(events):
            await socket.send("x" * 32_768)
            told += 1
        await socket.close(4010, "fell behind")

    async with served(world, speak), session(world) as socket:
        held = -1
        while held != told or not told:
            held = told
            await asyncio.sleep(0.5)
        assert told < events
        for _ in range(events):
            assert len(await heard(socket)) == 32_768
        with pytest.raises(ConnectionClosed):
            await heard(socket)
        assert (socket.close_code, socket.close_reason) == (Close.LAG, "fell behind")


async def test_an_engine_that_does_not_speak_json_is_said_to_have_failed(world: World) -> None:
    async def say(socket: ServerConnection) -> None:
        await socket.send("hello")
        await socket.wait_closed()

    async with serve(say, "127.0.0.1", 0, compression=None) as server:
        await asyncio.to_thread(_publish, world, next(iter(server.sockets)).getsockname()[1])
        url = f"ws://127.0.0.1:{world.gateway.port}{PATH}?model={ECHO.id}"
        async with connect(url, proxy=None) as socket:
            assert json.loads(await heard(socket))["error"]["type"] == "upstream_error"
            with pytest.raises(ConnectionClosed):
                await heard(socket)
            assert socket.close_code == Close.FAILED
