"""Servers that the gateway is held against, each in a process of its own that prints its port.

`python -m tests.bench.backends file PATH`: the file's bytes to every request, by the least that Python can.
`python -m tests.bench.backends engine`: the tests' scripted engine, which reads an upload and says as its
text when the first byte of the body came, by the machine's monotonic clock.
`python -m tests.bench.backends live`: streams of events and sessions of audio, by `live_engine`.
"""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import uvloop
from aiohttp import web
from typing_extensions import override

from tests.bench import live_engine
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.scripted_engine import Received, ScriptedEngine


@contextmanager
def backend(*arguments: str) -> Iterator[tuple[int, int]]:
    """Its process id and its port."""
    command = [sys.executable, "-m", "tests.bench.backends", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


class _Fixed(asyncio.Protocol):
    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    @override
    def data_received(self, data: bytes) -> None:
        # Requests of the load generator come whole and one at a time.
        assert self._transport
        self._transport.write(self._answer)


async def _serve(body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    answer = head.encode() + body
    server = await asyncio.get_running_loop().create_server(lambda: _Fixed(answer), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _swallow(request: web.Request, received: Received) -> web.StreamResponse:
    first = 0.0
    async for _ in request.content.iter_any():
        first = first or time.monotonic()
    return web.json_response({"text": repr(first)})


def _serve_engine() -> None:
    engine = ScriptedEngine(LoopThread())
    engine.read, engine.answer = False, _swallow
    print(engine.port, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["file", path]:
            uvloop.run(_serve(Path(path).read_bytes()))
        case ["engine"]:
            _serve_engine()
        case ["live"]:
            uvloop.run(live_engine.serve())
        case other:
            sys.exit(f"error: {other!r}: say `file PATH`, `engine` or `live`")
