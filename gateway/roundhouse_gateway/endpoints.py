"""Which addresses a variant has now, and a short wait for others where those that are known take nothing.

In a rollout a pod may be told to leave before the gateway hears of it, and of its successor: the news is on
the way then, and comes within moments.
"""

import asyncio
from collections.abc import Collection

from roundhouse_gateway.registry import Registry
from roundhouse_gateway.snapshot import Entry


class Endpoints:
    """Addresses as the newest snapshot has them, whatever a request was chosen by."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._waiting: set[asyncio.Future[None]] = set()
        registry.on_rebuild.append(self._tell)

    def of(self, entry: Entry) -> Collection[str]:
        current = self._registry.snapshot.entries.get(entry.model.id)
        target = current.target if current and current.place == entry.place else entry.target
        return target.base_urls if target else ()

    def untried(self, entry: Entry, tried: set[str]) -> Collection[str]:
        return [base_url for base_url in self.of(entry) if base_url not in tried]

    async def others(self, entry: Entry, tried: set[str], seconds: float) -> bool:
        """Whether there is an address that was not tried, as soon as there is one or the time is over."""
        try:
            async with asyncio.timeout(seconds):
                while not self.untried(entry, tried):
                    await self._news()
        except TimeoutError:
            return False
        return True

    async def _news(self) -> None:
        """Returns with the next snapshot."""
        told = asyncio.get_running_loop().create_future()
        self._waiting.add(told)
        try:
            await told
        finally:
            self._waiting.discard(told)

    def _tell(self) -> None:
        for told in self._waiting:
            if not told.done():
                told.set_result(None)
