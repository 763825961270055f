"""A load generator that costs little: one path, many connections, each asking again once it is answered."""

import asyncio
import re
import socket
import time
from typing import Final, cast

import uvloop
from typing_extensions import override

_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


class _Connection(asyncio.Protocol):
    """Counts answers. It looks at heads and lets bodies pass, so that the server is what is measured."""

    def __init__(self, request: bytes) -> None:
        self.answers = 0
        self.lost = False
        self._request = request
        self._head = b""
        self._body_left = 0
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._transport.write(self._request)

    @override
    def data_received(self, data: bytes) -> None:
        if not self._body_left:
            head, end, body = (self._head + data).partition(_END)
            if not end:
                self._head += data
                return
            found = _LENGTH.search(head)
            assert head.startswith(b"HTTP/1.1 200 ") and found, head  # noqa: PT018 - one fact: an answer
            self._head, self._body_left, data = b"", int(found[1]), body
        self._body_left -= len(data)
        if not self._body_left:
            self.answers += 1
            assert self._transport
            self._transport.write(self._request)

    @override
    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True


def requests_per_second(port: int, path: str, *, connections: int, seconds: float) -> float:
    """Of a server on loopback, one request in flight on each connection."""
    return uvloop.run(_load(port, path, connections, seconds))


async def _load(port: int, path: str, connections: int, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    made = [
        await loop.create_connection(lambda: _Connection(request), "127.0.0.1", port, family=socket.AF_INET)
        for _ in range(connections)
    ]
    began = time.monotonic()
    await asyncio.sleep(seconds)
    answers = sum(connection.answers for _, connection in made)
    taken = time.monotonic() - began
    assert not any(connection.lost for _, connection in made), f"port {port} closed connections under load"
    for transport, _ in made:
        transport.abort()
    return answers / taken
