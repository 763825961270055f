"""When the gateway is to leave, and by when sessions must be over. Draining is for ever."""

import asyncio
from typing import Final

MARGIN_SECONDS: Final = 0.5
"""Sessions end so long before the server cuts off what is left, so that their last words get through."""
REASON: Final = "The gateway is shutting down; begin another session."


class Leaving:
    """`deadline` is of the loop's clock, and known once it was told."""

    def __init__(self, drain_seconds: float) -> None:
        self._drain_seconds = drain_seconds
        self._told = asyncio.Event()
        self.deadline = 0.0

    def begin(self) -> None:
        if not self._told.is_set():
            seconds = max(self._drain_seconds - MARGIN_SECONDS, 0.0)
            self.deadline = asyncio.get_running_loop().time() + seconds
            self._told.set()

    async def told(self) -> None:
        await self._told.wait()

    @property
    def begun(self) -> bool:
        return self._told.is_set()

    @property
    def seconds_left(self) -> float:
        return max(self.deadline - asyncio.get_running_loop().time(), 0.0)
