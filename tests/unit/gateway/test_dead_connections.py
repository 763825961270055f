"""Who vanishes without a word is found out by the kernel, on each kind of connection."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest
from aiohttp import web

from roundhouse_gateway.dead_connections import ENGINE_SECONDS, PROBES
from roundhouse_gateway.endpoints import Endpoints
from roundhouse_gateway.listener import bind
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.text.pool import Pool, address_of
from roundhouse_gateway.upstream import EngineClient


def options(connection: socket.socket) -> tuple[int, int, int, int]:
    """Whether it is probed, after how many seconds, how often; for how many ms a write may stay untaken."""
    return (
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    )


@pytest.fixture
async def engine() -> AsyncIterator[str]:
    over = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await over.wait()
        return response

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port, *_ = runner.addresses[0]
    yield f"http://{host}:{port}/"
    over.set()
    await runner.cleanup()


def test_a_client_s_connection() -> None:
    settings = Settings(host="127.0.0.1", client_idle_seconds=30)
    with bind(settings, 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert options(accepted) == (1, 15, 15, 30_000)


async def test_a_connection_for_json(engine: str) -> None:
    pool = Pool(connect_seconds=10)
    connection = await pool.connect(address_of(engine))
    assert connection.socket is not None
    half = ENGINE_SECONDS // 2
    assert options(connection.socket) == (1, half, half, ENGINE_SECONDS * 1000)
    connection.abort()
    pool.close()


async def test_a_connection_for_uploads_waits_for_an_engine_that_takes_nothing_yet(engine: str) -> None:
    client = EngineClient(Settings(), Metrics(lambda: 0.0, lambda: 0), cast("Endpoints", None))
    async with client._session.get(engine) as answer:
        assert answer.connection is not None
        assert answer.connection.transport is not None
        taken = answer.connection.transport.get_extra_info("socket")
        half = ENGINE_SECONDS // 2
        assert options(taken) == (1, half, half, 0)
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == PROBES
    await client.close()
