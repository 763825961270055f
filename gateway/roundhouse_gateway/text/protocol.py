"""A client's connection that knows the fast lane: which requests may try it, and how they come back from it.

A request that may is read whole first. Where it is slow to come, or is not for the lane after all, it enters
the application as if nothing had been. One whose head came before on the connection is not even parsed.
"""

import asyncio
import logging
from typing import Any, Final, cast

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from roundhouse_gateway.errors import GatewayError
from roundhouse_gateway.exchange import BEGUN
from roundhouse_gateway.guard import COUNTED, Counted
from roundhouse_gateway.protocol import ClientProtocol
from roundhouse_gateway.text.asking import PATHS, Asking, announced
from roundhouse_gateway.text.engines import FIRST
from roundhouse_gateway.text.entering import cycle_of, scope_of
from roundhouse_gateway.text.heads import Known, known
from roundhouse_gateway.text.lane import MAX_BODY_BYTES, Lane, NotHereError
from roundhouse_gateway.text.passage import Passage
from roundhouse_gateway.text.trip import Trip
from roundhouse_gateway.tour import TRIED

log = logging.getLogger("roundhouse.gateway")

CLOCK_SECONDS: Final = 0.002
"""By so much may the clock of the event loop be early."""
GATHER_SECONDS: Final = 0.05
"""How long the rest of a small body may take before the ordinary routes, which have clocks, wait for it."""


def fast(protocol: type[ClientProtocol], lane: Lane) -> type[ClientProtocol]:
    """The protocol with this lane."""
    return type("FastClientProtocol", (FastProtocol, protocol), {"lane": lane})


