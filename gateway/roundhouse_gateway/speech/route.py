"""The routes of batch speech: from the upload's first byte to the last byte of the transcript.

A form that names its model before its file is passed on while it arrives; one whose file comes first waits on
disk until the rest is known. Raw ASGI, so that nothing stands between the client's bytes and the engine's.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from roundhouse_api.enums import FallbackTrigger, RouteName
from roundhouse_api.keys import Grant
from roundhouse_gateway.body import Body, IncomingForm, LiveBody, SpooledBody
from roundhouse_gateway.choice import Search, check_fit, choose, model_named
from roundhouse_gateway.errors import (
    EngineFailedError,
    EngineUnreachableError,
    GatewayError,
    HopelessRequestError,
    MissingFieldError,
    NoEngineError,
    NotReadyError,
    NotRunningError,
    UnknownModelRequestError,
    UnsupportedValueError,
)
from roundhouse_gateway.exchange import EXCHANGE, Exchange
from roundhouse_gateway.form import Field, FileStart, boundary_of
from roundhouse_gateway.held_stream import HeldStream
from roundhouse_gateway.hints import Hints, read_hints
from roundhouse_gateway.hold import Admitted, Hold
from roundhouse_gateway.hops import check_hops, via_onwards
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.refusal import end, told
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.sleepers import Wish
from roundhouse_gateway.snapshot import Entry
from roundhouse_gateway.speech.answer import Answer
from roundhouse_gateway.speech.dialects import Plan, plan, shortfall
from roundhouse_gateway.spool import Spool, SpooledFile
from roundhouse_gateway.tour import TRIED, Tried
from roundhouse_gateway.transcription_request import AUTO, TranscriptionRequest
from roundhouse_gateway.upload import Upload
from roundhouse_gateway.upstream import Call, EngineClient, is_full

T = TypeVar("T")


class Manner(Protocol):
    """A way to ask for a transcript and to be answered, by the rules of one API."""

    @property
    def path(self) -> str: ...

    @property
    def route(self) -> RouteName:
        """Where an engine is asked for the same."""

    def read(self, fields: Sequence[Field], *, complete: bool) -> TranscriptionRequest:
        """The request that the fields make; its `model` is None until a field has named one."""

    def told(self, error: HopelessRequestError) -> GatewayError:
        """How this API's clients are told that nothing there is could serve them."""

    def passes(self, field: Field, plan: Plan) -> bool:
        """Whether the engine sees the field as the client sent it."""

    def file(self, file: FileStart, fields: Sequence[Field]) -> tuple[FileStart, bytes]:
        """The head of the file that the engine sees, and bytes that come before the client's own."""

    def added(self, fields: Sequence[Field], plan: Plan) -> Sequence[Field]:
        """What the engine is told besides."""

    async def answer(
        self, answer: Answer, fields: Sequence[Field], request: TranscriptionRequest, plan: Plan
    ) -> None:
        """Sends all of the answer but for its end."""


BodyFor = Callable[[Entry], Body]


