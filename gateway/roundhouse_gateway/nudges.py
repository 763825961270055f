"""Requests that may not wait for long enough to be heard, and that wake their model all the same."""

import asyncio
from typing import Final

from roundhouse_gateway.load import LoadBook, Place

NUDGE_SECONDS: Final = 2.0
"""For how long each is told of as one that waits."""


class Nudges:
    """One at a time of each variant."""

    def __init__(self, book: LoadBook) -> None:
        self._book = book
        self._told: dict[Place, asyncio.TimerHandle] = {}

    def tell(self, place: Place) -> None:
        if place not in self._told:
            self._book.change(place, "held", 1)
            self._told[place] = asyncio.get_running_loop().call_later(NUDGE_SECONDS, self._forget, place)

    def _forget(self, place: Place) -> None:
        del self._told[place]
        self._book.change(place, "held", -1)
