"""One request on the fast lane, from the engine being asked to the last byte of the answer.

It is told of its answer by the engine's connection and writes to the client's, with no task between. While
nothing has been sent, a request that the engine would not take or broke off from goes back to the ordinary
routes, which know of retries and waiting. To uvicorn it looks like its own request in progress.
"""

import asyncio
import logging
from time import perf_counter
from typing import Final, Protocol

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from roundhouse_gateway.endpoints import Fault
from roundhouse_gateway.errors import GatewayError, InternalError
from roundhouse_gateway.relay import MAX_ERROR_BYTES, engine_error
from roundhouse_gateway.text.answer import broke_off, stream_headers
from roundhouse_gateway.text.answer_head import OF_LENGTH, AnswerHead, lines_of
from roundhouse_gateway.text.client_side import Client
from roundhouse_gateway.text.connection import Connection
from roundhouse_gateway.text.engines import simple_request
from roundhouse_gateway.text.frames import Frames
from roundhouse_gateway.text.trip import Trip
from roundhouse_gateway.text.usage import UsageReader, usage_in
from roundhouse_gateway.usage import Usage

log = logging.getLogger("roundhouse.gateway")

_CLOSE: Final = b"connection: close\r\n"
_CHUNKED: Final = b"transfer-encoding: chunked\r\n"


class Reader(Protocol):
    """Hears what an answer that comes in pieces says of what it has used."""

    def see(self, data: bytes) -> None: ...

    def usage(self) -> Usage: ...


