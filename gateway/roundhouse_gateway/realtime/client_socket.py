"""WebSockets of clients on the server's side, as uvicorn is to run them.

`websockets-sansio` takes least for each frame of the implementations that uvicorn has, reads no message
before the last one was taken, and answers pings itself. What it lacks is an end with a reason: it cuts all
connections off once the listener is to end, where sessions here are told, and end by themselves. It takes a
pong alone for life, which stands behind all audio that the client has sent before, and the client's own pings
may stand behind as much as the kernel likes. And it says nothing at all to a handshake whose head its parser
refuses.
"""

import asyncio
import socket
import sys
from typing import Any, Final

from typing_extensions import override
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets import http11

from roundhouse_gateway.series import Value

MESSAGE_BYTES: Final = 16 << 20
"""OpenAI's clients may send 15 MiB in one event."""
PING_SECONDS: Final = 20.0
UNREAD_BYTES: Final = 128 << 10
"""What the kernel is to keep of a client that is not read from; it takes about twice of that. Left to itself
it keeps megabytes, minutes of audio, and a ping of the client behind them is answered too late.
"""


class ClientSocket(WebSocketsSansIOProtocol):
    """One connection of a client. It was counted when it was made, and still spoke HTTP."""

    count = Value()
    _has_sent = False
    """Anything, since the last ping."""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD_BYTES)
        super().connection_made(transport)

    @override
    def data_received(self, data: bytes) -> None:
        self._has_sent = True
        super().data_received(data)
        if not self.handshake_initiated:  # what comes first is the whole of its head
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    @override
    def send_keepalive_ping(self) -> None:
        self._has_sent = False
        super().send_keepalive_ping()

    @override
    def keepalive_timeout(self) -> None:
        """Whether a client that is not read from is there still, the kernel finds out."""
        if self.close_sent or not (self.read_paused or self._has_sent):
            super().keepalive_timeout()
            return
        self.pong_timer = self.pending_ping_payload = None
        self.schedule_ping()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.count.inc(-1)
        super().connection_lost(exc)

    @override
    def shutdown(self) -> None:
        """Sessions hear of the drain from `Leaving`, and are over when its time is."""


def websockets(count: Value) -> dict[str, Any]:
    """For uvicorn's configuration. `count` has the open connections, of which these go on to be some.

    Heads are as long and have as many lines as the listener lets pass, which has counted them.
    """
    http11.MAX_LINE_LENGTH = http11.MAX_NUM_HEADERS = sys.maxsize
    return {
        "ws": type("CountedClientSocket", (ClientSocket,), {"count": count}),
        "ws_max_size": MESSAGE_BYTES,
        "ws_per_message_deflate": False,
        "ws_ping_interval": PING_SECONDS,
        "ws_ping_timeout": PING_SECONDS,
    }
