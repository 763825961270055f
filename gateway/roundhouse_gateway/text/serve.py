"""The JSON routes as one ASGI application: from a request's bytes to the last byte of the answer.

A request may go to another endpoint, and then to the models that its variant names as `fallbacks`, until the
first byte of an answer was sent; after that it stays where it is.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from roundhouse_api.enums import FallbackTrigger, RouteName
from roundhouse_api.keys import Grant
from roundhouse_api.selection import Needs, UnknownModelError
from roundhouse_gateway.choice import Search, choose, model_named
from roundhouse_gateway.errors import (
    GatewayError,
    NoEngineError,
    NotReadyError,
    UnknownModelRequestError,
)
from roundhouse_gateway.exchange import EXCHANGE, Exchange
from roundhouse_gateway.held_stream import HeldStream
from roundhouse_gateway.hints import Hints, read_hints
from roundhouse_gateway.hold import Admitted, Hold
from roundhouse_gateway.hops import check_hops, via_onwards
from roundhouse_gateway.json_body import TIMES_AS_FAST, JsonBodies
from roundhouse_gateway.media_types import check_json
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.refusal import told
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.sleepers import Wish
from roundhouse_gateway.snapshot import Entry
from roundhouse_gateway.text import rerank
from roundhouse_gateway.text.answer import Asked, relay
from roundhouse_gateway.text.engines import FIRST, Call, TextEngines
from roundhouse_gateway.text.errors import UnknownTextModelError
from roundhouse_gateway.text.fit import asks_for_something, fitting
from roundhouse_gateway.text.request import READERS, STAGES, TextRequest, needs_of
from roundhouse_gateway.text.rewrite import rewrite
from roundhouse_gateway.text.usage import UsageReader
from roundhouse_gateway.tour import FULL
from roundhouse_gateway.transcription_request import AUTO
from roundhouse_gateway.upload import Upload

T = TypeVar("T")

ROUTES: Final = {
    "/v1/chat/completions": RouteName.CHAT,
    "/v1/completions": RouteName.COMPLETIONS,
    "/v1/embeddings": RouteName.EMBEDDINGS,
    rerank.V1: RouteName.RERANK,
    rerank.V2: RouteName.RERANK,
}


@dataclass(frozen=True, slots=True)
class _Job:
    """One request, read and checked."""

    path: str
    route: RouteName
    body: bytes
    request: TextRequest
    exchange: Exchange
    upload: Upload
    held: HeldStream
    hints: Hints
    first: tuple[str, bool]
    """The endpoint that the fast lane chose, and whether that broke off: an old connection may have."""

    @property
    def needs(self) -> Needs:
        return self.hints.over(needs_of(self.route, self.request))


@dataclass(frozen=True, slots=True)
class TextRoutes:
    """All of them."""

    settings: Settings
    registry: Registry
    engines: TextEngines
    hold: Hold
    metrics: Metrics
    bodies: JsonBodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        path = exchange.route = scope["path"]
        headers = Headers(scope=scope)
        exchange.via = via_onwards(headers.getlist("via"))
        upload = Upload(
            receive,
            limit_bytes=self.settings.body_limit_bytes,
            idle_seconds=self.settings.client_idle_seconds,
            least_rate=TIMES_AS_FAST * self.settings.upload_bytes_per_second,
        )
        held = HeldStream(send, self.settings.hold_comment_seconds)
        with self.metrics.in_flight(path).track_inprogress():
            async with told(upload, exchange, held.send):
                await self._answer(scope, headers, upload, exchange, held)

    async def _answer(
        self, scope: Scope, headers: Headers, upload: Upload, exchange: Exchange, held: HeldStream
    ) -> None:
        path = scope["path"]
        if not self.registry.complete:
            raise NotReadyError("The gateway has not read the cluster yet.")
        check_json(scope["headers"])
        route, hints = ROUTES[path], read_hints(scope["query_string"])
        announced = int(headers.get("content-length", 0))
        async with self.bodies.read(upload, announced, exchange.key_id) as body:
            request = READERS[route](body)
            check_hops(headers.getlist("via"), request.model)
            first = scope.get(FIRST, ("", False))
            await self._serve(_Job(path, route, body, request, exchange, upload, held, hints, first))

    async def _serve(self, job: _Job) -> None:
        """Waits where the model may be waited for, then forwards."""
        name = job.request.model or self.settings.default_model
        exchange = job.exchange
        exchange.model = model_named(self.registry.snapshot, name, exchange.grant)
        wish = Wish(name, job.needs, exchange.grant.allows_model, exchange.key_id)
        choose_now = partial(self._choose, name, job, exchange.grant, Search(self.metrics))
        with await self._waited(self.hold.admit(wish, choose_now, job.upload), job) as admitted:
            while not await self._forward(admitted, job):
                await self._waited(admitted.wait(job.upload), job)

    async def _waited(self, coming: Awaitable[T], job: _Job) -> T:
        """What is waited for. Who asked for a stream hears that it waits still."""
        if not job.request.streams:
            return await coming
        return await job.held.kept(coming, job.upload.ended.is_set)

    def _choose(self, name: str, job: _Job, grant: Grant, search: Search) -> Sequence[Entry]:
        try:
            self._check_capability(name, job, grant)
            entries = choose(self.registry.snapshot, name, job.needs, search, grant)
        except UnknownModelRequestError as error:
            if job.request.model is None:
                raise NoEngineError(f"The gateway's default model '{name}' is not published.") from error
            raise UnknownTextModelError(error.message) from error
        found = fitting(entries, job.request, job.route)
        return self.engines.endpoints.order(found) if name == AUTO else found

    def _check_capability(self, name: str, job: _Job, grant: Grant) -> None:
        """Of a model that is named, running or not: here the field is known that asks for too much."""
        if name == AUTO or not asks_for_something(job.request):
            return
        try:
            entry = self.registry.snapshot.resolve(name)
        except UnknownModelError:
            return  # as `choose` tells
        if entry.model.stage is STAGES[job.route] and grant.allows_model(entry.model.id):
            fitting([entry], job.request, job.route)

    async def _forward(self, admitted: Admitted, job: _Job) -> bool:
        """To the first of the entries that takes it. By then nothing of an answer has been sent.

        False: the engine is full, and the request may wait for it.
        """
        exchange, request = job.exchange, job.request
        async with job.upload.leaving_cancels():
            for attempt in admitted.attempts():
                entry = attempt.entry
                exchange.model = entry.model.id
                call = Call(
                    entry,
                    job.route,
                    await body_for(entry, job.route, job.body, request),
                    request.opening,
                    exchange.request_id,
                    exchange.via,
                    *job.first,
                )
                asked = Asked(job.route, job.path, request, exchange.request_id, entry.model.id, entry.access)
                try:
                    async with self.engines.answer(call, last=attempt.last) as incoming:
                        if incoming.reply.head.reason == FULL:
                            if attempt.goes_on(FallbackTrigger.RATE_LIMITED):
                                continue
                            if admitted.may_wait:
                                return False
                        if incoming.reply.head.is_event_stream:
                            admitted.streams()
                        seen = UsageReader()
                        try:
                            await relay(asked, incoming, job.held.send, seen)
                        finally:  # what an engine has counted it has used, whoever left before the end
                            exchange.usage = seen.usage()
                    break
                except GatewayError as error:
                    if not attempt.goes_on(error):
                        entry, told = admitted.first_failure or (entry, error)
                        exchange.model = entry.model.id
                        raise told from None
        return True


async def body_for(entry: Entry, route: RouteName, body: bytes, request: TextRequest) -> bytes:
    """What the engine is sent."""
    if route is RouteName.RERANK:
        return await rerank.body_for(entry, body, request)
    return rewrite(body, request.model, entry.model.engine_model, entry.record.text.defaults)
