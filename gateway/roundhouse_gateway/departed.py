"""Models that are gone: when their series are let go, so that metrics do not grow with all there ever was.

A series stays long enough to be scraped some more times after its model went. One that comes back before is
as if it had not gone.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Final

from roundhouse_gateway.metrics import UNKNOWN_MODEL, Metrics
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.series import OTHER, written

KEPT_SECONDS: Final = 300.0
LOOK_SECONDS: Final = 30.0
AT_ONCE: Final = 100
"""Models that are let go before others have their turn."""
_NONE: Final = frozenset({"", OTHER, UNKNOWN_MODEL})
"""What stands for models, and is none."""


class Departed:
    """Those that are gone, and since when. `clock` gives seconds."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._since: dict[str, float] = {}

    def due(self, published: Collection[str]) -> list[str]:
        """Which have been gone for long enough, each once; `published` are those that exist."""
        now = self._clock()
        gone = self._metrics.models() - {*map(written, published), *_NONE}
        since = {model: self._since.get(model, now) for model in gone}
        self._since = {model: began for model, began in since.items() if now - began < KEPT_SECONDS}
        return [model for model in since if model not in self._since]

    async def run(self, registry: Registry) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            due = self.due(registry.snapshot.entries) if registry.complete else []
            for start in range(0, len(due), AT_ONCE):
                self._metrics.let_go(due[start : start + AT_ONCE])
                await asyncio.sleep(0)
