"""Backends that took no connection a moment ago: `auto` tries them after all others for a while.

Held in memory, by address: all models of an upstream share its fate, and one that is given another address is
tried at once. Requests that name their model do not ask here.
"""

import time
from collections.abc import Callable, Sequence

from roundhouse_gateway.snapshot import Entry

COOLDOWN_SECONDS = 10.0

Addresses = tuple[str, ...]


class Cooldown:
    """Until when each backend rests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[Addresses, float] = {}

    def begin(self, entry: Entry) -> None:
        now = self._clock()
        self._until = {each: until for each, until in self._until.items() if until > now}
        self._until[_addresses(entry)] = now + COOLDOWN_SECONDS

    def end(self, entry: Entry) -> None:
        self._until.pop(_addresses(entry), None)

    def order(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """The same entries in the same order, but those that rest behind the others."""
        if not self._until:
            return entries
        now = self._clock()
        return sorted(entries, key=lambda entry: self._until.get(_addresses(entry), now) > now)


def _addresses(entry: Entry) -> Addresses:
    return entry.target.base_urls if entry.target else ()
