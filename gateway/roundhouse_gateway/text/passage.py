"""One request on the fast lane, from the engine being asked to the last byte of the answer.

It is told of its answer by the engine's connection and writes to the client's, with no task between. While
nothing has been sent, a request that the engine would not take or broke off from goes back to the ordinary
routes, which know of retries and waiting. To uvicorn it looks like its own request in progress.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from roundhouse_api.enums import RouteName
from roundhouse_gateway.errors import EngineFailedError, GatewayError, Headers, InternalError
from roundhouse_gateway.exchange import STANDING_PREFIX
from roundhouse_gateway.load import Figure
from roundhouse_gateway.relay import MAX_ERROR_BYTES, engine_error, passing_headers
from roundhouse_gateway.text.answer import OF_LENGTH, broke_off, is_event_stream, stream_headers
from roundhouse_gateway.text.connection import Reply
from roundhouse_gateway.text.engines import load_of, reason_of, request_of
from roundhouse_gateway.text.frames import Frames
from roundhouse_gateway.text.lane import Lane, Trip
from roundhouse_gateway.text.usage import UsageReader
from roundhouse_gateway.text.vectors import MAX_BYTES, WRONG, converted, is_in_form

log = logging.getLogger("roundhouse.gateway")

_CLOSE: Final = (b"connection", b"close")
_CHUNKED: Final = (b"transfer-encoding", b"chunked")


@dataclass(frozen=True, slots=True)
class Side:
    """The client's. `on_end` is told when the answer is complete.

    `back` takes a request back, and whether the engine broke off from it.
    """

    transport: asyncio.Transport
    headers: Headers
    keep_alive: bool
    on_end: Callable[[], None]
    back: Callable[[Trip, bool], None]


class Passage:
    """From here to the engine and back."""

    message_event = asyncio.Event()
    """Which uvicorn sets for those who wait for a request's body; here nobody does."""

    def __init__(self, lane: Lane, trip: Trip, client: Side) -> None:
        self._lane = lane
        self._trip = trip
        self._client = client
        self._transport = client.transport
        self._reply = Reply(self._on_news)
        self._frames: Frames | None = None
        self._seen = UsageReader()
        self._chunked = False
        self._pending = b""
        self._to_change: list[bytes] = []
        self._changing: asyncio.Task[None] | None = None
        self._figure: Figure = "in_flight"
        self.paused = False
        self.heard = asyncio.get_running_loop().time()
        # What uvicorn looks at in a request in progress.
        self.keep_alive = client.keep_alive
        self.response_started = False
        self.response_complete = False
        self.disconnected = False

    def start(self) -> None:
        trip = self._trip
        self._lane.metrics.in_flight(trip.exchange.route).inc()
        trip.connection.ask(request_of(trip.call, trip.base_url), self._reply)

    def pause(self) -> None:
        """The client takes nothing just now."""
        self.paused = True
        if self._reply.connection is not None:
            self._reply.connection.pause()

    def resume(self) -> None:
        self.paused = False
        self.heard = asyncio.get_running_loop().time()
        if self._reply.connection is not None:
            self._reply.connection.resume()

    def leave(self) -> None:
        """The client has left."""
        if not self.response_complete:
            self._reply.abandon()
            self._trip.exchange.client_left()
            self._close()

    def cut(self, error: GatewayError) -> None:
        """Ends it, whatever the engine does."""
        if not self.response_complete:
            self._reply.abandon()
            self._fail(error)

    def out_of_patience(self) -> None:
        self.cut(
            broke_off(self._trip.entry.model.id)
            if self.response_started
            else self._lane.engines.tours.failed(self._trip.call.entry, "timeout")
        )

    def _on_news(self) -> None:
        self.heard = asyncio.get_running_loop().time()
        try:
            if self.response_started:
                self._go_on()
            elif self._reply.status == 0:
                self._return()
            else:
                self._begin()
        except Exception:
            exchange = self._trip.exchange
            log.exception("fault in answering %s", exchange.path, extra={"fields": exchange.fields()})
            self.cut(InternalError(exchange.request_id))

    def _begin(self) -> None:
        """The head has come, and perhaps all of it. Nothing is sent yet."""
        reply = self._reply
        self._lane.engines.load.told(self._trip.base_url, load_of(reply))
        if reason_of(reply):
            self._return()
        elif not 200 <= reply.status < 300:
            self._refuse()
        elif not (reply.parts or self._pending or reply.complete):
            if reply.failure:  # with nothing sent: another endpoint may answer
                self._return()
        elif is_event_stream(reply.headers):
            self._stream()
            self._send_head(stream_headers(passing_headers(reply.headers)))
            self._go_on()
        elif reply.failure:
            self._fail(broke_off(self._trip.entry.model.id))
        elif self._trip.call.route is not RouteName.EMBEDDINGS or self._is_as_asked():
            self._pass()

    def _stream(self) -> None:
        """From here on the answer has no foreseeable end."""
        self._frames = Frames()
        book, place = self._lane.hold.book, self._trip.entry.place
        book.change(place, "streams", 1)
        book.change(place, "in_flight", -1)
        self._figure = "streams"

    def _return(self) -> None:
        """To the ordinary routes."""
        trip = self._trip
        self._reply.abandon()
        self.response_complete = True
        self._give_back()
        self._client.back(trip, bool(self._reply.failure))

    def _refuse(self) -> None:
        """The engine's own error, once it is whole."""
        reply, entry = self._reply, self._trip.entry
        self._pending += reply.take()
        if reply.failure:
            self._fail(broke_off(entry.model.id))
        elif reply.complete or len(self._pending) > MAX_ERROR_BYTES:
            reply.abandon()
            said = self._pending[:MAX_ERROR_BYTES]
            self._fail(engine_error(reply.status, entry.model.id, reply.headers, said, entry.access))

    def _is_as_asked(self) -> bool:
        """Whether vectors may pass as they are; where not, they are changed once all of them are there."""
        reply = self._reply
        if not self._to_change:
            self._pending += reply.take()
            fits = is_in_form(self._pending, self._trip.request.encoding)
            if fits is not False:
                return fits is True or reply.complete
            self._to_change = [self._pending]
        elif more := reply.take():
            self._to_change.append(more)
        if sum(map(len, self._to_change)) > MAX_BYTES:
            reply.abandon()
            self._fail(broke_off(self._trip.entry.model.id))
        elif reply.complete:
            self._changing = asyncio.get_running_loop().create_task(self._change())
        return False

    async def _change(self) -> None:
        """Sends the vectors in the other form, unless the client has left meanwhile."""
        reply, exchange = self._reply, self._trip.exchange
        body = b"".join(self._to_change)
        self._seen.see(body)
        try:
            changed = await converted(body, self._trip.request.encoding)
            if not self.response_complete:
                headers = [each for each in passing_headers(reply.headers) if each[0] != OF_LENGTH]
                self._send_head([*headers, (OF_LENGTH, b"%d" % len(changed))], changed)
                self._end()
        except WRONG as error:
            self.cut(EngineFailedError(f"Engine '{self._trip.entry.model.id}': {error}."))
        except Exception:
            log.exception("fault in answering %s", exchange.path, extra={"fields": exchange.fields()})
            self.cut(InternalError(exchange.request_id))

    def _pass(self) -> None:
        reply = self._reply
        headers = passing_headers(reply.headers)
        body = self._pending + reply.take()
        if reply.complete and all(name != OF_LENGTH for name, _ in headers):
            headers.append((OF_LENGTH, b"%d" % len(body)))
        self._seen.see(body)
        self._send_head(headers, body)
        if reply.complete:
            self._end()

    def _go_on(self) -> None:
        reply = self._reply
        data = reply.take()
        if data and self._frames is not None:
            data = self._trip.entry.access.blotted(self._frames.feed(data))
        if data:
            self._seen.see(data)
            self._write(data)
        if reply.complete:
            if self._frames is not None and (rest := self._frames.rest()):
                self._write(rest)
            self._end()
        elif reply.failure:
            self._fail(broke_off(self._trip.entry.model.id))

    def _send_head(self, headers: Headers, body: bytes = b"") -> None:
        exchange = self._trip.exchange
        exchange.status, exchange.first_byte = self._reply.status, perf_counter()
        if exchange.standing:  # an upstream's own are about the gateway's key, and not the client's
            headers = [each for each in headers if not each[0].startswith(STANDING_PREFIX)]
        headers = [*self._client.headers, *headers, *exchange.own_headers()]
        self._chunked = all(name != OF_LENGTH for name, _ in headers)
        if self._chunked:
            headers.append(_CHUNKED)
        self._write_head(headers, b"%x\r\n%s\r\n" % (len(body), body) if self._chunked and body else body)

    def _write_head(self, headers: Headers, body: bytes) -> None:
        self.response_started = True
        if not self.keep_alive:
            headers.append(_CLOSE)
        parts = [STATUS_LINE[self._trip.exchange.status]]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n", body)
        self._transport.write(b"".join(parts))

    def _write(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    def _fail(self, error: GatewayError) -> None:
        """Says why there is no answer, or no more of it."""
        exchange = self._trip.exchange
        exchange.note = exchange.note or error.message
        if not self.response_started:
            body = error.body()
            exchange.status, exchange.first_byte = error.status, perf_counter()
            headers = [*self._client.headers, *error.headers(), (OF_LENGTH, b"%d" % len(body))]
            self._write_head([*headers, *exchange.own_headers()], body)
        elif self._frames is not None:
            self._write(self._frames.broken(error))
        else:
            self._close()
            self._transport.abort()
            return
        self._end()

    def _end(self) -> None:
        """The answer is complete."""
        if self._chunked:
            self._transport.write(b"0\r\n\r\n")
        self._close()
        if not self.keep_alive:
            self._transport.close()
        self._lane.metrics.fast_lane.inc()
        self._client.on_end()

    def _close(self) -> None:
        self.response_complete = True
        self._give_back()
        self._trip.exchange.usage = self._seen.usage()
        self._trip.exchange.finish(self._lane.metrics)

    def _give_back(self) -> None:
        trip, hold = self._trip, self._lane.hold
        trip.held.close()
        hold.book.change(trip.entry.place, self._figure, -1)
        hold.call(trip.entry.place)
        self._lane.metrics.in_flight(trip.exchange.route).inc(-1)
