"""All requests on the fast lane: they end where their engine is silent for too long, and with the gateway."""

import asyncio
from typing import Final, Protocol

from roundhouse_gateway.errors import GatewayError, NotReadyError

LOOKS: Final = 8
"""How often an engine's patience is looked at while it lasts: one clock for all is enough."""


class Passage(Protocol):
    """One of them. `heard` is when its engine last said something; it may not while `paused`."""

    heard: float
    paused: bool

    def out_of_patience(self) -> None: ...

    def cut(self, error: GatewayError) -> None: ...


class Traveller(Protocol):
    """A connection, and the request on it that is on the lane now, if there is one."""

    @property
    def passage(self) -> Passage | None: ...


class Passages:
    """Those under way: by connection, of which there is news less often than of requests."""

    def __init__(self, idle_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        self._travellers: set[Traveller] = set()
        self._clock: asyncio.TimerHandle | None = None

    def add(self, traveller: Traveller) -> None:
        self._travellers.add(traveller)
        if self._clock is None:
            self._clock = asyncio.get_running_loop().call_later(self._idle_seconds / LOOKS, self._look)

    def discard(self, traveller: Traveller) -> None:
        self._travellers.discard(traveller)

    def cut(self) -> None:
        """What the drain did not wait for."""
        for passage in self._under_way():
            passage.cut(NotReadyError("The gateway is ending; send it again."))

    def _under_way(self) -> list[Passage]:
        return [each.passage for each in self._travellers if each.passage is not None]

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._clock = None
        if self._travellers:
            self._clock = loop.call_later(self._idle_seconds / LOOKS, self._look)
        for passage in self._under_way():
            if not passage.paused and loop.time() - passage.heard > self._idle_seconds:
                passage.out_of_patience()
