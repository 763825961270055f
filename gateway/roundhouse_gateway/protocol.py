"""HTTP as clients speak it, where uvicorn's protocol falls short of it.

An offer to change the protocol (`Upgrade: h2c`, which Java's client makes with its first request) is passed
over and the request answered as it is; left to itself the parser takes the offer for the end of HTTP, and the
body is lost. What is no HTTP at all is refused in the shape of every other error.
"""

import httptools
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from roundhouse_gateway.errors import NotHttpError

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


class ClientProtocol(HttpToolsProtocol):
    """One connection of a client."""

    _is_silent = False

    @override
    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            while data:
                data = self._feed(data)
        except httptools.HttpParserError:
            self.logger.warning("What came from %s is not HTTP.", self.client)
            self.send_400_response("")

    def _feed(self, data: bytes) -> bytes:
        """Takes what it can; the rest, where an offer to change the protocol stopped the parser."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._expect_body()
            return data[offer.args[0] :]
        return b""

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
            super().on_message_begin()

    @override
    def on_url(self, url: bytes) -> None:
        if not self._is_silent:
            super().on_url(url)

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_silent:
            super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        if not self._is_silent:
            super().on_headers_complete()

    @override
    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    @override
    def send_400_response(self, msg: str) -> None:
        error = NotHttpError("The request is not HTTP/1.1 as it should be.")
        body = error.body()
        head = [*error.headers(), (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        lines = b"".join(b"%s: %s\r\n" % each for each in head)
        self.transport.write(STATUS_LINE[400] + lines + b"\r\n" + body)
        self.transport.close()
