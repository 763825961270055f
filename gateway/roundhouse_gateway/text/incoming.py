"""An engine's answer as a coroutine reads it: piece by piece, at the pace of the client that it is for."""

import asyncio
from collections.abc import Callable
from typing import Final

from typing_extensions import override

from roundhouse_gateway.text.connection import Reply

CLOCK_SECONDS: Final = 0.002
"""By so much may the clock of the event loop be early."""


class BrokenOffError(Exception):
    """The engine left in the middle of its answer, or said nothing for too long."""


class Told(Reply):
    """Tells by a call, of its abandonment by another."""

    def __init__(self, on_news: Callable[[], None], on_end: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._on_news = on_news
        self._on_end = on_end

    @override
    def on_news(self) -> None:
        self._on_news()

    @override
    def abandon(self) -> None:
        self._on_end()
        super().abandon()


class Incoming:
    """One reply. Where nobody takes what has come, the engine's connection is not read on.

    How long nothing has come is looked at now and then, so that no piece costs a timer.
    """

    def __init__(self, idle_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._paused = False
        self._since = 0.0
        self._is_late = False
        self._clock: asyncio.TimerHandle | None = None
        self.reply = Told(self._on_news, self._stop)

    def _on_news(self) -> None:
        if self._news.is_set() and self.reply.connection is not None and not self._paused:
            self._paused = True
            self.reply.connection.pause()
        self._news.set()

    async def _until_news(self) -> None:
        """`TimeoutError` where there is none for too long."""
        self._since = self._loop.time()
        if self._clock is None:
            self._clock = self._loop.call_later(self._idle_seconds, self._look)
        await self._news.wait()
        if self._is_late:
            raise TimeoutError

    def _look(self) -> None:
        self._clock = None
        if self._news.is_set():
            return  # nobody waits; who does next begins it anew
        left = self._since + self._idle_seconds - self._loop.time()
        if left > CLOCK_SECONDS:
            self._clock = self._loop.call_later(left, self._look)
        else:
            self._is_late = True
            self._news.set()

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    async def begun(self) -> bool:
        """Whether a head has come; False where the connection ended before. `TimeoutError`."""
        if not self._news.is_set():
            await self._until_news()
        return self.reply.status != 0

    async def first(self) -> bool:
        """Whether its body has begun, or ended; False where the connection ended before. `TimeoutError`."""
        reply = self.reply
        while not (reply.parts or reply.complete or reply.failure):
            self._news.clear()
            await self._until_news()
        return bool(reply.parts) or reply.complete

    @property
    def whole(self) -> bool:
        """All of it is here already."""
        return self.reply.complete

    @property
    def is_good_and_whole(self) -> bool:
        return self.reply.complete and self.reply.head.is_good

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
                await self._until_news()
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
