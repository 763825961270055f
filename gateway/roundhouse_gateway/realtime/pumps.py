"""What runs beside a session's frames: how long its client may be silent, and it may last."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from roundhouse_api.realtime import Close
from roundhouse_gateway.realtime.closing import Ending


@dataclass(frozen=True, slots=True)
class Bounds:
    """In seconds."""

    idle: float
    session: float


class Idle:
    """Looked at now and then, so that no frame costs a timer."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._loop = asyncio.get_running_loop()
        self._begun = self._last = self._loop.time()
        self._stands = False

    def heard(self) -> None:
        self._last = self._loop.time()

    @contextmanager
    def stands(self) -> Iterator[None]:
        """While it is the client that waits."""
        self._stands = True
        try:
            yield
        finally:
            self._stands = False
            self.heard()

    async def over(self) -> Ending:
        idle, whole = self._bounds.idle, self._bounds.session
        while True:
            now = self._loop.time()
            if self._stands:
                self._last = now
            left, whole_left = self._last + idle - now, self._begun + whole - now
            if left <= 0:
                return Ending(Close.IDLE, f"Nothing was sent for {idle:g} seconds.")
            if whole_left <= 0:
                return Ending(Close.IDLE, f"A session lasts {whole:g} seconds at most; begin another one.")
            await asyncio.sleep(min(left, whole_left))


async def first(*ways: Coroutine[Any, Any, Ending]) -> Ending:
    """How the first of them ends; the others are cancelled. Of several at once the one named first counts."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
