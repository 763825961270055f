"""Whose handshake with an engine is next: so many at once with each endpoint, none behind a silent one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

HANDSHAKE_SECONDS: Final = 10.0
HANDSHAKES_AT_ONCE: Final = 32
"""A thousand clients that come back at once would else all wait for each other until all are late."""


class Turns:
    """Of all endpoints, each for itself: one that says nothing holds up nobody who goes to another."""

    def __init__(self, seconds: float = HANDSHAKE_SECONDS, at_once: int = HANDSHAKES_AT_ONCE) -> None:
        self._seconds = seconds
        self._at_once = at_once
        self._lines: WeakValueDictionary[str, _Line] = WeakValueDictionary()

    @asynccontextmanager
    async def take(self, base_url: str) -> AsyncIterator[None]:
        """The time for one handshake; `TimeoutError` where it passes, or has for somebody ahead."""
        line = self._lines.get(base_url)
        if line is None:
            line = self._lines[base_url] = _Line(self._at_once)
        async with line.turn():
            try:
                async with asyncio.timeout(self._seconds):
                    yield
            except TimeoutError:
                line.send_away()
                raise


class _Line:
    """Before one endpoint."""

    def __init__(self, at_once: int) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._waiting: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        async with asyncio.timeout(None) as patience:
            self._waiting.add(patience)
            try:
                await self._places.acquire()
            finally:
                self._waiting.discard(patience)
        try:
            yield
        finally:
            self._places.release()

    def send_away(self) -> None:
        """Those who wait: a line that is slow moves, and one where nobody is answered does not."""
        now = asyncio.get_running_loop().time()
        for patience in self._waiting:
            patience.reschedule(now)
        self._waiting.clear()
