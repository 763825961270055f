"""What is written in one turn of the event loop: together, once all is read that there was to read.

A write goes through all of the kernel's network, up to whoever reads, and drives what Python needs next out
of the processor's caches. One write after another finds there what it needs itself. One alone gains nothing
by waiting, and what its request leaves to be done would be done before it: such are written at once, and
now and then one waits to see whether it still is alone.
"""

import asyncio
from collections.abc import Callable
from typing import Final

ALONE: Final = 16
"""So many are written at once after one that had waited for the end of its turn alone."""


def _soon(flush: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(flush)


class Writes:
    """Of one event loop; `soon` has it call something before it reads any more."""

    def __init__(self, soon: Callable[[Callable[[], None]], object] = _soon) -> None:
        self._soon = soon
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []
        self._at_once = 0

    def add(self, transport: asyncio.Transport, data: bytes) -> None:
        """For a whole message. Whoever has more for its transport, or closes it in order, flushes first."""
        waiting = self._waiting
        if not waiting:
            if self._at_once:
                self._at_once -= 1
                _write(transport, data)
                return
            self._soon(self.flush)
        waiting.append((transport, data))

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if len(waiting) == 1:
            self._at_once = ALONE
        for transport, data in waiting:
            _write(transport, data)


def _write(transport: asyncio.Transport, data: bytes) -> None:
    if not transport.is_closing():  # its other side has left meanwhile
        transport.write(data)
