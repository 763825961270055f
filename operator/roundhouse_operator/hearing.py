"""Whether the gateways' load is known at all: without it no request wakes a variant and none is put to sleep.

A gateway that starts anew is silent for a moment, and so is everybody when the operator begins. What lasts
longer is told of each variant that is scaled by demand. Nothing here waits but the loop that looks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from roundhouse_operator.loads import Loads

logger = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 2.0
UNKNOWN: Final = "The load of the gateways is not known: none sleeps, and what those heard hold wakes"
KNOWN_AGAIN: Final = "The load of the gateways is known again"


class Hearing:
    """`turned` is called where it is another way round than it was told before."""

    def __init__(self, loads: Loads, turned: Callable[[], None]) -> None:
        self._loads = loads
        self._turned = turned
        self._deaf_since: float | None = None
        self.deaf: bool | None = None
        """None: it is too early to say, and what was told before stands."""

    def look(self, now: float) -> None:
        if self._loads.known_since(now) is not None:
            self._deaf_since = None
            self._say(deaf=False)
            return
        if self._deaf_since is None:
            self._deaf_since = now
        if now - self._deaf_since >= PATIENCE_SECONDS:
            self._say(deaf=True)

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self.look(loop.time())
            await asyncio.sleep(LOOK_SECONDS)

    def _say(self, *, deaf: bool) -> None:
        if deaf is self.deaf:
            return
        if deaf:
            logger.warning(UNKNOWN)
        elif self.deaf:
            logger.info(KNOWN_AGAIN)
        self.deaf = deaf
        self._turned()