class Passage(Trip):
    """From here to the engine and back: of JSON, as long as nothing else is said."""

    message_event = asyncio.Event()
    """Which uvicorn sets for those who wait for a request's body; here nobody does."""

    _client: Client
    _transport: asyncio.Transport
    heard = 0.0
    paused = False
    _frames: Frames | None = None
    _seen: Reader | None = None
    _chunked = False
    _pending = b""
    # What uvicorn looks at in a request in progress.
    keep_alive = True
    response_started = False
    response_complete = False
    disconnected = False

    def start(self, client: Client, *, keep_alive: bool) -> None:
        self._client, self._transport = client, client.transport
        self.keep_alive = keep_alive
        self.heard = client.loop.time()
        if self.kept is not None:
            self._ask(self.kept)

    def _ask(self, connection: Connection) -> None:
        connection.ask(simple_request(self.stop.head, self.exchange.request_id, self.sent), self)
        self.sent = b""  # engines take seconds: meanwhile one copy of the body is enough

    def pause(self) -> None:
        """The client takes nothing just now."""
        self.paused = True
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        self.paused = False
        self.heard = self._client.loop.time()
        if self.connection is not None:
            self.connection.resume()

    def leave(self) -> None:
        """The client has left."""
        if not self.response_complete:
            self.abandon()
            self.exchange.client_left()
            self._close()

    def cut(self, error: GatewayError) -> None:
        """Ends it, whatever the engine does."""
        if not self.response_complete:
            self.abandon()
            self._fail(error)

    def out_of_patience(self) -> None:
        self.cut(
            self._broke_off()
            if self.response_started
            else self.lane.engines.tours.failed(
                self.way.entry, "timeout", at=self.stop.base_url, sent=self.exchange.started
            )
        )

    def _broke_off(self) -> GatewayError:
        return broke_off(self.way.entry.model.id)

    @override
    def on_news(self) -> None:
        if not self.complete:
            self.heard = self._client.loop.time()
        try:
            if self.response_started:
                self._go_on()
            elif self.head.status == 0:
                self._return()
            else:
                self._begin()
        except Exception:
            exchange = self.exchange
            log.exception("fault in answering %s", exchange.path, extra={"fields": exchange.fields()})
            self.cut(InternalError(exchange.request_id))

    def _begin(self) -> None:
        """The head has come, and perhaps all of it. Nothing is sent yet."""
        head = self.head
        engines = self.lane.engines
        engines.load.told(self.stop.base_url, head.load)
        if head.reason:
            self._return()
        elif not head.is_good:
            self._refuse()
        elif not (self.parts or self._pending or self.complete):
            if self.failure:  # with nothing sent: another endpoint may answer
                self._return()
        elif head.is_event_stream:
            self._stream(head)
        elif self.failure:
            self._fail(self._broke_off())
        else:
            self._pass(head)

    def _stream(self, head: AnswerHead) -> None:
        self._frames = Frames()
        self.streams()
        self._chunked = True
        self._send_head(lines_of(stream_headers(head.passing_to(self.exchange.standing))))
        self._go_on()

    def _return(self) -> None:
        """To the ordinary routes."""
        self.abandon()
        self.response_complete = True
        self.hand_over()
        self._client.take_back(self, keep_alive=self.keep_alive, broke_off=bool(self.failure))

    def _refuse(self) -> None:
        """The engine's own error, once it is whole."""
        entry = self.way.entry
        self._pending += self.take()
        if self.failure:
            self._fail(broke_off(entry.model.id))
        elif self.complete or len(self._pending) > MAX_ERROR_BYTES:
            self.abandon()
            if self.head.is_fault:
                self._tell_failure("error")
            said = self._pending[:MAX_ERROR_BYTES]
            self._fail(
                self._told(engine_error(self.status, entry.model.id, self.headers, said, entry.access))
            )

    def _tell_failure(self, fault: Fault) -> None:
        endpoints, exchange = self.lane.engines.endpoints, self.exchange
        endpoints.failed(self.way.entry, self.stop.base_url, fault, exchange.started)

    def _told(self, error: GatewayError) -> GatewayError:
        """What the client hears of the engine's own error."""
        return error

    def _pass(self, head: AnswerHead) -> None:
        """What has come of a good answer, if it is to pass as it is."""
        body = self.take()
        if self._pending:
            body = self._pending + body
        if self.complete:
            self.exchange.usage = self._usage_of(body)
        else:
            self._see(body)
        length = len(body) if self.complete else head.length
        self._chunked = length is None
        self._send_head(head.lines_to(self.exchange.standing), body, length)
        if self.complete:
            self._end()

    def _go_on(self) -> None:
        data = self.take()
        if data and self._frames is not None:
            data = self.way.entry.access.blotted(self._frames.feed(data))
        if data:
            self._see(data)
            self._write(data)
        if self.complete:
            if self._frames is not None and (rest := self._frames.rest()):
                self._write(self.way.entry.access.blotted(rest))
            self._end()
        elif self.failure:
            self._fail(self._broke_off())

    def _send_head(self, lines: bytes, body: bytes = b"", length: int | None = None) -> None:
        exchange = self.exchange
        exchange.status, exchange.first_byte = self.head.status, perf_counter()
        self.response_started = True
        if length is not None:
            framing = b"content-length: %d\r\n" % length
        else:
            framing, body = _CHUNKED, b"%x\r\n%s\r\n" % (len(body), body) if body else body
        standing = exchange.standing
        said = b"%s%s%s%sx-request-id: %s\r\n%s%s%s\r\n%s" % (
            STATUS_LINE[exchange.status],
            self._client.default_lines(),
            lines,
            framing,
            exchange.request_id.encode(),
            b"" if standing is None else standing.lines(),
            self.way.model_line,
            b"" if self.keep_alive else _CLOSE,
            body,
        )
        if self.complete and self.keep_alive and length is not None:  # so that nothing is written behind it
            self.lane.writes.add(self._transport, said)
        else:
            self._transport.write(said)

    def _see(self, data: bytes) -> None:
        if self._seen is None:
            self._seen = self._reader()
        self._seen.see(data)

    def _usage_of(self, body: bytes) -> Usage:
        """Of a whole answer."""
        return usage_in(body)

    def _reader(self) -> Reader:
        return UsageReader()

    def _write(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    def _fail(self, error: GatewayError) -> None:
        """Says why there is no answer, or no more of it."""
        exchange = self.exchange
        if self.failure:
            self._tell_failure("broken")
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
        lane = self.lane
        if lane.engines.ejections.troubled and self.complete and not self.head.is_fault:
            lane.engines.endpoints.answered(self.way.entry, self.stop.base_url, self.exchange.started)
        lane.metrics.fast_lane.inc()
        self._client.answered()

    def _close(self) -> None:
        self.response_complete = True
        self.give_back()
        if self._seen is not None:
            self.exchange.usage = self._seen.usage()
        self.exchange.finish(self.lane.metrics, self.fare.tally)
