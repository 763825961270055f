"""The handshake of a WebSocket to an engine: what is asked, and what its answer means.

An answer counts by its head alone; what stands behind the head of a refusal is read by nobody.
"""

import re
from collections.abc import Mapping
from http.client import HTTPException, parse_headers
from io import BytesIO
from typing import Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidMessage, InvalidURI
from websockets.protocol import OPEN
from websockets.uri import parse_uri

_HEAD_BYTES: Final = 64 << 10
_END: Final = b"\r\n\r\n"
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_SWITCHING: Final = 101


class RefusedError(Exception):
    """The engine answered with something else. Names of `headers` are found in any case."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers


class Greeting:
    """Brings `wire` to where messages may be sent. Raises `ConnectionError` for an address that is none."""

    def __init__(self, url: str, headers: Mapping[str, str], longest: int) -> None:
        try:
            uri = parse_uri("ws" + url.removeprefix("http"))
        except InvalidURI as error:
            raise ConnectionError(str(error)) from error
        self.address = uri.host, uri.port
        self.tls = uri.secure
        self.wire = ClientProtocol(uri, max_size=longest)
        asked = self.wire.connect()
        asked.headers.update(headers)
        self.wire.send_request(asked)
        self._head = b""

    def take(self, data: bytes) -> bytes | None:
        """What stands behind the answer's head, once that is whole.

        Raises `RefusedError`, and `ConnectionError` for what is no answer.
        """
        self._head += data
        head, end, behind = self._head.partition(_END)
        if not end:
            if len(head) > _HEAD_BYTES:
                raise ConnectionError("the head of an engine's answer has no end")
            return None
        self._head = b""
        found = _STATUS.match(head + end)
        if found is not None and int(found[1]) != _SWITCHING:
            raise RefusedError(int(found[1]), _headers(head + end))
        self.wire.receive_data(head + end)
        if self.wire.state is OPEN:
            self.wire.events_received()
            return behind
        if isinstance(self.wire.handshake_exc, InvalidMessage):
            raise ConnectionError("an engine's answer is no HTTP")
        raise RefusedError(_SWITCHING, {})


def _headers(head: bytes) -> Mapping[str, str]:
    lines = BytesIO(head)
    lines.readline()
    try:
        found = parse_headers(lines)
    except HTTPException as error:
        raise ConnectionError("the head of an engine's answer is too long") from error
    return {name.lower(): value for name, value in found.items()}
