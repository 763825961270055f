"""The client's side of a request on the fast lane, as the request sees it."""

import asyncio
from typing import Protocol

from roundhouse_gateway.text.trip import Trip


class Client(Protocol):
    """Its connection, and who is told how the request on it ended."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop

    def default_lines(self) -> bytes:
        """What each head begins with."""
        ...

    def answered(self) -> None:
        """The answer is complete."""
        ...

    def take_back(self, trip: Trip, *, keep_alive: bool, broke_off: bool) -> None:
        """Nothing was sent: the request is for the ordinary routes. `broke_off`: the engine did."""
        ...
