"""How long a batch that is about to begin waits for more: as long as they keep coming, by moments.

Requests that are sent together arrive one after the other. If the first began alone, all others would wait
until it is computed; and where each comes again once it is answered, so it would go on: one, then the others.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

_MOMENT_SECONDS: Final = 0.002
"""Requests that are sent together come closer after each other than that."""
_OF_A_BATCH: Final = 0.05
_IN_ALL: Final = 0.25
"""Parts of the time that a batch takes: what a lone request may lose, and what those may who have company,
of whom the others would wait for a whole batch else."""
GUESS_SECONDS: Final = 0.1
"""What a batch takes before there was one."""
_TURNS: Final = 4
"""Of the event loop: so many after a request has arrived it is read and checked. The loop looks at its clock
before its sockets, so where it was late a moment may be over and the next request there all the same."""


def moment_seconds(batch_seconds: float) -> float:
    """How long the next request is waited for, where a batch took so long lately."""
    return min(_MOMENT_SECONDS, _OF_A_BATCH * batch_seconds)


def patience_seconds(batch_seconds: float) -> float:
    """How long all that come are waited for together."""
    return _IN_ALL * batch_seconds


class Gathering:
    """Of one queue. `came` is called for each request that joins it."""

    def __init__(self) -> None:
        self._came = asyncio.Event()

    def came(self) -> None:
        self._came.set()

    async def complete(self, batch_seconds: float, full: Callable[[], bool]) -> None:
        """Return once nobody else comes, or no more are wanted; a batch took so long lately."""
        loop = asyncio.get_running_loop()
        until = loop.time() + patience_seconds(batch_seconds)
        moment = moment_seconds(batch_seconds)
        while not full() and await self._another(moment):
            if loop.time() > until:
                break

    async def _another(self, seconds: float) -> bool:
        self._came.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._came.wait()
        for _ in range(_TURNS):
            if self._came.is_set():
                return True
            await asyncio.sleep(0)
        return self._came.is_set()
