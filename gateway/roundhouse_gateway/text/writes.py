"""What is written in one turn of the event loop: together, once all is read that there was to read.

A write goes through all of the kernel's network, up to whoever reads, and drives what Python needs next out
of the processor's caches. One write after another finds there what it needs itself.
"""

import asyncio
from collections.abc import Callable


def _soon(flush: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(flush)


class Writes:
    """Of one event loop; `soon` has it call something before it reads any more."""

    def __init__(self, soon: Callable[[Callable[[], None]], object] = _soon) -> None:
        self._soon = soon
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []

    def add(self, transport: asyncio.Transport, data: bytes) -> None:
        """For a whole message. Whoever has more for its transport, or closes it in order, flushes first."""
        waiting = self._waiting
        if not waiting:
            self._soon(self.flush)
        waiting.append((transport, data))

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for transport, data in waiting:
            if not transport.is_closing():  # its other side has left meanwhile
                transport.write(data)
