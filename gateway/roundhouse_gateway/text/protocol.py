"""A client's connection that knows the fast lane: which requests may try it, and how they come back from it.

A request that may is read whole first. Where it is slow to come, or is not for the lane after all, it enters
the application as if nothing had been.
"""

import asyncio
import logging
from typing import Any, Final, cast

from typing_extensions import override
from uvicorn._types import HTTPScope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from roundhouse_gateway.exchange import BEGUN, Exchange, request_id_of
from roundhouse_gateway.guard import COUNTED, presented
from roundhouse_gateway.protocol import ClientProtocol
from roundhouse_gateway.text.engines import FIRST
from roundhouse_gateway.text.lane import MAX_BODY_BYTES, PATHS, Lane, NotHereError, Trip
from roundhouse_gateway.text.passage import Passage, Side

log = logging.getLogger("roundhouse.gateway")

GATHER_SECONDS: Final = 0.05
"""How long the rest of a small body may take before the ordinary routes, which have clocks, wait for it."""
_ELSEWHERE: Final = frozenset(
    {b"expect", b"transfer-encoding", b"upgrade", b"via", b"traceparent", b"tracestate", b"origin"}
)
"""Headers of requests that need more than to be passed on."""


def fast(protocol: type[ClientProtocol], lane: Lane) -> type[ClientProtocol]:
    """The protocol with this lane."""
    return type("FastClientProtocol", (FastProtocol, protocol), {"lane": lane})


class FastProtocol(ClientProtocol):
    """One connection of a client."""

    lane: Lane
    _passage: Passage | None = None
    _gathered: list[bytes] | None = None
    """The body of a request that may try the lane, as far as it has come."""
    _gathering: asyncio.TimerHandle | None = None
    _keeps_alive = True

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._gathered is not None and self._gathering is None:
            self._gathering = self.loop.call_later(GATHER_SECONDS, self._stop_gathering)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_gathering()
        passage, self._passage = self._passage, None
        if passage is not None:
            passage.leave()
            self.lane.engines.passages.discard(passage)
        super().connection_lost(exc)

    @override
    def shutdown(self) -> None:
        if self._gathered is None:
            super().shutdown()
        else:
            self._keeps_alive = False  # a request has begun, though nothing of it is under way

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        if self._passage is not None:
            self._passage.pause()

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self._passage is not None:
            self._passage.resume()

    @override
    def on_headers_complete(self) -> None:
        if self._is_silent or not self._may_try():
            super().on_headers_complete()
            return
        self._check_head()
        self._in_head = False
        self._head_has_come()
        self._gathered = []
        self._keeps_alive = self.parser.should_keep_alive()

    @override
    def on_body(self, body: bytes) -> None:
        if self._gathered is None:
            super().on_body(body)
        else:
            self._bytes_of_no_body = 0
            self._gathered.append(body)

    @override
    def on_message_complete(self) -> None:
        gathered = self._gathered
        if gathered is None:
            super().on_message_complete()
            return
        self._bytes_of_no_body = 0
        self._no_more_gathering()
        body = gathered[0] if len(gathered) == 1 else b"".join(gathered)
        keep_alive = self._keeps_alive
        self._complete_scope()
        try:
            trip = self._plan(body)
        except NotHereError as error:
            if error.base_url:
                extended: Any = self.scope
                extended[FIRST] = error.base_url, False
            self._enter(self._cycle(self.scope, body, keep_alive=keep_alive))
        else:
            self._set_off(trip, body, keep_alive=keep_alive)

    def _may_try(self) -> bool:
        """By its head alone."""
        if self.url not in PATHS or self.parser.get_method() != b"POST":
            return False
        current: RequestResponseCycle | None = self.cycle
        if current is not None and not current.response_complete:
            return False
        if self.parser.get_http_version() != "1.1":
            return False
        length = b""
        for name, value in self.headers:
            if name in _ELSEWHERE:
                return False
            if name == b"content-length":
                length = value
        return length.isdigit() and 0 < int(length) <= MAX_BODY_BYTES

    def _plan(self, body: bytes) -> Trip:
        if self.flow.write_paused:  # by an answer before, and said once: the ordinary routes look and wait
            raise NotHereError
        path = self.url.decode()
        scope: Any = self.scope
        exchange = Exchange("POST", path, request_id_of(scope), self.client[0] if self.client else "")
        exchange.route, exchange.upload_bytes = path, len(body)
        try:
            return self.lane.plan(self.url, presented(scope), body, exchange)
        except NotHereError:
            raise
        except Exception as error:
            log.exception("fault in planning %s", path)
            raise NotHereError from error

    def _set_off(self, trip: Trip, body: bytes, *, keep_alive: bool) -> None:
        scope = self.scope

        def back(trip: Trip, broke_off: bool) -> None:
            """The ordinary routes know what has happened, and neither count it again nor begin it anew."""
            self._passage = None
            self.lane.engines.passages.discard(passage)
            extended: Any = scope
            extended |= {FIRST: (trip.base_url, broke_off), COUNTED: trip.counted, BEGUN: trip.exchange}
            cycle = self._cycle(scope, body, keep_alive=passage.keep_alive)
            if cast("object", self.cycle) is passage:
                self.cycle = cycle
            cycle.disconnected = self.transport.is_closing()
            self._start_asgi_task(cycle, self.app)

        def on_end() -> None:
            self._passage = None
            self.lane.engines.passages.discard(passage)
            self.on_response_complete()

        headers = self.server_state.default_headers
        passage = Passage(self.lane, trip, Side(self.transport, headers, keep_alive, on_end, back))
        self._passage = passage
        self.cycle = cast("RequestResponseCycle", passage)
        self.lane.engines.passages.add(passage)
        passage.start()

    def _complete_scope(self) -> None:
        """As uvicorn does it at the end of a head; the path is one of those known, without a query."""
        path = self.url.decode()
        self.scope |= {"method": "POST", "path": path, "raw_path": self.url, "query_string": b""}

    def _cycle(
        self, scope: HTTPScope, body: bytes, *, keep_alive: bool, more_body: bool = False
    ) -> RequestResponseCycle:
        cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.body += body
        cycle.more_body = more_body
        cycle.message_event.set()
        return cycle

    def _enter(self, cycle: RequestResponseCycle) -> None:
        self.cycle = cycle
        self._start_asgi_task(cycle, self.app)

    def _no_more_gathering(self) -> None:
        self._gathered = None
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None

    def _stop_gathering(self) -> None:
        """The rest is read by the application as it comes."""
        gathered = self._gathered
        if gathered is not None:
            self._no_more_gathering()
            if self._refused:
                return
            self._complete_scope()
            self._enter(
                self._cycle(self.scope, b"".join(gathered), keep_alive=self._keeps_alive, more_body=True)
            )
