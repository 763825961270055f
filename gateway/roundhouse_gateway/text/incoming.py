"""An engine's answer as a coroutine reads it: piece by piece, at the pace of the client that it is for."""

import asyncio
from collections.abc import Callable

from typing_extensions import override

from roundhouse_gateway.text.connection import Reply


class BrokenOffError(Exception):
    """The engine left in the middle of its answer, or said nothing for too long."""


class Told(Reply):
    """Tells by a call."""

    def __init__(self, on_news: Callable[[], None]) -> None:
        super().__init__()
        self._on_news = on_news

    @override
    def on_news(self) -> None:
        self._on_news()


class Incoming:
    """One reply. Where nobody takes what has come, the engine's connection is not read on."""

    def __init__(self, idle_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        self._news = asyncio.Event()
        self._paused = False
        self.reply = Told(self._on_news)

    def _on_news(self) -> None:
        if self._news.is_set() and self.reply.connection is not None and not self._paused:
            self._paused = True
            self.reply.connection.pause()
        self._news.set()

    async def begun(self) -> bool:
        """Whether a head has come; False where the connection ended before. `TimeoutError`."""
        if not self._news.is_set():
            async with asyncio.timeout(self._idle_seconds):
                await self._news.wait()
        return self.reply.status != 0

    async def first(self) -> bool:
        """Whether its body has begun, or ended; False where the connection ended before. `TimeoutError`."""
        reply = self.reply
        while not (reply.parts or reply.complete or reply.failure):
            self._news.clear()
            async with asyncio.timeout(self._idle_seconds):
                await self._news.wait()
        return bool(reply.parts) or reply.complete

    @property
    def whole(self) -> bool:
        """All of it is here already."""
        return self.reply.complete

    async def piece(self) -> bytes:
        """What has come next; empty at the end. `BrokenOffError`."""
        reply = self.reply
        while True:
            if data := reply.take():
                return data
            if reply.complete:
                return b""
            if reply.failure:
                raise BrokenOffError(reply.failure)
            self._news.clear()
            if self._paused and reply.connection is not None:
                self._paused = False
                reply.connection.resume()
            try:
                async with asyncio.timeout(self._idle_seconds):
                    await self._news.wait()
            except TimeoutError as error:
                reply.abandon()
                raise BrokenOffError("timeout") from error

    async def everything(self, limit_bytes: int) -> bytes:
        """The whole body. `BrokenOffError` also where it is longer than it may be."""
        parts: list[bytes] = []
        size = 0
        while data := await self.piece():
            size += len(data)
            if size > limit_bytes:
                raise BrokenOffError(f"longer than {limit_bytes} bytes")
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)
