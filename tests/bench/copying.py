"""`python -m tests.bench.copying PORT BACKEND_PORT`: the least that a proxy on asyncio can cost.

Each connection of a client has one to the backend; bytes are handed on as they come, and nothing of them is
looked at. What the gateway takes beyond this is its own doing, what this takes is Python's and uvloop's.
"""

import asyncio
import sys
from typing import cast

import uvloop
from typing_extensions import override


class _End(asyncio.Protocol):
    """One end of a pair: what comes in here goes out at the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.other: _End | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()


class _Client(_End):
    """What comes before the backend is reached is kept until then."""

    def __init__(self, backend_port: int) -> None:
        super().__init__()
        self._backend_port = backend_port
        self._early = b""
        self._joining: asyncio.Task[None] | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._joining = asyncio.get_running_loop().create_task(self._join())

    @override
    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early += data
        else:
            self.other.transport.write(data)

    async def _join(self) -> None:
        loop = asyncio.get_running_loop()
        _, other = await loop.create_connection(_End, "127.0.0.1", self._backend_port)
        self.other, other.other = other, self
        other.transport.write(self._early)


async def _serve(port: int, backend_port: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Client(backend_port), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
