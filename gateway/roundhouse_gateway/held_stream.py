"""An answer that was begun before it was known: a client that asked for a stream is told that it still waits.

Proxies and clients give up on a connection that says nothing. Where a request that asked for server-sent
events waits for its model, its answer is begun with comments, which clients pass over. What comes of the
request then can no longer have a status of its own: an error becomes an event of type `error`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from starlette.types import Message, Send

from roundhouse_gateway.admitted import Admitted
from roundhouse_gateway.errors import Headers

COMMENT: Final = b": waiting for the model\n\n"
HEADERS: Final[Headers] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_EVENT_STREAM: Final = b"text/event-stream"

T = TypeVar("T")


class HeldStream:
    """One answer. `send` is to be used in the place of the server's own, from the beginning."""

    def __init__(self, send: Send, every_seconds: float) -> None:
        self._send = send
        self._every_seconds = every_seconds
        self._begun = False
        self._passes = True
        self._error = False
        self._body = b""
        self._length = 0

    async def kept(self, coming: Awaitable[T], may_begin: Callable[[], bool]) -> T:
        """What comes, with a comment now and then until it has. Nothing is sent while it may not be."""
        waiting = asyncio.ensure_future(coming)
        try:
            while not waiting.done():
                await asyncio.wait((waiting,), timeout=self._every_seconds)
                if not waiting.done() and may_begin():
                    await self._comment()
        except BaseException:
            waiting.cancel()
            await asyncio.wait((waiting,))
            if not waiting.cancelled() and waiting.exception() is None:
                _give_back(waiting.result())
            raise
        return waiting.result()

    async def send(self, message: Message) -> None:
        if not self._begun:
            await self._send(message)
        elif message["type"] == "http.response.start":
            self._read_head(message)
        elif self._passes:
            await self._send(message)
        else:
            await self._put_into_an_event(message)

    async def _comment(self) -> None:
        if not self._begun:
            self._begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
        await self._send({"type": "http.response.body", "body": COMMENT, "more_body": True})

    def _read_head(self, message: Message) -> None:
        headers = dict(message.get("headers", ()))
        self._error = message["status"] >= 400
        self._passes = not self._error and headers.get(b"content-type", b"").startswith(_EVENT_STREAM)
        self._length = int(headers.get(b"content-length", -1))

    async def _put_into_an_event(self, message: Message) -> None:
        """An answer that is no stream: whole, as one event, as soon as it is whole."""
        self._body += message.get("body", b"")
        more = message.get("more_body", False)
        event = b""
        if self._body and (not more or len(self._body) == self._length):
            name = b"event: error\n" if self._error else b""
            lines = b"".join(b"data: %b\n" % line for line in self._body.splitlines())
            event, self._body = name + lines + b"\n", b""
        await self._send({"type": "http.response.body", "body": event, "more_body": more})


def _give_back(came: object) -> None:
    """What came too late holds a place that nobody takes."""
    if isinstance(came, Admitted):
        came.leave()
