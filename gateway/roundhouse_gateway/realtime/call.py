"""One client's WebSocket, from its handshake to its close frame."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
from starlette.types import Message, Scope, Send

from roundhouse_api.keys import ApiKey
from roundhouse_gateway.errors import GatewayError
from roundhouse_gateway.exchange import Exchange
from roundhouse_gateway.realtime.closing import Ending, close_message
from roundhouse_gateway.realtime.credentials import Credentials
from roundhouse_gateway.realtime.early import Early
from roundhouse_gateway.realtime.tokens import Token


@dataclass(slots=True)
class Call:
    """`key` is the one that the client was let in by, and `token` stands for it, where that was one."""

    scope: Scope
    early: Early
    send: Send
    exchange: Exchange
    credentials: Credentials
    key: ApiKey | None = None
    token: Token | None = None
    accepted: bool = field(default=False, init=False)

    async def accept(self) -> None:
        self.accepted = True
        headers = self.exchange.own_headers()
        subprotocol = self.credentials.subprotocol
        await self.send({"type": "websocket.accept", "headers": headers, "subprotocol": subprotocol})

    async def receive(self) -> Message:
        """What the client says next."""
        return await self.early.receive()

    async def until_gone(self) -> None:
        """While it waits for a place. It is let in for that: few clients wait long for their handshake."""
        try:
            if not self.accepted:
                await self.accept()
        except OSError:
            return
        await self.early.until_gone()

    async def say(self, event: dict[str, Any]) -> None:
        await self.send({"type": "websocket.send", "text": msgspec.json.encode(event).decode()})

    async def end(self, ending: Ending) -> None:
        await self.send(close_message(ending))

    async def deny(self, error: GatewayError) -> None:
        """Instead of the handshake, an HTTP answer in the shape of all others."""
        self.exchange.status, self.exchange.note = error.status, error.message
        start: Message = {
            "type": "websocket.http.response.start",
            "status": error.status,
            "headers": [*error.headers(), *self.exchange.own_headers()],
        }
        await self.send(start)
        await self.send({"type": "websocket.http.response.body", "body": error.body()})


class Route(Protocol):
    """What one path's clients speak."""

    async def serve(self, call: Call) -> Ending:
        """The session, and how it ended; the client is still to be told. Raises `GatewayError` too."""
        ...

    async def end(self, call: Call, ending: Ending) -> None:
        """Tells the client of an end without an error."""
        ...

    async def refuse(self, call: Call, error: GatewayError) -> Ending:
        """There is no session, or no longer; says so as the client understands it."""
        ...
