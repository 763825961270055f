"""Where WebSockets come in: who the client is stands before everything else, and every end is logged.

The key is checked, and its limits, before the handshake is answered. How a refusal is said is the route's
affair: as an HTTP answer, or in a close frame behind a handshake that does nothing else, because browsers
show their pages no other.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.frames import CloseCode

from roundhouse_api.keys import ApiKey
from roundhouse_api.realtime import PATH as NATIVE
from roundhouse_gateway.cors import Pages
from roundhouse_gateway.errors import ClientGoneError, GatewayError, InternalError, RouteNotFoundError
from roundhouse_gateway.exchange import CLIENT_CLOSED_REQUEST, EXCHANGE, Exchange, request_id_of
from roundhouse_gateway.guard import Guard
from roundhouse_gateway.guard_errors import OriginNotAllowedError
from roundhouse_gateway.hops import check_hops, via_onwards
from roundhouse_gateway.key_errors import InvalidKeyError, MissingSessionKeyError
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.proxies import Proxied
from roundhouse_gateway.realtime.call import Call, Route
from roundhouse_gateway.realtime.client_socket import socket_of
from roundhouse_gateway.realtime.closing import GONE, Ending, ending_of
from roundhouse_gateway.realtime.credentials import credentials
from roundhouse_gateway.realtime.early import Room
from roundhouse_gateway.realtime.elevenlabs import PATH as ELEVENLABS
from roundhouse_gateway.realtime.elevenlabs import ElevenLabs
from roundhouse_gateway.realtime.native import Native
from roundhouse_gateway.realtime.openai import PATH as OPENAI
from roundhouse_gateway.realtime.openai import OpenAI
from roundhouse_gateway.realtime.pumps import Bounds, first
from roundhouse_gateway.realtime.sessions import Sessions
from roundhouse_gateway.realtime.tokens import Tokens, find, use
from roundhouse_gateway.traces import Traced, Tracer

log = logging.getLogger("roundhouse.gateway")

METHOD: Final = "WS"
WEBSOCKETS: Final = (NATIVE, OPENAI, ELEVENLABS)
"""All paths of this door."""

_CLOSED: Final[Mapping[int | None, int]] = {
    CloseCode.NORMAL_CLOSURE: CloseCode.NORMAL_CLOSURE,
    CloseCode.NO_STATUS_RCVD: CloseCode.NORMAL_CLOSURE,
    CloseCode.GOING_AWAY: CloseCode.GOING_AWAY,
}
"""What a session that its client closes is counted as; any other code would be one more series."""

Layer = Callable[[ASGIApp], ASGIApp]


@dataclass(frozen=True, slots=True)
class Switch:
    """Requests go one way and WebSockets another."""

    requests: ASGIApp
    sockets: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        way = self.sockets if scope["type"] == "websocket" else self.requests
        await way(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Door:
    """The application for WebSockets. `guard` None: no key is asked for; `around`: who stands in between."""

    routes: Mapping[str, Route]
    guard: Guard | None
    pages: Pages
    tokens: Tokens
    metrics: Metrics
    around: Layer
    room: Room = field(default_factory=Room)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer, _ = scope["client"] or ("", 0)
        path = scope["raw_path"].decode(errors="replace")
        exchange = Exchange(METHOD, path, request_id_of(scope), peer)
        try:
            await self.around(self._serve)({**scope, EXCHANGE: exchange}, receive, send)
        finally:
            exchange.finish(self.metrics)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # that it wants to connect
        with self.room.early(receive) as early:
            await self._heard(Call(scope, early, send, scope[EXCHANGE], credentials(scope)))

    async def _heard(self, call: Call) -> None:
        scope, exchange = call.scope, call.exchange
        route = self.routes.get(scope["path"])
        try:
            if route is None:
                await call.deny(RouteNotFoundError(f"There is no WebSocket at {exchange.path}."))
                return
            exchange.route = scope["path"]
            if stranger := self.pages.stranger(scope):
                await call.deny(OriginNotAllowedError(stranger))
                return
            in_flight = self.metrics.in_flight(exchange.route)
            with in_flight.track_inprogress():
                ending = await self._answer(route, call)
        except (OSError, ClientGoneError):  # what it was to be told, it can no longer hear
            ending = GONE
        exchange.status = ending.code or _said_by_client(scope)
        exchange.note = exchange.note or ending.reason

    async def _answer(self, route: Route, call: Call) -> Ending:
        with ExitStack() as places:
            try:
                await self._admit(call, places)
                return await self._served(route, call)
            except GatewayError as error:
                return await route.refuse(call, error)
            except (OSError, ClientGoneError):
                raise
            except Exception:
                exchange = call.exchange
                log.exception("fault in session at %s", exchange.path, extra={"fields": exchange.fields()})
                return await route.refuse(call, InternalError(exchange.request_id))

    async def _admit(self, call: Call, places: ExitStack) -> None:
        exchange, text = call.exchange, call.credentials.text
        via = [value.decode("latin-1") for name, value in call.scope["headers"] if name == b"via"]
        exchange.via = via_onwards(via)
        check_hops(via, None)
        call.token = await find(self.tokens, text)
        if self.guard is not None:
            call.key = self._key(self.guard, call)
            await self.guard.admit(call.key, call.scope, exchange, places)
        if call.token is not None and not await use(self.tokens, text):
            raise InvalidKeyError(text)  # somebody else was quicker

    def _key(self, guard: Guard, call: Call) -> ApiKey:
        text = call.credentials.text
        if call.token is None:
            if not text:
                raise MissingSessionKeyError
            return guard.authenticate(text)
        key = guard.key_of(call.token.key_id)
        if key is None:
            raise InvalidKeyError(text)
        return key

    async def _served(self, route: Route, call: Call) -> Ending:
        """The session, and the word of its end to the client that is still there."""
        if self.guard is None or call.key is None:
            ending = await route.serve(call)
        else:
            ending = await first(route.serve(call), _revoked(self.guard, call.key, call.credentials.text))
        if ending.error is not None:
            return await route.refuse(call, ending.error)
        if ending.code:
            await route.end(call, ending)
        return ending


def _said_by_client(scope: Scope) -> int:
    """How a client ended its session: by a close frame, as most do, or without a word."""
    socket = socket_of(scope)
    return _CLOSED.get(socket.said_close, CLIENT_CLOSED_REQUEST) if socket else CLIENT_CLOSED_REQUEST


async def _revoked(guard: Guard, key: ApiKey, text: str) -> Ending:
    """A session goes on for hours: it ends with the key that it was begun with."""
    await guard.until_revoked(key)
    return ending_of(InvalidKeyError(text))


def open_door(sessions: Sessions, guard: Guard | None, tokens: Tokens, tracer: Tracer | None) -> Door:
    """The door with all routes."""
    settings = sessions.settings
    bounds = Bounds(settings.realtime_idle_seconds, settings.realtime_session_seconds)
    routes: dict[str, Route] = {
        NATIVE: Native(sessions, bounds),
        OPENAI: OpenAI(sessions, bounds),
        ELEVENLABS: ElevenLabs(sessions, bounds),
    }

    def around(app: ASGIApp) -> ASGIApp:
        app = Traced(app, tracer)
        return Proxied(app, settings.trusted_proxies) if settings.trusted_proxies else app

    pages = Pages(frozenset(settings.cors_origins), keys_asked=guard is not None)
    return Door(routes, guard, pages, tokens, sessions.metrics, around)