class FastProtocol(ClientProtocol):
    """One connection of a client."""

    lane: Lane
    passage: Passage | None = None
    _travels = False
    """It has had a request on the lane, and may have another."""
    _gathered: list[bytes] | None = None
    """The body of a request that may try the lane, as far as it has come."""
    _awaited = b""
    """A request with the known head, as far as it has come."""
    _gathering: asyncio.TimerHandle | None = None
    """Runs while there is either."""
    _keeps_alive = True
    _known: Known[Asking] | None = None
    """The head of the last request, while the parser has seen nothing since."""
    _piece = b""
    _began_in = b""
    """The piece that the message begins, where it does begin one."""
    _between = True
    """No message is in the parser."""
    _idle_since = 0.0

    @override
    def data_received(self, data: bytes) -> None:
        known = self._known
        if known is not None:
            if not (self._awaited or self._is_busy()) and (body := known.body_of(data)) is not None:
                self._answer(known.meaning, body)
                return
            data = self._by_known_head(known, data)
        if data:
            self._by_parser(data)

    def _by_known_head(self, head: Known[Asking], data: bytes) -> bytes:
        """Takes a request that has it; what the parser is to see, if anything."""
        if self._awaited:
            data, self._awaited = self._awaited + data, b""
        if not self._is_busy():
            body = head.body_of(data)
            if body is not None:
                self._end_gathering()
                self._answer(head.meaning, body)
                return b""
            if len(data) < MAX_BODY_BYTES and head.is_begun_by(data):
                self._awaited = data
                self._gather()
                return b""
        self._known = None
        self._end_gathering()
        return data

    def _by_parser(self, data: bytes) -> None:
        self._piece = data if self._between else b""
        super().data_received(data)
        self._piece = b""
        if self._gathered is not None:
            self._gather()

    def _is_busy(self) -> bool:
        """With an answer that is still under way, or with a refusal."""
        current: RequestResponseCycle | None = self.cycle
        answers = current is not None and not current.response_complete
        return answers or self._refused

    def _answer(self, asking: Asking, body: bytes) -> None:
        """By the lane where that takes it, else by the ordinary routes."""
        try:
            passage = self._plan(asking, body)
        except NotHereError as error:
            scope = scope_of(self, asking.with_length(len(body)))
            if error.base_url:
                extended: Any = scope
                extended[FIRST] = error.base_url, False
            self._enter(cycle_of(self, scope, body, keep_alive=self._keeps_alive))
            return
        self.passage = passage
        if not self._travels:
            self._travels = True
            self.lane.engines.passages.add(self)
        self.cycle = cast("RequestResponseCycle", passage)
        passage.start(self, keep_alive=self._keeps_alive)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._awaited = b""
        self._stop_gathering()
        if (passage := self._leave_lane()) is not None:
            passage.leave()
        self._travels_no_more()
        super().connection_lost(exc)

    @override
    def _refuse(self, error: GatewayError) -> None:
        self.lane.writes.flush()  # the last answer goes before
        super()._refuse(error)

    @override
    def handle_websocket_upgrade(self) -> None:
        self.lane.writes.flush()
        self._travels_no_more()
        super().handle_websocket_upgrade()

    @override
    def shutdown(self) -> None:
        if self._gathered is None and not self._awaited:
            self.lane.writes.flush()
            super().shutdown()
        else:
            self._keeps_alive = False  # a request has begun, though nothing of it is under way

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        if self.passage is not None:
            self.passage.pause()

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self.passage is not None:
            self.passage.resume()

    @override
    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        super().on_response_complete()

    @override
    def timeout_keep_alive_handler(self) -> None:
        """Requests of the lane do not touch the clock of a kept connection, so it may be early."""
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if self.passage is not None or self._awaited:
            self.timeout_keep_alive_task = None  # begun again after the answer
        elif left > CLOCK_SECONDS:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    @override
    def on_message_begin(self) -> None:
        if not self._is_silent:
            self._began_in, self._piece = self._piece, b""
            self._between = False
            self._known = None
        super().on_message_begin()

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
        self._between = True
        gathered = self._gathered
        if gathered is None:
            super().on_message_complete()
            return
        self._bytes_of_no_body, self._gathered = 0, None
        self._end_gathering()
        body = gathered[0] if len(gathered) == 1 else b"".join(gathered)
        asking = Asking(self.url, self.headers)
        if self._keeps_alive:
            self._known = known(self._began_in, len(body), asking)
        self._answer(asking, body)

    def _may_try(self) -> bool:
        """By its head alone."""
        if self.url not in PATHS or self.parser.get_method() != b"POST" or self._is_busy():
            return False
        length = announced(self.url, self.headers)
        return self.parser.get_http_version() == "1.1" and 0 < length <= MAX_BODY_BYTES

    def _plan(self, asking: Asking, body: bytes) -> Passage:
        if self.flow.write_paused:  # by an answer before, and said once: the ordinary routes look and wait
            raise NotHereError
        try:
            return self.lane.plan(asking, body, self.client[0] if self.client else "")
        except NotHereError:
            raise
        except Exception as error:
            log.exception("fault in planning %s", asking.path)
            raise NotHereError from error

    def default_lines(self) -> bytes:
        return self.lane.lines.of(self.server_state.default_headers)

    def answered(self) -> None:
        self.passage = None
        if self.timeout_keep_alive_task is None or self.pipeline or self.transport.is_closing():
            self.on_response_complete()
        else:  # nothing of a next request has come, so the clock of the connection may run on
            self._idle_since = self.loop.time()
            self.server_state.total_requests += 1

    def take_back(self, trip: Trip, *, keep_alive: bool, broke_off: bool) -> None:
        """The ordinary routes know what has happened, and neither count it again nor begin it anew."""
        passage, exchange = self._leave_lane(), trip.exchange
        scope = scope_of(self, trip.asking.with_length(len(trip.body)))
        extended: Any = scope
        extended |= {FIRST: (trip.stop.base_url, broke_off), BEGUN: exchange}
        extended |= {COUNTED: Counted(exchange.standing, trip.place), TRIED: trip.tried}
        cycle = cycle_of(self, scope, trip.body, keep_alive=keep_alive)
        cycle.disconnected = self.transport.is_closing()
        if cast("object", self.cycle) is passage:
            self._enter(cycle)
        else:  # the next request has come already, and waits
            self._start_asgi_task(cycle, self.app)

    def _leave_lane(self) -> Passage | None:
        passage, self.passage = self.passage, None
        return passage

    def _travels_no_more(self) -> None:
        if self._travels:
            self._travels = False
            self.lane.engines.passages.discard(self)

    def _enter(self, cycle: RequestResponseCycle) -> None:
        self._unset_keepalive_if_required()
        self.cycle = cycle
        self._start_asgi_task(cycle, self.app)

    def _gather(self) -> None:
        """Waits a moment for the rest of a body."""
        if self._gathering is None:
            self._gathering = self.loop.call_later(GATHER_SECONDS, self._stop_gathering)

    def _end_gathering(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None

    def _stop_gathering(self) -> None:
        """The rest is read by the application as it comes."""
        self._end_gathering()
        awaited, self._awaited = self._awaited, b""
        gathered, self._gathered = self._gathered, None
        if awaited:
            self._known = None
            self._by_parser(awaited)
        elif gathered is not None and not self._refused:
            scope = scope_of(self, Asking(self.url, self.headers))
            body = b"".join(gathered)
            self._enter(cycle_of(self, scope, body, keep_alive=self._keeps_alive, more_body=True))
