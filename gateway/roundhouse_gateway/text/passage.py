"""One request on the fast lane, from the engine being asked to the last byte of the answer.

It is told of its answer by the engine's connection and writes to the client's, with no task between. While
nothing has been sent, a request that the engine would not take or broke off from goes back to the ordinary
routes, which know of retries and waiting. To uvicorn it looks like its own request in progress.
"""

import asyncio
import logging
from time import perf_counter
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from roundhouse_api.enums import RouteName
from roundhouse_gateway.errors import EngineFailedError, GatewayError, InternalError
from roundhouse_gateway.relay import MAX_ERROR_BYTES, engine_error
from roundhouse_gateway.text.answer import broke_off, stream_headers
from roundhouse_gateway.text.answer_head import OF_LENGTH, AnswerHead, lines_of
from roundhouse_gateway.text.client_side import Client
from roundhouse_gateway.text.connection import Reply
from roundhouse_gateway.text.engines import simple_request
from roundhouse_gateway.text.frames import Frames
from roundhouse_gateway.text.lane import Lane
from roundhouse_gateway.text.trip import Trip
from roundhouse_gateway.text.usage import UsageReader
from roundhouse_gateway.text.vectors import MAX_BYTES, WRONG, converted, is_in_form

log = logging.getLogger("roundhouse.gateway")

_CLOSE: Final = b"connection: close\r\n"
_CHUNKED: Final = b"transfer-encoding: chunked\r\n"


class Passage:
    """From here to the engine and back."""

    message_event = asyncio.Event()
    """Which uvicorn sets for those who wait for a request's body; here nobody does."""

    def __init__(self, lane: Lane, trip: Trip, client: Client, *, keep_alive: bool) -> None:
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
        self.paused = False
        self.heard = client.loop.time()
        # What uvicorn looks at in a request in progress.
        self.keep_alive = keep_alive
        self.response_started = False
        self.response_complete = False
        self.disconnected = False

    def start(self) -> None:
        trip = self._trip
        trip.way.in_flight.inc()
        trip.connection.ask(simple_request(trip.stop.head, trip.exchange.request_id, trip.sent), self._reply)

    def pause(self) -> None:
        """The client takes nothing just now."""
        self.paused = True
        if self._reply.connection is not None:
            self._reply.connection.pause()

    def resume(self) -> None:
        self.paused = False
        self.heard = self._client.loop.time()
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
            self._broke_off()
            if self.response_started
            else self._lane.engines.tours.failed(self._trip.way.entry, "timeout")
        )

    def _broke_off(self) -> GatewayError:
        return broke_off(self._trip.way.entry.model.id)

    def _on_news(self) -> None:
        self.heard = self._client.loop.time()
        try:
            if self.response_started:
                self._go_on()
            elif self._reply.head.status == 0:
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
        head = reply.head
        self._lane.engines.load.told(self._trip.stop.base_url, head.load)
        if head.reason:
            self._return()
        elif not head.is_good:
            self._refuse()
        elif not (reply.parts or self._pending or reply.complete):
            if reply.failure:  # with nothing sent: another endpoint may answer
                self._return()
        elif head.is_event_stream:
            self._stream(head)
        elif reply.failure:
            self._fail(self._broke_off())
        elif self._trip.way.route is not RouteName.EMBEDDINGS or self._is_as_asked():
            self._pass(head)

    def _stream(self, head: AnswerHead) -> None:
        self._frames = Frames()
        self._trip.streams()
        self._chunked = True
        self._send_head(lines_of(stream_headers(head.passing_to(self._trip.exchange.standing))))
        self._go_on()

    def _return(self) -> None:
        """To the ordinary routes."""
        self._reply.abandon()
        self.response_complete = True
        self._give_back()
        self._client.take_back(self._trip, keep_alive=self.keep_alive, broke_off=bool(self._reply.failure))

    def _refuse(self) -> None:
        """The engine's own error, once it is whole."""
        reply, entry = self._reply, self._trip.way.entry
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
            self._fail(self._broke_off())
        elif reply.complete:
            self._changing = self._client.loop.create_task(self._change())
        return False

    async def _change(self) -> None:
        """Sends the vectors in the other form, unless the client has left meanwhile."""
        reply, exchange = self._reply, self._trip.exchange
        body = b"".join(self._to_change)
        self._seen.see(body)
        try:
            changed = await converted(body, self._trip.request.encoding)
            if not self.response_complete:
                self._send_head(reply.head.lines_to(exchange.standing), changed, len(changed))
                self._end()
        except WRONG as error:
            self.cut(EngineFailedError(f"Engine '{self._trip.way.entry.model.id}': {error}."))
        except Exception:
            log.exception("fault in answering %s", exchange.path, extra={"fields": exchange.fields()})
            self.cut(InternalError(exchange.request_id))

    def _pass(self, head: AnswerHead) -> None:
        reply = self._reply
        body = reply.take()
        if self._pending:
            body = self._pending + body
        self._seen.see(body)
        length = len(body) if reply.complete else head.length
        self._chunked = length is None
        self._send_head(head.lines_to(self._trip.exchange.standing), body, length)
        if reply.complete:
            self._end()

    def _go_on(self) -> None:
        reply = self._reply
        data = reply.take()
        if data and self._frames is not None:
            data = self._trip.way.entry.access.blotted(self._frames.feed(data))
        if data:
            self._seen.see(data)
            self._write(data)
        if reply.complete:
            if self._frames is not None and (rest := self._frames.rest()):
                self._write(self._trip.way.entry.access.blotted(rest))
            self._end()
        elif reply.failure:
            self._fail(self._broke_off())

    def _send_head(self, lines: bytes, body: bytes = b"", length: int | None = None) -> None:
        trip = self._trip
        exchange = trip.exchange
        exchange.status, exchange.first_byte = self._reply.head.status, perf_counter()
        self.response_started = True
        if length is not None:
            framing = b"content-length: %d\r\n" % length
        else:
            framing, body = _CHUNKED, b"%x\r\n%s\r\n" % (len(body), body) if body else body
        standing = exchange.standing
        self._transport.write(
            b"%s%s%s%sx-request-id: %s\r\n%s%s%s\r\n%s"
            % (
                STATUS_LINE[exchange.status],
                self._client.default_lines(),
                lines,
                framing,
                exchange.request_id.encode(),
                b"" if standing is None else standing.lines(),
                trip.way.model_line,
                b"" if self.keep_alive else _CLOSE,
                body,
            )
        )

    def _write(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    def _fail(self, error: GatewayError) -> None:
        """Says why there is no answer, or no more of it."""
        exchange = self._trip.exchange
        exchange.note = exchange.note or error.message
        if not self.response_started:
            body = error.body()
            exchange.status, exchange.first_byte = error.status, perf_counter()
            self.response_started, self._chunked = True, False
            headers = [*error.headers(), (OF_LENGTH, b"%d" % len(body)), *exchange.own_headers()]
            head = STATUS_LINE[error.status] + self._client.default_lines() + lines_of(headers)
            self._transport.write(head + (b"" if self.keep_alive else _CLOSE) + b"\r\n" + body)
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
        self._client.answered()

    def _close(self) -> None:
        self.response_complete = True
        self._give_back()
        self._trip.exchange.usage = self._seen.usage()
        self._trip.exchange.finish(self._lane.metrics)

    def _give_back(self) -> None:
        self._trip.give_back()
        self._trip.way.in_flight.inc(-1)
