"""A wire without a socket, and one connection of a client on it to a listener with a small application."""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from typing_extensions import override
from uvicorn.server import ServerState

from roundhouse_gateway.protocol import ClientProtocol, ConnectionLimits, limited
from roundhouse_gateway.realtime.client_socket import websockets
from roundhouse_gateway.series import Value
from roundhouse_gateway.text.asking import Asking
from roundhouse_gateway.text.lane import NotHereError
from roundhouse_gateway.text.protocol import fast
from roundhouse_gateway.text.writes import Writes
from tests.unit.gateway.waiting import turns

LIMITS = ConnectionLimits(connections=100, head_bytes=65_536, head_seconds=20)
KEEP_ALIVE_SECONDS = 0.5


class NoSocket:
    """What is under the connection."""

    def setsockopt(self, *_: int) -> None:
        """Nothing is to be set."""

    def getpeername(self) -> None:
        """Nobody is there."""

    def getsockname(self) -> str:
        return "nowhere"


class Wire(asyncio.Transport):
    """What the gateway does to a connection, its client's or its engine's."""

    def __init__(self) -> None:
        super().__init__({"socket": NoSocket()})
        self.sent = b""
        self.closed = False
        self.protocol: asyncio.BaseProtocol | None = None

    @override
    def write(self, data: Any) -> None:
        self.sent += data

    @override
    def can_write_eof(self) -> bool:
        return False

    @override
    def is_closing(self) -> bool:
        return self.closed

    @override
    def close(self) -> None:
        self.closed = True

    @override
    def abort(self) -> None:
        self.closed = True

    @override
    def pause_reading(self) -> None:
        """Nothing is read here that was not fed."""

    @override
    def resume_reading(self) -> None:
        """As above."""

    @override
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol


class NoLane:
    """A fast lane that takes nothing, and knows what it was asked for: keys and bodies."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self.writes = Writes()

    @property
    def asked(self) -> int:
        return len(self.requests)

    def plan(self, asking: Asking, body: bytes, _client: str) -> None:
        self.requests.append((asking.key_text, body))
        raise NotHereError


@dataclass
class Line:
    """The connection. `/slow` answers one half at once, the other once `gate` is set."""

    wire: Wire = field(default_factory=Wire)
    lane: NoLane | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)
    bodies: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Of POST requests: the length that was announced, and what came."""

    def __post_init__(self) -> None:
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            proxy_headers=False,
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,  # type: ignore[arg-type]  # parts of seconds do as well
            **websockets(Value()),
        )
        config.load()
        made = limited(LIMITS, Value())
        if self.lane is not None:
            made = fast(made, self.lane)  # type: ignore[arg-type]
        self.protocol: ClientProtocol = made(config=config, server_state=ServerState(), app_state={})
        self.protocol.logger = logging.getLogger("test")
        self.protocol.connection_made(self.wire)
        self.wire.protocol = self.protocol

    async def feed(self, *pieces: bytes) -> bytes:
        """What comes back at once."""
        before = len(self.wire.sent)
        for piece in pieces:
            self.protocol.data_received(piece)
        await turns()
        return self.wire.sent[before:]

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope["path"])
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            return
        if scope["method"] == "POST":
            body, more = b"", True
            while more:
                message = await receive()
                body, more = body + message["body"], message["more_body"]
            self.bodies.append((dict(scope["headers"])[b"content-length"], body))
        if scope["path"] == "/slow":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            await self.gate.wait()
            await send({"type": "http.response.body", "body": b"two"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
