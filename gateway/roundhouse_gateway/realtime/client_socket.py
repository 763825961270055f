"""WebSockets of clients on the server's side, as uvicorn is to run them.

`websockets-sansio` takes least for each frame of the implementations that uvicorn has, reads no message
before the last one was taken, and answers pings itself. What it lacks is an end with a reason: it cuts all
connections off once the listener is to end, where sessions here are told, and end by themselves. It takes a
pong alone for life, which stands behind all audio that the client has sent before, and the client's own pings
may stand behind as much as the kernel likes. And it says nothing at all to a handshake whose head its parser
refuses.

Where a session's messages are passed on as they are, a `Taker` gets them at once and whole, without the
application being woken for each. Then only what stands in other frames than a whole message of audio is
`websockets`' affair; it is told of all the rest, so that its state stays true.
"""

import asyncio
import socket
import sys
from typing import Any, Final, Protocol, cast

from starlette.types import Scope
from typing_extensions import override
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets import http11
from websockets.frames import CloseCode
from websockets.protocol import OPEN

from roundhouse_gateway.realtime.wire import BINARY, MASKED, Frames
from roundhouse_gateway.series import Value

MESSAGE_BYTES: Final = 16 << 20
"""OpenAI's clients may send 15 MiB in one event."""
PING_SECONDS: Final = 20.0
UNREAD_BYTES: Final = 128 << 10
"""What the kernel is to keep of a client that is not read from; it takes about twice of that. Left to itself
it keeps megabytes, minutes of audio, and a ping of the client behind them is answered too late.
"""
_SOCKET: Final = "roundhouse.socket"


class Taker(Protocol):
    """Who is told at once of what a client says, and of how it takes what it is told."""

    def audio(self, frame: bytes) -> None:
        """A whole message in one frame, masked as the client has it."""
        ...

    def message(self, data: bytes, *, is_text: bool) -> None:
        """Any other message."""
        ...

    def too_long(self) -> None:
        """A frame of more than it may have."""
        ...

    def client_full(self) -> None:
        """It takes nothing more just now."""
        ...

    def client_free(self) -> None: ...


class ClientSocket(WebSocketsSansIOProtocol):
    """One connection of a client. It was counted when it was made, and still spoke HTTP."""

    count = Value()
    _has_sent = False
    """Anything, since the last ping."""
    _is_early = False
    """It spoke before it was let in."""
    _taker: Taker | None = None
    _frames = Frames(0)
    _pong = b""
    """Is owed to a client that takes nothing just now."""

    @property
    def said_close(self) -> int | None:
        """The code of the client's close frame, 1005 where that had none; None where none has come."""
        return None if self.conn.close_rcvd is None else self.conn.close_rcvd.code

    def take(self, taker: Taker, most: int) -> bool:
        """Whether messages of up to so many bytes go to the taker from here on, once it was let in."""
        if self._is_early or self.conn.state is not OPEN or self.transport.is_closing():
            return False
        self._taker, self._frames = taker, Frames(most)
        if not self.writable.is_set():
            taker.client_full()
        return True

    def release(self) -> None:
        """Messages go to the application again."""
        self._taker = None
        rest = self._frames.rest()
        if rest and not self.disconnected:
            super().data_received(rest)

    def write(self, frame: bytes) -> None:
        """A whole frame, as servers send it. Behind the session's end it is dropped."""
        if self.conn.state is OPEN and not self.transport.is_closing():
            self.transport.write(frame)

    def pause(self) -> None:
        """Has the client wait."""
        if not (self.read_paused or self.transport.is_closing()):
            self.read_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.read_paused and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD_BYTES)
        super().connection_made(transport)

    @override
    def data_received(self, data: bytes) -> None:
        self._has_sent = True
        if self._taker is not None:
            self._pass_on(self._taker, data)
            return
        self._is_early = self.handshake_initiated
        super().data_received(data)
        if not self.handshake_initiated:  # what comes first is the whole of its head
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def _pass_on(self, taker: Taker, data: bytes) -> None:
        for frame in self._frames.feed(data):
            if frame[0] == BINARY and frame[1] >= MASKED and self.conn.current_size is None:
                taker.audio(frame)
            else:
                super().data_received(frame)
                if self.transport.is_closing():
                    return  # it was a close, or a fault: what stands behind it is heard by nobody
        if self._frames.too_long:
            taker.too_long()

    @override
    def send_receive_event_to_app(self) -> None:
        taker, is_text = self._taker, self.curr_msg_data_type == "text"
        whole = b"".join(self.frames)
        if self.close_sent:
            super().send_receive_event_to_app()
        elif is_text and not _is_utf8(whole):  # a fault of the client's, and no line in the log
            if self.conn.state is OPEN:  # a close that stands behind it is answered already
                self.conn.send_close(CloseCode.INVALID_DATA, "not UTF-8")
            self.handle_parser_exception()
        elif taker is None:
            super().send_receive_event_to_app()
        else:
            self.frames = []
            taker.message(whole, is_text=is_text)

    @override
    def handle_ping(self) -> None:
        """Of the pings of a client that takes nothing the last is answered, once it does."""
        if self.writable.is_set() or self.conn.state is not OPEN:
            super().handle_ping()
        else:
            self._pong = next(filter(None, reversed(self.conn.data_to_send())), self._pong)

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        if self._taker is not None:
            self._taker.client_full()

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        pong, self._pong = self._pong, b""
        if pong:
            self.write(pong)
        if self._taker is not None:
            self._taker.client_free()

    @override
    async def run_asgi(self) -> None:
        scope: Any = self.scope
        scope[_SOCKET] = self
        await super().run_asgi()

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


def socket_of(scope: Scope) -> ClientSocket | None:
    """The client's connection itself; None where another server has it."""
    return cast("ClientSocket | None", scope.get(_SOCKET))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


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
