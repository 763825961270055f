"""Calls of engines with a body that is at hand: which endpoint, over which connection.

Until the first byte of an answer a request may go to another endpoint. One that takes no connection or
refuses is passed over; one that breaks off is replaced once only, also on a connection that was kept and may
just have been closed: the body may be what brings engines down.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Final
from urllib.parse import urlsplit

from roundhouse_api.enums import RouteName
from roundhouse_gateway.endpoint_load import Load
from roundhouse_gateway.endpoints import Endpoints
from roundhouse_gateway.errors import EngineFailedError, EngineUnreachableError
from roundhouse_gateway.hops import OWN_HOP
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.snapshot import Entry
from roundhouse_gateway.text.balance import by_prefix
from roundhouse_gateway.text.dialects import url_of
from roundhouse_gateway.text.incoming import Incoming
from roundhouse_gateway.text.passages import Passages
from roundhouse_gateway.text.pool import Pool, address_of
from roundhouse_gateway.tour import Failure, Tour, Tours
from roundhouse_gateway.traces import onwards

_VIA: Final = f"via: {OWN_HOP}\r\n"
JSON: Final = "application/json"
FIRST: Final = "roundhouse.text.first"
"""Where a request's scope has the endpoint that the fast lane chose, and whether that broke off."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request for an engine. `opening` tells replicas apart where the variant wants that."""

    entry: Entry
    route: RouteName
    body: bytes
    opening: memoryview
    request_id: str
    via: str
    first: str = ""
    """The endpoint to ask first; empty where any will do."""
    stale: bool = False
    """That broke off on a connection that was kept."""


