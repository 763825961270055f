"""Who vanishes without a word is found out on each kind of connection; who lives is waited for."""

import asyncio
import ctypes
import socket
import struct
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, cast

import aiohttp
import pytest
import uvloop

from roundhouse_gateway.dead_connections import ENGINE_SECONDS, PROBES, Watch
from roundhouse_gateway.endpoints import Endpoints
from roundhouse_gateway.listener import bind
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.text.incoming import Told
from roundhouse_gateway.text.pool import Pool, address_of
from roundhouse_gateway.upstream import EngineClient
from tests.support.waiting import deadline_seconds, eventually

SECONDS = 2.0
"""Of two probes within half a second the kernel answers one, and the next is twice as late: 1.5 at most."""
LONG = b"POST / HTTP/1.1\r\ncontent-length: 40000000\r\n\r\n" + bytes(40_000_000)
"""More than all buffers between two processes hold."""
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK"
SO_ATTACH_FILTER = 26


class Engine:
    """One connection of an engine that reads only when it is told to."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.setblocking(False)
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/"
        self.accepted: socket.socket

    async def accept(self) -> None:
        self.accepted, _ = await asyncio.get_running_loop().sock_accept(self.listening)

    def vanish(self) -> None:
        """No packet reaches the connection any more, and none is acknowledged."""
        nothing = ctypes.create_string_buffer(
            struct.pack("@HBBI", 0x06, 0, 0, 0)
        )  # BPF: return 0 bytes of each
        program = struct.pack("@HP", 1, ctypes.addressof(nothing))
        self.accepted.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    async def answer(self) -> None:
        loop, left = asyncio.get_running_loop(), len(LONG)
        while left:
            taken = await loop.sock_recv(self.accepted, 1 << 20)
            assert taken, "the connection has ended"
            left -= len(taken)
        await loop.sock_sendall(self.accepted, OK)


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    with made.listening:
        yield made
    made.accepted.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    """On the gateway's own event loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def options(connection: socket.socket) -> tuple[int, ...]:
    """Whether it is probed, after how many seconds, how often; for how many ms a write may stay untaken."""
    return (
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    )


def refused_probes(connection: socket.socket) -> int:
    """How often in a row it was said that nothing is taken: each time it is asked half as soon."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[4]


def test_a_client_s_connection() -> None:
    settings = Settings(host="127.0.0.1", client_idle_seconds=30)
    with bind(settings, 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert options(accepted) == (1, 15, 15, 30_000)


class Asked:
    """A long request for JSON on a connection of the pool's."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.watch = Watch(SECONDS)
        self.pool = Pool(10, self.watch)
        self.over = asyncio.Event()
        self.reply = Told(self._on_news)

    def _on_news(self) -> None:
        if self.reply.complete or self.reply.failure:
            self.over.set()

    async def begin(self) -> socket.socket:
        connection = await self.pool.connect(address_of(self.engine.url))
        await self.engine.accept()
        connection.ask(LONG, self.reply)
        assert connection.socket is not None
        return connection.socket

    async def end(self) -> None:
        async with asyncio.timeout(deadline_seconds(30)):
            await self.over.wait()
        self.pool.close()


def test_a_host_that_vanishes_under_a_request_is_found_out(engine: Engine) -> None:
    async def main() -> None:
        asked = Asked(engine)
        await asked.begin()
        engine.vanish()
        await asked.end()
        assert asked.reply.failure == "broken"

    run(main())


def test_a_host_that_vanishes_while_nothing_is_taken_is_found_out(engine: Engine) -> None:
    async def main() -> None:
        asked = Asked(engine)
        connection = await asked.begin()

        async def refuses() -> bool:
            return refused_probes(connection) > 0

        await eventually(refuses, seconds=30, what="its window is closed", every=0.01)
        engine.vanish()
        await asked.end()
        assert asked.reply.failure == "broken"

    run(main())


def test_an_engine_that_lives_and_takes_nothing_is_waited_for(engine: Engine) -> None:
    async def main() -> None:
        asked = Asked(engine)
        connection = await asked.begin()
        assert options(connection)[3] == 0

        async def waits() -> bool:
            return refused_probes(connection) >= 5  # the last two are further apart than a host may be silent

        await eventually(waits, seconds=30, what="it is asked now and then whether it takes any more")
        assert not asked.over.is_set()
        await engine.answer()
        await asked.end()
        assert (asked.reply.failure, asked.reply.take()) == ("", b"OK")

    run(main())


async def upload() -> AsyncIterator[bytes]:
    while True:
        yield bytes(1 << 16)


def test_a_host_that_vanishes_under_an_upload_is_found_out(engine: Engine) -> None:
    async def main() -> None:
        metrics = Metrics(lambda: 0.0, lambda: 0)
        client = EngineClient(Settings(), metrics, cast("Endpoints", None), Watch(SECONDS))
        uploading = asyncio.ensure_future(client._session.post(engine.url, data=upload()))
        await engine.accept()
        engine.vanish()
        with pytest.raises(aiohttp.ClientError):
            await asyncio.wait_for(uploading, deadline_seconds(30))
        await client.close()

    run(main())


class Failing:
    """A connection that cannot be looked at once it is watched."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection: socket.socket | None = connection

    @property
    def socket(self) -> socket.socket:
        if self.connection is None:
            raise ValueError("a fault of the gateway's own")
        return self.connection

    def lose(self) -> None:
        raise AssertionError("it is not silent")


def test_a_fault_at_one_connection_leaves_the_others_watched(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        asked = Asked(engine)
        with socket.socket() as unused:
            faulty = Failing(unused)
            asked.watch.add(faulty)
            faulty.connection = None
            await asked.begin()
            engine.vanish()
            await asked.end()
        assert asked.reply.failure == "broken"

    run(main())
    assert "could not be ended, and is watched no longer" in caplog.text


def test_a_connection_on_which_nothing_is_under_way_is_probed() -> None:
    async def main() -> None:
        with Watch().make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))) as made:
            half = ENGINE_SECONDS // 2
            assert options(made) == (1, half, half, 0)
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == PROBES

    run(main())