@dataclass(frozen=True, slots=True)
class SpeechRoute:
    """One of the routes, as an ASGI application."""

    manner: Manner
    settings: Settings
    registry: Registry
    engines: EngineClient
    hold: Hold
    spool: Spool
    metrics: Metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        exchange.route = self.manner.path
        headers = Headers(scope=scope)
        exchange.via = via_onwards(headers.getlist("via"))
        upload = Upload(
            receive,
            limit_bytes=self.settings.body_limit_bytes,
            idle_seconds=self.settings.client_idle_seconds,
            least_rate=self.settings.upload_bytes_per_second,
        )
        held = HeldStream(send, self.settings.hold_comment_seconds)
        with self.metrics.in_flight(self.manner.path).track_inprogress():
            async with told(upload, exchange, held.send):
                hints = read_hints(scope["query_string"])
                await self._answer(headers, _Visit(upload, exchange, held, scope.get(TRIED)), hints)

    async def _answer(self, headers: Headers, visit: "_Visit", hints: Hints) -> None:
        if not self.registry.complete:
            raise NotReadyError("The gateway has not read the cluster yet.")
        visit.upload.check_announced(int(headers.get("content-length", 0)))
        visit.form = form = IncomingForm(visit.upload, boundary_of(headers.get("content-type", "")))
        first = await self._until_audio(form)
        request = self.manner.read(form.fields, complete=False)
        check_hops(headers.getlist("via"), request.model)
        if request.model is not None:
            visit.body_for = partial(self._live_body, form, first)
            await self._serve(_hinted(request, hints), visit)
            return
        with self.spool.open() as spooled:
            await form.spool_rest(first, spooled)
            request = self.manner.read(form.fields, complete=True)
            visit.body_for = partial(self._spooled_body, form, spooled)
            await self._serve(_hinted(request, hints), visit)

    async def _until_audio(self, form: IncomingForm) -> bytes:
        try:
            return await form.until_audio()
        except MissingFieldError:
            self.manner.read(form.fields, complete=True)  # may know better why there is no file
            raise

    async def _serve(self, request: TranscriptionRequest, visit: "_Visit") -> None:
        """Waits where the model may be waited for, then forwards."""
        name = request.model or self.settings.default_model
        grant = visit.exchange.grant
        visit.exchange.model = model_named(self.registry.snapshot, name, grant)
        wish = Wish(name, request.needs, grant.allows_model, visit.exchange.key_id)
        choosing = partial(self._choose, request, grant, Search(self.metrics))
        admitting = self.hold.admit(wish, choosing, visit.upload)
        with await self._waited(admitting, request, visit) as admitted:
            while not await self._forward(admitted, visit):
                await self._waited(admitted.wait(visit.upload), request, visit)

    async def _waited(self, coming: Awaitable[T], request: TranscriptionRequest, visit: "_Visit") -> T:
        """What is waited for. Who asked for a stream, and has sent all, hears that it waits still."""
        if not request.stream:
            return await coming
        return await visit.held.kept(coming, visit.upload.ended.is_set)

    def _choose(self, request: TranscriptionRequest, grant: Grant, search: Search) -> Sequence[Entry]:
        name = request.model or self.settings.default_model
        try:
            entries = choose(self.registry.snapshot, name, request.needs, search, grant)
        except HopelessRequestError as error:
            raise self.manner.told(error) from error
        except NotRunningError:
            # No wait for a start that would not help.
            if (refusal := shortfall(self.registry.snapshot.resolve(name), request)) is not None:
                raise refusal from None
            raise
        except UnknownModelRequestError as error:
            if request.model is not None:
                raise
            raise NoEngineError(f"The gateway's default model '{name}' is not published.") from error
        fit = [entry for entry in entries if shortfall(entry, request) is None]
        if not fit and (refusal := shortfall(entries[0], request)) is not None:
            raise _of_all(refusal, len(entries))
        return self.engines.endpoints.order(fit) if name == AUTO else fit

    async def _forward(self, admitted: Admitted, visit: "_Visit") -> bool:
        """To the first of the entries that answers. By then nothing of an answer has been sent.

        False: the engine is full, or went before it answered, and the request may wait for it.
        """
        async with visit.upload.leaving_cancels():
            for attempt in admitted.attempts():
                entry, exchange = attempt.entry, visit.exchange
                exchange.model = entry.model.id
                body = visit.body_for(entry)
                tried, visit.tried = visit.tried, None
                answered = False
                call = Call(entry, self.manner.route, body, exchange.request_id, exchange.via, tried)
                try:
                    async with self.engines.answer(call, last=attempt.last) as response:
                        answered = True
                        if is_full(response) and body.can_be_sent:
                            if attempt.goes_on(FallbackTrigger.RATE_LIMITED):
                                continue
                            if admitted.may_wait:
                                return False
                        keep_alive = visit.upload.ended.is_set()
                        answer = Answer(response, entry, visit.send, keep_alive)
                        if answer.streams:
                            admitted.streams()
                        await self._hand_on(answer, visit)
                    break
                except GatewayError as error:
                    if body.can_be_sent and attempt.goes_on(error):
                        continue
                    if body.can_be_sent and not answered and visit.repeats(admitted, entry, error):
                        return False
                    entry, told = admitted.first_failure or (entry, error)
                    exchange.model = entry.model.id
                    raise told from None
        await end(visit.upload, visit.send)
        return True

    async def _hand_on(self, answer: Answer, visit: "_Visit") -> None:
        """By what the client wants now that all its fields are known."""
        fields = visit.form.fields
        request = self.manner.read(fields, complete=False)
        said = plan(answer.entry.record.effective.dialect, request)
        try:
            await self.manner.answer(answer, fields, request, said)
        finally:
            visit.exchange.usage = answer.usage

    def _live_body(self, form: IncomingForm, first: bytes, entry: Entry) -> Body:
        return LiveBody(form, first, entry.model.engine_model, _ForEntry(self.manner, entry, form.fields))

    def _spooled_body(self, form: IncomingForm, spooled: SpooledFile, entry: Entry) -> Body:
        return SpooledBody(
            form, spooled, entry.model.engine_model, _ForEntry(self.manner, entry, form.fields)
        )