@lru_cache(4096)
def head_of(url: str, media_type: str = JSON) -> bytes:
    """The part of a request's head that is the same each time."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.netloc.rpartition("@")[2]
    return (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {media_type}\r\naccept: */*\r\n"
        "accept-encoding: identity\r\n"
    ).encode()


def request_of(call: Call, base_url: str) -> bytes:
    trace = "".join(f"{name}: {value}\r\n" for name, value in onwards.get().items())
    head = b"%s%sx-request-id: %s\r\nvia: %s\r\ncontent-length: %d\r\n\r\n" % (
        call.entry.lines,
        trace.encode(),
        call.request_id.encode(),
        call.via.encode("latin-1", "replace"),
        len(call.body),
    )
    return b"".join((head_of(url_of(call.entry, base_url, call.route)), head, call.body))


def simple_request(head: bytes, request_id: str, body: bytes) -> bytes:
    """One that is traced by nobody, and passed nothing before this gateway."""
    own = f"x-request-id: {request_id}\r\n{_VIA}content-length: {len(body)}\r\n\r\n"
    return b"".join((head, own.encode(), body))


class TextEngines:
    """The pooled client of engines for JSON."""

    def __init__(
        self, settings: Settings, metrics: Metrics, endpoints: Endpoints, load: Load, pool: Pool
    ) -> None:
        self._idle_seconds = settings.engine_idle_seconds
        self._metrics = metrics
        self.endpoints = endpoints
        self.ejections = endpoints.ejections
        self.tours = Tours(endpoints, metrics, settings.engine_idle_seconds)
        self.load = load
        self.pool = pool
        self.passages = Passages(settings.engine_idle_seconds)

    def close(self) -> None:
        """Ends what is under way on the fast lane, and all connections that are kept."""
        self.passages.cut()
        self.pool.close()

    @asynccontextmanager
    async def answer(self, call: Call, *, last: bool) -> AsyncIterator[Incoming]:
        """The head of an engine's answer, its body still to be read inside the block."""
        tour = Tour(call.entry, last)
        if call.stale:
            tour.broke_off(call.first)
        try:
            for attempt in count():
                if attempt:
                    self._metrics.retries(call.entry.model.id).inc()
                base_url = await self._next(call, tour)
                with self.load.hold(base_url):
                    incoming = await self._asked(call, base_url, tour)
                    if incoming is None:
                        continue
                    try:
                        if await self.tours.goes_on(tour, base_url, incoming.reply.head.reason):
                            continue
                        yield incoming
                        return
                    finally:
                        if incoming.reply.failure:
                            self.endpoints.failed(call.entry, base_url, "broken", tour.sent)
                        elif self.ejections.troubled and incoming.is_good_and_whole:
                            self.endpoints.answered(call.entry, base_url, tour.sent)
                        incoming.reply.abandon()
        finally:
            if self.ejections.troubled:
                self.ejections.leave(call.entry.model.id, tour)

    async def _asked(self, call: Call, base_url: str, tour: Tour) -> Incoming | None:
        """The head of an answer, if it is good its first byte; None where another endpoint is to be asked."""
        try:
            incoming = await self._post(call, base_url, tour)
            if incoming is None:
                return None
            if incoming.reply.head.is_good:
                await self._first(incoming, tour)
        except EngineUnreachableError:
            if not await self.tours.others(tour):
                raise
            return None
        except EngineFailedError:
            if tour.broken > 1 or not await self.tours.others(tour):
                raise
            return None
        head = incoming.reply.head
        self.load.told(base_url, head.load)
        if not head.is_good and head.is_fault:
            self.endpoints.failed(call.entry, base_url, "error", tour.sent)
        elif self.ejections.troubled and not head.is_good:
            self.endpoints.answered(call.entry, base_url, tour.sent)
        elif self.ejections.troubled and head.is_event_stream:
            self.endpoints.began(call.entry, base_url, tour.sent)
        return incoming

    def pick(self, entry: Entry, base_urls: Collection[str], opening: memoryview) -> str:
        """The endpoint to ask, of these; empty where there is none."""
        if not base_urls:
            return ""
        prefix = entry.record.text.prefix
        if prefix is not None and opening:
            return by_prefix(
                bytes(opening[: prefix.characters]), base_urls, self.load.of, prefix.mean_load_percent
            )
        return self.load.least(base_urls)

    async def _next(self, call: Call, tour: Tour) -> str:
        if not await self.tours.others(tour):
            raise self.tours.nowhere(call.entry)
        base_urls = self.endpoints.choosable(call.entry, tour.tried, tour)
        first = not tour.tried and call.first in base_urls
        base_url = call.first if first else self.pick(call.entry, base_urls, call.opening)
        tour.goes_to(base_url, self.ejections.clock())
        return base_url

    async def _post(self, call: Call, base_url: str, tour: Tour) -> Incoming | None:
        """None where a connection broke off that was kept: what is asked next gets a new one, unsaid."""
        request = request_of(call, base_url)
        address = address_of(base_url, call.entry.access.ca)
        kept = None if tour.broken else self.pool.idle(address)
        if kept is not None:
            incoming = Incoming(self._idle_seconds)
            kept.ask(request, incoming.reply)
            if await self._told(tour, incoming, incoming.begun()):
                return incoming
            tour.broke_off(base_url)
            return None
        try:
            hasty = bool(self.endpoints.untried(call.entry, tour.tried))
            fresh = await self.pool.connect(address, hasty=hasty)
        except (OSError, TimeoutError) as error:
            # An engine that left with this very request may have gone because of it.
            reason: Failure = "broken" if base_url == tour.left else "unreachable"
            raise self.tours.failed(call.entry, reason, error, at=base_url, sent=tour.sent) from error
        incoming = Incoming(self._idle_seconds)
        fresh.ask(request, incoming.reply)
        if await self._told(tour, incoming, incoming.begun()):
            return incoming
        tour.broken += 1
        raise self.tours.failed(call.entry, "broken", at=base_url, sent=tour.sent)

    async def _first(self, incoming: Incoming, tour: Tour) -> None:
        """Waits for the first byte: an engine may send its head at once, and leave with no answer."""
        if not await self._told(tour, incoming, incoming.first()):
            tour.broken += 1
            raise self.tours.failed(tour.entry, "broken", at=tour.at, sent=tour.sent)

    async def _told(self, tour: Tour, incoming: Incoming, coming: Awaitable[bool]) -> bool:
        """Whether what is awaited has come; False where the connection ended before."""
        try:
            return await coming
        except TimeoutError as error:
            incoming.reply.abandon()
            raise self.tours.failed(tour.entry, "timeout", at=tour.at, sent=tour.sent) from error
        except asyncio.CancelledError:
            incoming.reply.abandon()
            raise
