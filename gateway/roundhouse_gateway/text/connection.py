"""One HTTP/1.1 connection to an engine: a request is written, its answer told of as it comes, then the next.

What is between (interim answers, trailers, chunks) ends here. An answer whose end is the connection's end is
whole when that ends in order; bytes that nobody asked for end the connection.
"""

import asyncio
import re
from collections.abc import Callable
from socket import socket
from typing import Final, Literal, cast

import httptools
from typing_extensions import override

from roundhouse_gateway.errors import Headers
from roundhouse_gateway.text.answer_head import NOTHING_YET, AnswerHead
from roundhouse_gateway.text.heads import Known, known
from roundhouse_gateway.text.writes import Writes

MAX_HEAD_BYTES: Final = 256 << 10

# Without so much as a status it is no HTTP, by anybody's reading.
_STATUS: Final = re.compile(rb"\s*HTTP/\d\.\d \d")

Failure = Literal["", "broken", "unreadable"]


class Reply:
    """An answer as far as it has come. `on_news` is called with its head, and after each further piece."""

    head = NOTHING_YET
    complete = False
    failure: Failure = ""
    connection: "Connection | None" = None

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def on_news(self) -> None:
        """What whoever reads it does then; not called any more once it was abandoned."""
        raise NotImplementedError

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def headers(self) -> Headers:
        return self.head.headers

    def take(self) -> bytes:
        """What of the body has come since this was asked last."""
        parts = self.parts
        if not parts:
            return b""
        self.parts = []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def abandon(self) -> None:
        """Ends an answer that is not wanted to its end; the engine notices."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()


class Connection(asyncio.Protocol):
    """`on_idle` is told when another request may be sent, `on_lost` when none may any more."""

    def __init__(
        self,
        on_idle: "Callable[[Connection], None]",
        on_lost: "Callable[[Connection], None]",
        writes: Writes,
    ) -> None:
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._writes = writes
        self._transport: asyncio.Transport
        self._reply: Reply | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: Headers = []
        self._head_bytes = 0
        self._interim = False
        self._framed = False
        self._in_body = False
        self._keeps = False
        self._surplus = False
        self._begun = 0
        """Messages in the piece that is being read."""
        self._known: Known[AnswerHead] | None = None
        """The head of the last answer, while nothing has come since."""
        self.idle_since = 0.0

    def ask(self, request: bytes, reply: Reply) -> None:
        """Sends a whole request; there is one at a time."""
        self._reply, reply.connection = reply, self
        self._writes.add(self._transport, request)

    def is_open(self) -> bool:
        return not self._transport.is_closing()

    @property
    def socket(self) -> socket | None:
        found: socket | None = self._transport.get_extra_info("socket")
        return found

    def pause(self) -> None:
        if self.is_open():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.is_open():
            self._transport.resume_reading()

    def abort(self) -> None:
        self._reply = None
        self._transport.abort()

    def lose(self) -> None:
        """The engine's host is gone."""
        if self._reply is None:
            self.abort()
        else:
            self._fail(self._reply, "broken")

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:
            self.abort()
            return
        if self._known is not None and (body := self._known.body_of(data)) is not None:
            reply.head = self._known.meaning
            reply.parts.append(body)
            reply.complete = True
            self._tell(reply)
            return
        self._begun = 0
        if not self._in_body:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(reply, "unreadable" if self._has_status(data) else "broken")
            return
        if self._head_bytes > MAX_HEAD_BYTES and not self._in_body:
            self._fail(reply, "broken")
        elif self._in_body or reply.complete:
            if reply.complete and self._begun == 1 and self._keeps:
                self._known = known(data, sum(map(len, reply.parts)), reply.head.of_any_length())
            self._tell(reply)

    def _has_status(self, data: bytes) -> bool:
        """Whether the answer that was not understood had one, whatever the last one's was."""
        if self._begun:
            return _STATUS.match(data) is not None
        return self._parser.get_status_code() > 0

    @override
    def eof_received(self) -> None:
        """The transport closes then, and `connection_lost` decides what that means."""

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost(self)
        reply, self._reply = self._reply, None
        if reply is None or reply.complete:
            return
        if exc is None and self._in_body and not self._framed:
            reply.complete = True
        else:
            reply.failure = "broken"
        reply.connection = None
        reply.on_news()

    def on_message_begin(self) -> None:
        if self._reply is not None and self._reply.complete:
            self._surplus = True  # in the same piece as the answer's end
        self._known = None
        self._begun += 1
        self._headers = []
        self._head_bytes = 0
        self._interim = self._framed = self._in_body = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in {b"content-length", b"transfer-encoding"}:
            self._framed = True
        if not self._in_body:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._interim = True
            return
        self._in_body = True
        if self._reply is not None and not self._surplus:
            self._reply.head = AnswerHead(status, self._headers)

    def on_body(self, body: bytes) -> None:
        if self._reply is not None and not self._surplus:
            self._reply.parts.append(body)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif self._reply is not None and not self._surplus:
            self._reply.complete = True
            self._keeps = self._parser.should_keep_alive()  # which it forgets with the message

    def _tell(self, reply: Reply) -> None:
        if reply.complete:
            self._reply, reply.connection = None, None
            self._in_body = False
            # Before the news: who is told may want to send the next request at once.
            if self._keeps and self.is_open() and not self._surplus:
                self._on_idle(self)
            else:
                self._transport.close()
        reply.on_news()

    def _fail(self, reply: Reply, failure: Failure) -> None:
        reply.failure = failure
        reply.connection = None
        self.abort()
        reply.on_news()