@dataclass(slots=True)
class _Visit:
    """One client with its form, on its way through the route; `tried` until that was heard."""

    upload: Upload
    exchange: Exchange
    held: HeldStream
    tried: Tried | None
    form: IncomingForm = field(init=False)
    body_for: BodyFor = field(init=False)
    sent_again: bool = False

    @property
    def send(self) -> Send:
        return self.held.send

    def repeats(self, admitted: Admitted, entry: Entry, error: GatewayError) -> bool:
        """Whether the form waits for the model's next pod, its one engine gone: once, for it may be why."""
        if self.sent_again or not admitted.may_wait:
            return admitted.may_wait and isinstance(error, EngineUnreachableError)
        alone = entry.target is None or len(entry.target.base_urls) == 1
        self.sent_again = alone and isinstance(error, EngineFailedError)
        return self.sent_again


@dataclass(frozen=True, slots=True)
class _ForEntry:
    """The client's form as the chosen engine is to see it: see `body.Rewrite`. `fields` grow meanwhile."""

    manner: Manner
    entry: Entry
    fields: Sequence[Field]

    def check(self, fields: Sequence[Field], *, complete: bool) -> None:
        """Fields that follow the file must not ask for what the chosen model cannot do."""
        request = self.manner.read(fields, complete=complete)
        check_fit(self.entry, request.needs)
        if (refusal := shortfall(self.entry, request)) is not None:
            raise refusal

    def passes(self, field: Field) -> bool:
        return self.manner.passes(field, self._plan(self.fields))

    def file(self, file: FileStart) -> tuple[FileStart, bytes]:
        return self.manner.file(file, self.fields)

    def added(self, fields: Sequence[Field]) -> Sequence[Field]:
        return self.manner.added(fields, self._plan(fields))

    def _plan(self, fields: Sequence[Field]) -> Plan:
        return plan(self.entry.record.effective.dialect, self.manner.read(fields, complete=False))


def _hinted(request: TranscriptionRequest, hints: Hints) -> TranscriptionRequest:
    return replace(request, needs=hints.over(request.needs))


def _of_all(refusal: UnsupportedValueError, number: int) -> UnsupportedValueError:
    """The refusal of the best of several, which all have one."""
    if number == 1:
        return refusal
    message = f"None of the {number} models that fit otherwise offers it. {refusal.message}"
    return UnsupportedValueError(message, param=refusal.param)
