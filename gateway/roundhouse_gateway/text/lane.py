"""The fast lane: JSON requests that need nothing but to be passed on, answered without ASGI in between.

`Lane.plan` decides, before anything has been counted or sent, whether a request may go here: its key is good
and within limits that are counted in this machine, its model runs and has room, and a connection to one of
its endpoints is at hand. Everything else, what is refused included, is left to the ordinary routes, so that
there is one place that says no. A `Trip` is what the request has taken meanwhile, to be given back at its
end.
"""

from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from starlette.types import Receive, Scope, Send

from roundhouse_api.enums import RouteName
from roundhouse_api.keys import ApiKey
from roundhouse_api.selection import UnknownModelError, mismatch
from roundhouse_gateway.entry import Entry
from roundhouse_gateway.errors import GatewayError
from roundhouse_gateway.exchange import Exchange
from roundhouse_gateway.guard import Guard, scope_of
from roundhouse_gateway.hold import Hold
from roundhouse_gateway.hops import OWN_HOP
from roundhouse_gateway.json_body import JsonBodies
from roundhouse_gateway.limits import KeyLimits, Standing
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.text.connection import Connection
from roundhouse_gateway.text.engines import Call, TextEngines
from roundhouse_gateway.text.fit import lack
from roundhouse_gateway.text.pool import address_of
from roundhouse_gateway.text.request import READERS, TextRequest, needs_of
from roundhouse_gateway.text.rewrite import rewrite
from roundhouse_gateway.transcription_request import AUTO

PATHS: Final = {
    b"/v1/chat/completions": RouteName.CHAT,
    b"/v1/completions": RouteName.COMPLETIONS,
    b"/v1/embeddings": RouteName.EMBEDDINGS,
}
MAX_BODY_BYTES: Final = 256 << 10
"""A longer one takes so long anyway that nothing is won here."""

T = TypeVar("T")


class NotHereError(Exception):
    """The request is for the ordinary routes; `base_url` is the endpoint that was chosen, if that far."""

    def __init__(self, base_url: str = "") -> None:
        super().__init__(base_url)
        self.base_url = base_url


@dataclass(frozen=True, slots=True)
class Trip:
    """One request on the lane: where it goes, and what it gives back at its end."""

    exchange: Exchange
    entry: Entry
    request: TextRequest
    call: Call
    base_url: str
    connection: Connection
    counted: Standing | None
    held: ExitStack


@dataclass(frozen=True, slots=True)
class Lane:
    """What requests on the lane share. `guard` is None where no keys are asked for."""

    registry: Registry
    engines: TextEngines
    hold: Hold
    metrics: Metrics
    bodies: JsonBodies
    guard: Guard | None
    default_model: str

    def plan(self, path: bytes, key_text: str, body: bytes, exchange: Exchange) -> Trip:
        """Raises `NotHereError`, and then nothing has happened."""
        route = PATHS[path]
        if not self.registry.complete:
            raise NotHereError
        with ExitStack() as held:
            try:
                key = self._key(path, key_text, exchange)
                held.enter_context(self.bodies.hold(len(body), exchange.key_id))
                self.bodies.check_text(body)
                request = READERS[route](body)
                entry = self._entry(route, request, exchange)
            except (GatewayError, UnknownModelError) as error:
                raise NotHereError from error
            name, defaults = entry.model.engine_model, entry.record.text.defaults
            sent = rewrite(body, request.model, name, defaults)
            call = Call(entry, route, sent, request.opening, exchange.request_id, OWN_HOP)
            base_url = self.engines.pick(call, set())
            address = address_of(base_url, entry.access.ca)
            connection = self.engines.pool.idle(address) if base_url else None
            if connection is None:
                raise NotHereError(base_url)
            held.enter_context(self.engines.load.hold(base_url))
            try:
                counted = self._begin(entry, key, held)
            except (NotHereError, GatewayError) as error:
                self.engines.pool.keep(address, connection)
                raise NotHereError from error
            exchange.model = entry.model.id
            exchange.standing = counted.headers() if counted else []
            return Trip(exchange, entry, request, call, base_url, connection, counted, held.pop_all())

    def _key(self, path: bytes, text: str, exchange: Exchange) -> ApiKey | None:
        """The key, if one is asked for and may ask for the path."""
        if self.guard is None:
            return None
        key = self.guard.authenticate(text)
        needed = scope_of(path.decode())
        if needed is not None and needed not in key.grant.scopes:
            raise NotHereError
        exchange.key_id, exchange.grant = key.id, key.grant
        return key

    def _entry(self, route: RouteName, request: TextRequest, exchange: Exchange) -> Entry:
        """The model that is named, where it can answer at once and nobody else is to stand in for it."""
        name = request.model or self.default_model
        if name == AUTO:
            raise NotHereError
        entry = self.registry.snapshot.resolve(name)
        if entry.record.fallbacks or not entry.model.running:
            raise NotHereError
        fits = mismatch(entry.model, needs_of(route, request)) is None and lack(entry, request, route) is None
        if not (fits and exchange.grant.allows_model(entry.model.id) and self.hold.is_free(entry)):
            raise NotHereError
        return entry

    def _begin(self, entry: Entry, key: ApiKey | None, held: ExitStack) -> Standing | None:
        """Counts it: to the model, which its end takes back, and to the key."""
        if not self.hold.take(entry):
            raise NotHereError
        try:
            return self._count(key, held)
        except BaseException:
            self.hold.book.change(entry.place, "in_flight", -1)
            self.hold.call(entry.place)
            raise

    def _count(self, key: ApiKey | None, held: ExitStack) -> Standing | None:
        """The last step, because it cannot be taken back. What is refused was not counted."""
        if key is None or self.guard is None:
            return None
        limits, grant = self.guard.limits, key.grant
        if grant.max_concurrent is None and grant.requests_per_minute is None:
            return None
        if limits.waits:
            raise NotHereError
        if grant.max_concurrent is not None:
            self._take_place(limits, key.id, grant.max_concurrent, held)
        if grant.requests_per_minute is None:
            return None
        allowed, standing = _at_once(limits.take(key.id, grant.requests_per_minute))
        if not allowed:
            raise NotHereError
        return standing

    def _take_place(self, limits: KeyLimits, key_id: str, at_once: int, held: ExitStack) -> None:
        if not _at_once(limits.begin(key_id, at_once)):
            raise NotHereError
        held.callback(limits.end, key_id)


def takes_lane(settings: Settings) -> bool:
    """Whether there may be one: it neither sees who is behind a proxy nor makes spans."""
    return settings.fast_lane and not settings.trusted_proxies and not settings.otlp_endpoint


async def no_route(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands behind a guard that is only asked about keys."""


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """What comes of a coroutine that waits for nothing, as those of limits within this machine."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise RuntimeError(f"{coroutine!r} waits, which it must not")
