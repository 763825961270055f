"""Calls of engines with a body that may not come twice, such as an upload that is passed on as it arrives.

An endpoint that takes no connection, breaks off before it answers, or refuses before it has read anything, is
passed over as long as the body can still be sent. What an engine answers is handed on as it is; whether that
is good is left to `relay`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

import aiohttp
from yarl import URL

from roundhouse_api.enums import RouteName
from roundhouse_gateway.access import trust
from roundhouse_gateway.body import Body, nobody_waits
from roundhouse_gateway.dead_connections import Watch
from roundhouse_gateway.endpoint_load import LOAD_HEADER, Load
from roundhouse_gateway.endpoints import HASTY, Endpoints
from roundhouse_gateway.errors import EngineFailedError, EngineUnreachableError
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.relay import EVENT_STREAM, is_fault
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.snapshot import Entry
from roundhouse_gateway.tour import FULL, REFUSALS, Failure, Tour, Tours, Tried
from roundhouse_gateway.traces import onwards

REASON_HEADER = "X-Roundhouse-Reason"


@dataclass(frozen=True, slots=True)
class Call:
    """One request for an engine."""

    entry: Entry
    route: RouteName
    body: Body
    request_id: str
    via: str
    tried: Tried | None = None
    """An endpoint that was asked before in vain."""


class EngineClient:
    """The one HTTP client of engines."""

    def __init__(self, settings: Settings, metrics: Metrics, endpoints: Endpoints, watch: Watch) -> None:
        self._idle_seconds = settings.engine_idle_seconds
        self.endpoints = endpoints
        self._metrics = metrics
        self._tours = Tours(endpoints, metrics, settings.engine_idle_seconds)
        self.load = Load()
        # A new connection for each call: one that was kept may be dead, and an upload cannot be repeated.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=watch.make),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        self._patient, self._hasty = (
            aiohttp.ClientTimeout(
                total=None,
                sock_connect=part * settings.connect_timeout_seconds,
                sock_read=settings.engine_idle_seconds,
            )
            for part in (1, HASTY)
        )

    async def close(self) -> None:
        await self._session.close()

    @asynccontextmanager
    async def answer(self, call: Call, *, last: bool = True) -> AsyncIterator[aiohttp.ClientResponse]:
        """The head of an engine's answer, its body still to be read inside the block.

        Where no known endpoint takes the request and it is the `last` model to ask, an endpoint that is about
        to be known is waited for: `EngineUnreachableError` where there is none.
        """
        tour = Tour(call.entry, last)
        tried = await self._tried_before(call, tour)
        try:
            for attempt in count(tried):
                if attempt:
                    self._metrics.retries(call.entry.model.id).inc()
                base_url = await self._next(call, tour)
                with self.load.hold(base_url):
                    response = await self._asked(call, base_url, tour)
                    if response is None:
                        continue
                    try:
                        again, reason = call.body.can_be_sent, reason_of(response)
                        if await self._tours.goes_on(tour, base_url, reason, can_be_sent=again):
                            continue
                        yield response
                        return
                    finally:
                        self._tell(call, response, tour)
                        response.close()
        finally:
            if self.endpoints.ejections.troubled:
                self.endpoints.ejections.leave(call.entry.model.id, tour)

    def _tell(self, call: Call, response: aiohttp.ClientResponse, tour: Tour) -> None:
        """Whether a good answer, as far as it was waited for, came to its end or broke off."""
        if response.content.exception() is not None:
            if call.body.failure is None:
                self.endpoints.failed(call.entry, tour.at, "broken", tour.sent)
        elif self.endpoints.ejections.troubled and response.ok and response.content.is_eof():
            self.endpoints.answered(call.entry, tour.at, tour.sent)

    async def _asked(self, call: Call, base_url: str, tour: Tour) -> aiohttp.ClientResponse | None:
        """The head of an answer; None where another endpoint is to be asked."""
        try:
            response = await self._post(call, base_url, tour)
        except EngineUnreachableError:
            if not await self._others(call, tour):
                raise
            return None
        except EngineFailedError:
            # Once only where it got to see the body: that may be what brings engines down.
            if tour.broken or not await self._others(call, tour):
                raise
            tour.broken = int(call.body.begun)
            return None
        headers = response.headers
        self.load.told(base_url, headers.get(LOAD_HEADER))
        if is_fault(response.status, reasoned=REASON_HEADER in headers or "retry-after" in headers):
            self.endpoints.failed(call.entry, base_url, "error", tour.sent)
        elif self.endpoints.ejections.troubled and not response.ok:
            self.endpoints.answered(call.entry, base_url, tour.sent)
        elif self.endpoints.ejections.troubled and response.content_type == EVENT_STREAM:
            self.endpoints.began(call.entry, base_url, tour.sent)
        return response

    async def _tried_before(self, call: Call, tour: Tour) -> int:
        """How many calls to count before this one; one that an engine broke off with the whole body is told.

        Raises the error of the one that did, where nobody is left to ask.
        """
        tried = call.tried
        if tried is None or tried.model != call.entry.model.id:
            return 0
        match tried.how:
            case "Left":
                tour.broke_off(tried.base_url)
                return 0
            case "Unreadable":
                tour.broke_off(tried.base_url)
                return 1
            case "Refused":
                return self._refused_before(tried, call.entry, tour)
            case "Failed":
                tour.tried.add(tried.base_url)
                if tried.error is not None and not await self._others(call, tour):
                    raise tried.error
                tour.broken = int(not isinstance(tried.error, EngineUnreachableError))
                return 1

    def _refused_before(self, tried: Tried, entry: Entry, tour: Tour) -> int:
        """The others go first. Where there are none, it is asked as if it had not been, and says so again."""
        others = self.endpoints.sound if tried.reason == FULL else self.endpoints.untried
        if not others(entry, {tried.base_url}):
            return 0
        self._metrics.engine_errors(entry.model.id, tried.reason).inc()
        tour.tried.add(tried.base_url)
        tour.again.add(tried.base_url)
        return 1

    async def _next(self, call: Call, tour: Tour) -> str:
        if not await self._others(call, tour):
            raise self._tours.nowhere(call.entry)
        base_url = self.load.least(self.endpoints.choosable(call.entry, tour.tried, tour))
        tour.goes_to(base_url, self.endpoints.ejections.clock())
        return base_url

    async def _others(self, call: Call, tour: Tour) -> bool:
        return call.body.can_be_sent and await self._tours.others(tour)

    async def _post(self, call: Call, base_url: str, tour: Tour) -> aiohttp.ClientResponse:
        body, loop = call.body, asyncio.get_running_loop()
        body.begun = False
        url = URL(call.entry.url(base_url, call.route), encoded=True)
        headers = {
            **onwards.get(),
            "content-type": body.content_type,
            "x-request-id": call.request_id,
            "via": call.via,
            "accept": "*/*",
            # What is compressed here would reach clients that may not have asked for that.
            "accept-encoding": "identity",
            **call.entry.headers,
        }
        try:
            async with asyncio.timeout(self._idle_seconds) as patience:
                body.on_progress = lambda: patience.reschedule(loop.time() + self._idle_seconds)
                return await self._session.post(
                    url,
                    data=body.chunks(),
                    headers=headers,
                    expect100=call.entry.admits_first,
                    allow_redirects=False,
                    ssl=trust(call.entry.access.ca),
                    timeout=self._hasty if self.endpoints.untried(call.entry, tour.tried) else self._patient,
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise self._failed(call, tour, "unreachable", error) from error
        except TimeoutError as error:
            raise self._failed(call, tour, "timeout") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._failed(call, tour, "broken") from error
        finally:
            body.on_progress = nobody_waits

    def _failed(self, call: Call, tour: Tour, reason: Failure, error: Exception | None = None) -> Exception:
        """The error to answer with; where the body broke off by the client's doing, that."""
        told = call.body.failure
        return told or self._tours.failed(call.entry, reason, error, at=tour.at, sent=tour.sent)


def reason_of(response: aiohttp.ClientResponse) -> str:
    """Why the engine would not take the request at all; empty where it did."""
    reason = response.headers.get(REASON_HEADER, "")
    return reason if response.status in (429, 503) and reason in REFUSALS else ""


def is_full(response: aiohttp.ClientResponse) -> bool:
    """Every endpoint that was asked has all its places taken, and read nothing."""
    return response.status == 429 and response.headers.get(REASON_HEADER) == FULL
