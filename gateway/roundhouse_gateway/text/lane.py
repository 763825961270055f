"""The fast lane: requests that need nothing but to be passed on, answered without ASGI in between.

`Lane.plan` decides, before anything has been counted or sent, whether a request may go here: its key is good
and within limits of which nobody elsewhere has to be asked, its model runs and has room, and a connection to
one of its endpoints is at hand. Everything else, what is refused included, is left to the ordinary routes, so
that there is one place that says no. A `Passage` is what becomes of one that may. JSON is read here, forms
with speech in `speech.lane`.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from starlette.types import Receive, Scope, Send

from roundhouse_api.enums import RouteName
from roundhouse_api.keys import ApiKey
from roundhouse_api.selection import UnknownModelError, mismatch
from roundhouse_gateway.errors import GatewayError
from roundhouse_gateway.guard import Guard, scope_of
from roundhouse_gateway.hold import Hold
from roundhouse_gateway.json_body import JsonBodies
from roundhouse_gateway.limits import KeyLimits
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.snapshot import Snapshot
from roundhouse_gateway.text.answer_head import Lines
from roundhouse_gateway.text.asking import PATHS, Asking
from roundhouse_gateway.text.engines import JSON, TextEngines
from roundhouse_gateway.text.fit import lack
from roundhouse_gateway.text.passage import Passage
from roundhouse_gateway.text.request import TextRequest, needs_of
from roundhouse_gateway.text.rewrite import rewritten
from roundhouse_gateway.text.vector_passage import VectorPassage
from roundhouse_gateway.text.way import Fare, Stop, Way, way_to
from roundhouse_gateway.text.writes import Writes
from roundhouse_gateway.transcription_request import AUTO

MAX_BODY_BYTES: Final = 256 << 10
"""A longer one takes so long anyway that nothing is won here."""
MOST_WAYS: Final = 20_000
"""Of those that are remembered."""
P = TypeVar("P", bound=Passage)
_SCOPES: Final = {path: scope_of(path.decode()) for path in PATHS}


class NotHereError(Exception):
    """The request is for the ordinary routes; `base_url` is the endpoint that was chosen, if that far."""

    def __init__(self, base_url: str = "") -> None:
        super().__init__(base_url)
        self.base_url = base_url


class Forms(Protocol):
    """The part of the lane that takes forms: see `Lane.plan`."""

    media_type: str
    """Of what engines are sent."""

    def plan(self, asking: Asking, body: bytes, client: str) -> Passage: ...


@dataclass(slots=True)
class Lane:
    """What requests on the lane share. `guard` is None where no keys are asked for."""

    registry: Registry
    engines: TextEngines
    hold: Hold
    metrics: Metrics
    bodies: JsonBodies
    guard: Guard | None
    default_model: str
    limits: KeyLimits | None = field(default=None, init=False)
    forms: Forms | None = field(default=None, init=False)
    lines: Lines = field(default_factory=Lines, init=False)
    writes: Writes = field(init=False)
    _ways: dict[tuple[RouteName, str], Way] = field(default_factory=dict, init=False)
    _ways_of: Snapshot | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.limits = self.guard.limits if self.guard else None
        self.writes = self.engines.pool.writes

    def plan(self, asking: Asking, body: bytes, client: str) -> Passage:
        """Raises `NotHereError`, and then nothing has happened."""
        read = asking.read
        if read is None and self.forms is not None:
            return self.forms.plan(asking, body, client)
        if read is None or not self.registry.complete:
            raise NotHereError
        try:
            key = self.key_of(asking)
            self.bodies.check_text(body)
            request = read(body)
            fare = self.fare(asking, request.model, key)
        except (GatewayError, UnknownModelError) as error:
            raise NotHereError from error
        way = fare.way
        if not self._fits(way, request):
            raise NotHereError
        stop = way.only or self.stop(way, request.opening)
        sent = rewritten(body, request.model, way.name, way.defaults)
        connection = self.engines.pool.idle(stop.address)
        if connection is None:
            raise NotHereError(stop.base_url)
        if way.route is not RouteName.EMBEDDINGS:
            passage = Passage(self, asking, body, fare, sent, stop, connection, client)
        else:
            passage = VectorPassage(self, asking, body, fare, sent, stop, connection, client)
            passage.encoding = request.encoding
        return self.sent_out(passage)

    def stop(self, way: Way, opening: memoryview) -> Stop:
        """The endpoint to ask. Whether one that failed works again is for the ordinary routes to find out."""
        base_urls: Collection[str] = way.base_urls
        ejections, model = self.engines.ejections, way.entry.model.id
        if ejections.troubled:
            if ejections.is_due(model):
                raise NotHereError
            base_urls = ejections.among(model, base_urls)
        return way.stops[self.engines.pick(way.entry, base_urls, opening)]

    def sent_out(self, passage: P) -> P:
        """With all that it needs. Where that is not to be had, its connection is there for others."""
        stop, kept, out = passage.stop, passage.kept, False
        try:
            out = passage.set_out()
        except GatewayError as error:
            raise NotHereError(stop.base_url) from error  # the ordinary routes are going to say it
        finally:
            if not out and kept is not None:
                self.engines.pool.keep(stop.address, kept)
        if not out:
            raise NotHereError(stop.base_url)
        return passage

    def key_of(self, asking: Asking) -> ApiKey | None:
        """The key, if one is asked for and may ask for the path."""
        guard = self.guard
        if guard is None:
            return None
        key = asking.key
        if key is None or not guard.is_good(key):
            asking.key = None
            key = guard.authenticate(asking.key_text)
            if _SCOPES[asking.raw_path] not in key.grant.scopes:
                raise NotHereError
            asking.key = key
        return key

    def fare(self, asking: Asking, name: str | None, key: ApiKey | None) -> Fare:
        """To the model that is named, for that key; mostly those of the last request on the connection."""
        if self.registry.snapshot is self._ways_of and asking.name == name:
            fare = asking.fare
            if fare is not None and fare.key is key and asking.ways is self._ways:
                return fare
        fare = self._way(asking, name or self.default_model).fare(asking.path, key)
        if fare is None:
            raise NotHereError
        asking.name, asking.fare, asking.ways = name, fare, self._ways
        return fare

    def _way(self, asking: Asking, name: str) -> Way:
        snapshot = self.registry.snapshot
        if snapshot is not self._ways_of:
            self._ways, self._ways_of = {}, snapshot
        if name == AUTO:
            raise NotHereError
        found = self._ways.get((asking.route, name))
        if found is None:
            media_type = self.forms.media_type if self.forms and asking.read is None else JSON
            found = way_to(snapshot.resolve(name), asking.route, asking.path, self.metrics, media_type)
            if found is None:
                raise NotHereError
            if len(self._ways) < MOST_WAYS:
                self._ways[asking.route, name] = found
        return found

    def _fits(self, way: Way, request: TextRequest) -> bool:
        """Whether the model can do what is asked."""
        if request.gates or request.items != 1 or request.dimensions is not None:
            fits = mismatch(way.entry.model, needs_of(way.route, request)) is None
            return fits and lack(way.entry, request, way.route) is None
        return way.fits


def takes_lane(settings: Settings) -> bool:
    """Whether there may be one: it neither sees who is behind a proxy nor makes spans."""
    return settings.fast_lane and not settings.trusted_proxies and not settings.otlp_endpoint


async def no_route(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands behind a guard that is only asked about keys."""
