"""Servers of the tests' own process leave nothing behind."""

import asyncio
import contextlib
import socket

import pytest
from aiohttp import web

from tests.support import servers


@pytest.mark.parametrize("steps", range(4))
async def test_a_connection_that_comes_as_the_server_ends_is_closed(steps: int) -> None:
    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    with socket.create_connection(runner.addresses[0], timeout=60) as client:
        for _ in range(steps):
            await asyncio.sleep(0)
        await servers.end(runner)
        with contextlib.suppress(ConnectionResetError):  # it was not accepted any more
            assert await asyncio.to_thread(client.recv, 1) == b""
