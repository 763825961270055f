"""Connections to engines that are kept for the next request, by address."""

import asyncio
from collections import defaultdict
from functools import lru_cache, partial
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

from roundhouse_gateway.access import trust
from roundhouse_gateway.dead_connections import Watch
from roundhouse_gateway.endpoints import HASTY
from roundhouse_gateway.text.connection import Connection
from roundhouse_gateway.text.writes import Writes

KEPT_SECONDS: Final = 15.0
"""Idle for longer, a connection is closed: engines and what stands before them do so too, unannounced."""
KEPT_PER_ADDRESS: Final = 256

Address = tuple[str, int, bool, str]
"""Host, port, whether it is TLS, and the certificates that are believed there besides the system's."""


@lru_cache(4096)
def address_of(url: str, ca: str = "") -> Address:
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    return parts.hostname or "", parts.port or (443 if tls else 80), tls, ca


class Pool:
    """All idle connections. The one that was used last is the first to be used again."""

    def __init__(self, connect_seconds: float, watch: Watch) -> None:
        self._connect_seconds = connect_seconds
        self._watch = watch
        self.writes = Writes()
        self._idle: defaultdict[Address, list[Connection]] = defaultdict(list)
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def idle(self, address: Address) -> Connection | None:
        """A connection that is open, as far as can be known; None where there is none."""
        kept = self._idle.get(address)
        while kept:
            connection = kept.pop()
            if connection.is_open():
                return connection
        return None

    async def connect(self, address: Address, *, hasty: bool = False) -> Connection:
        """A new one. `OSError` or `TimeoutError` where nobody takes it; `hasty`: others may."""
        host, port, tls, ca = address
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._connect_seconds * (HASTY if hasty else 1)):
            _, connection = await loop.create_connection(
                lambda: Connection(partial(self.keep, address), partial(self._forget, address), self.writes),
                host,
                port,
                ssl=trust(ca) if tls else None,
            )
        self._watch.add(connection)
        return connection

    def close(self) -> None:
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for kept in list(self._idle.values()):
            for connection in list(kept):
                connection.abort()
        self._idle.clear()

    def keep(self, address: Address, connection: Connection) -> None:
        """For the next request."""
        kept = self._idle[address]
        if self._closed or len(kept) >= KEPT_PER_ADDRESS:
            connection.abort()
            return
        connection.idle_since = monotonic()
        kept.append(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._sweep)

    def _forget(self, address: Address, connection: Connection) -> None:
        kept = self._idle.get(address)
        if kept and connection in kept:
            kept.remove(connection)

    def _sweep(self) -> None:
        """Closes what has been idle for too long. The oldest stand first."""
        limit = monotonic() - KEPT_SECONDS
        for address, kept in list(self._idle.items()):
            for connection in [each for each in kept if each.idle_since <= limit]:
                kept.remove(connection)
                connection.abort()
            if not kept:
                del self._idle[address]
        self._sweeper = None
        if self._idle:
            self._sweeper = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._sweep)
