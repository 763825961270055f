"""`POST /v1/audio/transcriptions`: from the upload's first byte to the last byte of the transcript.

A form that names its model before its file is passed on while it arrives; one whose file comes first waits on
disk until the rest is known. Raw ASGI, so that nothing stands between the client's bytes and the engine's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from roundhouse_api.enums import RouteName
from roundhouse_api.keys import Grant
from roundhouse_gateway.body import Body, IncomingForm, LiveBody, SpooledBody
from roundhouse_gateway.choice import check_fit, choose
from roundhouse_gateway.cooldown import Cooldown
from roundhouse_gateway.errors import (
    BrokenAnswerError,
    ClientGoneError,
    EngineUnreachableError,
    GatewayError,
    NoEngineError,
    NotReadyError,
    UnknownModelRequestError,
)
from roundhouse_gateway.exchange import EXCHANGE, Exchange
from roundhouse_gateway.form import Field, boundary_of
from roundhouse_gateway.hold import Admitted, Hold
from roundhouse_gateway.hops import check_hops, via_onwards
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.refusal import end, refuse
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.relay import relay
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.sleepers import Wish
from roundhouse_gateway.snapshot import Entry
from roundhouse_gateway.spool import Spool, SpooledFile
from roundhouse_gateway.transcription_request import TranscriptionRequest, read_request
from roundhouse_gateway.upload import Upload
from roundhouse_gateway.upstream import Call, EngineClient, is_full

PATH = "/v1/audio/transcriptions"
EVENT_STREAM = "text/event-stream"

BodyFor = Callable[[Entry], Body]


@dataclass(frozen=True, slots=True)
class Transcriptions:
    """The route, as an ASGI application."""

    settings: Settings
    registry: Registry
    engines: EngineClient
    hold: Hold
    spool: Spool
    metrics: Metrics
    cooldown: Cooldown = field(default_factory=Cooldown)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        exchange.route = PATH
        headers = Headers(scope=scope)
        exchange.via = via_onwards(headers.getlist("via"))
        upload = Upload(
            receive,
            limit_bytes=self.settings.body_limit_bytes,
            idle_seconds=self.settings.client_idle_seconds,
            least_rate=self.settings.upload_bytes_per_second,
        )
        in_flight = self.metrics.in_flight(PATH)
        with in_flight.track_inprogress():
            try:
                await self._answer(headers, upload, exchange, send)
            except GatewayError as error:
                await refuse(error, upload, exchange, send)
            except ClientGoneError:
                exchange.client_left()
            except BrokenAnswerError as error:
                exchange.note = str(error)
            finally:
                exchange.upload_bytes = upload.received

    async def _answer(self, headers: Headers, upload: Upload, exchange: Exchange, send: Send) -> None:
        if not self.registry.complete:
            raise NotReadyError("The gateway has not read the cluster yet.")
        upload.check_announced(int(headers.get("content-length", 0)))
        form = IncomingForm(upload, boundary_of(headers.get("content-type", "")))
        first = await form.until_audio()
        request = read_request(form.fields, complete=False)
        check_hops(headers.getlist("via"), request.model)
        if request.model is not None:
            await self._serve(request, partial(_live_body, form, first), upload, exchange, send)
            return
        with self.spool.open() as spooled:
            await form.spool_rest(first, spooled)
            request = read_request(form.fields, complete=True)
            await self._serve(request, partial(_spooled_body, form, spooled), upload, exchange, send)

    async def _serve(
        self,
        request: TranscriptionRequest,
        body_for: BodyFor,
        upload: Upload,
        exchange: Exchange,
        send: Send,
    ) -> None:
        """Waits where the model may be waited for, then forwards."""
        name = request.model or self.settings.default_model
        wish = Wish(name, request.needs, exchange.grant.allows_model)
        with await self.hold.admit(wish, partial(self._choose, request, exchange.grant), upload) as admitted:
            while not await self._forward(admitted, body_for, upload, exchange, send):
                await admitted.wait(upload)

    def _choose(self, request: TranscriptionRequest, grant: Grant) -> Sequence[Entry]:
        name = request.model or self.settings.default_model
        try:
            entries = choose(self.registry.snapshot, name, request.needs, self.metrics, grant)
        except UnknownModelRequestError as error:
            if request.model is not None:
                raise
            raise NoEngineError(f"The gateway's default model '{name}' is not published.") from error
        return self.cooldown.order(entries)

    async def _forward(
        self, admitted: Admitted, body_for: BodyFor, upload: Upload, exchange: Exchange, send: Send
    ) -> bool:
        """To the first of the entries that takes a connection. By then nothing of an answer has been sent.

        False: the engine is full, and the request may wait for it.
        """
        async with upload.leaving_cancels():
            for entry in admitted.entries:
                admitted.goes_to(entry)
                exchange.model = entry.model.id
                body = body_for(entry)
                call = Call(entry, RouteName.TRANSCRIPTIONS, body, exchange.request_id, exchange.via)
                last = entry is admitted.entries[-1]
                try:
                    async with self.engines.answer(call, last=last) as response:
                        self.cooldown.end(entry)
                        if is_full(response) and body.can_be_sent and admitted.may_wait:
                            return False
                        if response.content_type == EVENT_STREAM:
                            admitted.streams()
                        await relay(response, entry.model.id, send, keep_alive=upload.ended.is_set())
                    break
                except EngineUnreachableError:
                    self.cooldown.begin(entry)
                    self.metrics.ejections(entry.model.id).inc()
                    if last or not body.can_be_sent:
                        raise
        await end(upload, send)
        return True


def _live_body(form: IncomingForm, first: bytes, entry: Entry) -> Body:
    return LiveBody(form, first, entry.model.engine_model, partial(_check, entry))


def _spooled_body(form: IncomingForm, spooled: SpooledFile, entry: Entry) -> Body:
    return SpooledBody(form, spooled, entry.model.engine_model)


def _check(entry: Entry, fields: Sequence[Field], complete: bool) -> None:
    """Fields that follow the file must not ask for what the chosen model cannot do."""
    check_fit(entry, read_request(fields, complete=complete).needs)
