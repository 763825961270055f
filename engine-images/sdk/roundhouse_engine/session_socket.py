"""The WebSocket of a session's client, as uvicorn is to run it: read from soon, and known to be gone.

A client's pings stand behind the audio that it has sent before, and the kernel would keep megabytes of that,
minutes, for an engine that has enough for now.
"""

import asyncio
import socket
import sys
from typing import Any, Final, cast

from starlette.types import Scope
from typing_extensions import override
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets import http11

from roundhouse_engine.unread import Unread

_MESSAGE_BYTES: Final = 1 << 20
"""The longest message of a client."""
UNREAD_BYTES: Final = 128 << 10
"""What the kernel is to keep of what is not read; it takes about twice of that."""
# While the engine has enough of a session's audio, the client's pings stand unanswered behind the rest of it:
# its own tell the client that it lives. The answers are as late, so none is waited for.
_PING_SECONDS: Final = 5.0
_GONE: Final = "roundhouse.gone"


class SessionSocket(Unread, WebSocketsSansIOProtocol):
    """One client's connection, from its handshake on."""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._gone = asyncio.Event()
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD_BYTES)
        super().connection_made(transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Of one that is not read from it is a ping that cannot be sent which tells."""
        self._gone.set()
        super().connection_lost(exc)

    @override
    async def run_asgi(self) -> None:
        scope: Any = self.scope
        scope[_GONE] = self._gone
        await super().run_asgi()


def websockets() -> dict[str, Any]:
    """For uvicorn's configuration.

    Heads are as long as its parser of HTTP has let pass, which answers longer ones: of its refusal of these
    nobody would be told.
    """
    http11.MAX_LINE_LENGTH = http11.MAX_NUM_HEADERS = sys.maxsize
    return {
        "ws": SessionSocket,
        "ws_max_size": _MESSAGE_BYTES,
        "ws_per_message_deflate": False,
        "ws_ping_interval": _PING_SECONDS,
        "ws_ping_timeout": None,
    }


def gone_of(scope: Scope) -> asyncio.Event:
    """Set once the client's connection is gone; never, where another server has it."""
    return cast("asyncio.Event", scope.get(_GONE) or asyncio.Event())
