"""HTTP as clients speak it, where uvicorn's protocol falls short of it.

Heads have a size, and a time within which they must have come, because uvicorn waits for them for ever and
keeps them whole; bodies have theirs in `upload`. An offer to change the protocol (`Upgrade: h2c`, which
Java's client makes with its first request) is passed over and the request answered as it is, unless it is a
WebSocket's handshake; left to itself the parser takes the offer for the end of HTTP, and the body is lost.
What is no HTTP at all is refused in the shape of every other error.
"""

import asyncio
from dataclasses import dataclass

import httptools
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from roundhouse_gateway.connection_errors import (
    ExpectationError,
    FullError,
    HeadTimeoutError,
    HeadTooLargeError,
    NotHttpError,
)
from roundhouse_gateway.errors import CLOSE, GatewayError
from roundhouse_gateway.request_ids import new_request_id
from roundhouse_gateway.series import Value
from roundhouse_gateway.unframed import without_chunks

LINGER_SECONDS = 3.0
"""How long a client that was refused may go on sending before its connection is cut."""

_VERSIONS = frozenset({"1.0", "1.1"})
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one connection, and all of them together, may ask of a listener."""

    connections: int
    head_bytes: int
    head_seconds: float


def limited(limits: ConnectionLimits, count: Value) -> "type[ClientProtocol]":
    """The protocol under these limits, as uvicorn wants it: a class. `count` has the open connections."""
    return type("LimitedClientProtocol", (ClientProtocol,), {"limits": limits, "count": count})


class ClientProtocol(HttpToolsProtocol):
    """One connection of a client."""

    limits: ConnectionLimits
    count: Value
    _is_silent = False
    _in_head = True
    _head_bytes = 0
    _bytes_of_no_body = 0
    """Since a message began or had a part of its body: a head, trailers, or what stands around chunks.

    What came in one piece with a beginning is not counted, so a head may be longer by one such piece.
    """
    _head_timer: asyncio.TimerHandle | None = None
    _refusal: GatewayError | None = None
    _refused = False

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.count.inc()
        super().connection_made(transport)
        if len(self.connections) + self.count.elsewhere() > self.limits.connections:
            self._refuse(FullError(self.limits.connections))
            return
        self._await_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.count.inc(-1)
        self._head_has_come()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self._refused:
            return  # read and dropped: closing on what is unread would take the answer from the client
        self._bytes_of_no_body += len(data)
        try:
            while data:
                data = self._feed(data)
        except httptools.HttpParserError as error:
            self._refuse(self._refusal or NotHttpError(str(error).rstrip(".") or "it cannot be read"))
            return
        if self._bytes_of_no_body > self.limits.head_bytes and self._in_head:
            self._refuse(HeadTooLargeError(self.limits.head_bytes))
        elif self._bytes_of_no_body > 2 * self.limits.head_bytes:
            self.transport.abort()  # trailers without end: whatever was asked is being answered already

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_head:  # of the next request, which has a clock of its own
            self._unset_keepalive_if_required()

    @override
    def _should_upgrade(self) -> bool:
        """Only for what is a WebSocket's handshake: else the offer is passed over as any other."""
        names = {name for name, _ in self.headers}
        has_body = any(name in _FRAMING and value != b"0" for name, value in self.headers)
        is_handshake = self.parser.get_method() == b"GET" and b"sec-websocket-key" in names and not has_body
        return is_handshake and super()._should_upgrade()

    def _await_head(self) -> None:
        self._head_has_come()
        self._head_timer = self.loop.call_later(self.limits.head_seconds, self._on_head_late)

    def _head_has_come(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_head_late(self) -> None:
        if self.flow.read_paused:  # ours is the delay: an earlier request is still being answered
            self._await_head()
        else:
            self._refuse(HeadTimeoutError(self.limits.head_seconds))

    def _refuse(self, error: GatewayError) -> None:
        """Answers, where nothing else is to be answered before, and ends the connection."""
        if self._refused:
            return
        self._head_has_come()
        if error.status == 400:
            self.logger.warning("What came from %s is not HTTP.", self.client)
        if self._may_answer():
            body = error.body()
            request_id = (b"x-request-id", new_request_id().encode())
            length = (b"content-length", b"%d" % len(body))
            head = [*error.headers(), request_id, length, CLOSE]
            lines = b"".join(b"%s: %s\r\n" % each for each in head)
            self.transport.write(STATUS_LINE[error.status] + lines + b"\r\n" + body)
            if self.transport.can_write_eof():  # not under TLS
                self.transport.write_eof()
            self._refused = True
            if self.cycle is not None:  # begun on a body that is now known to be none: nobody is to answer it
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            self.loop.call_later(LINGER_SECONDS, self.transport.abort)
        else:
            self.transport.close()

    def _may_answer(self) -> bool:
        current: RequestResponseCycle | None = self.cycle
        if current is None or current.response_complete:
            return True
        return not (self._in_head or self.pipeline or current.response_started)

    def _feed(self, data: bytes) -> bytes:
        """Takes what it can; the rest, where an offer to change the protocol stopped the parser."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if self._should_upgrade():
                self._take_handshake()
                return b""  # nothing may follow before that is answered
            self._expect_body()
            return data[offer.args[0] :]
        return b""

    def _take_handshake(self) -> None:
        """Behind a request that runs it is none: the connection is not to be handed over within an answer."""
        current: RequestResponseCycle | None = self.cycle
        if current is None or current.response_complete:
            self.handle_websocket_upgrade()
            return
        current.keep_alive = False  # the last that was begun: its answer ends the connection
        self._refused = True

    def _expect_body(self) -> None:
        """Has a fresh parser stand where the one that stopped should: after the head of this request."""
        framing = [b"%s: %s\r\n" % each for each in self.headers if each[0] in _FRAMING]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._is_silent = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % b"".join(framing))
        self._is_silent = False

    @override
    def on_message_begin(self) -> None:
        if not self._is_silent:
            self._unset_keepalive_if_required()  # here alone: empty lines and unread bodies are no request
            self._in_head, self._head_bytes, self._bytes_of_no_body = True, 0, 0
            if self._head_timer is None:
                self._await_head()
            super().on_message_begin()

    @override
    def on_url(self, url: bytes) -> None:
        if not self._is_silent:
            self._count(len(url))
            super().on_url(url)

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_silent:
            self._count(len(name) + len(value) + 4)
            super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        if not self._is_silent:
            self._check_head()
            self._in_head = False
            self._head_has_come()
            before = self.cycle
            super().on_headers_complete()
            if self.cycle is not before and self.scope["http_version"] == "1.0":
                without_chunks(self.cycle)

    @override
    def on_body(self, body: bytes) -> None:
        self._bytes_of_no_body = 0
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            self._bytes_of_no_body = 0
            super().on_message_complete()
            if self.cycle.response_complete:  # before its body had come, so that the wait begins now
                self._await_next()

    def _await_next(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _check_head(self) -> None:
        """What the parser lets through and others along the way may read in another way."""
        version, hosts, sound = self.parser.get_http_version(), 0, True
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                sound = sound and value.lower() == b"chunked"
            elif name == b"expect" and value.lower() != b"100-continue":
                self._refusal = ExpectationError(value.decode("latin-1"))
        if not sound:
            self._refusal = NotHttpError("`Transfer-Encoding` may be `chunked`, and nothing else")
        elif version not in _VERSIONS:
            self._refusal = NotHttpError(f"it says that it is HTTP/{version}")
        elif hosts > 1 or (not hosts and version == "1.1"):
            self._refusal = NotHttpError(f"it has {hosts} headers `Host`, and there is to be one")
        if self._refusal is not None:
            raise self._refusal

    def _count(self, count: int) -> None:
        """Bytes of the head, which may come whole in one piece; raising stops the parser."""
        self._head_bytes += count
        if self._head_bytes > self.limits.head_bytes:
            self._refusal = HeadTooLargeError(self.limits.head_bytes)
            raise self._refusal
