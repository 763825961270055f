"""One form on the fast lane: on a connection that was kept or is made, and the answer as the client wants it.

A form that is here whole can be sent again, so whatever fails before the answer goes back to the ordinary
route, which knows of other endpoints. What was tried here counts as tried there.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import Final, Literal

from typing_extensions import override

from roundhouse_engine import formats
from roundhouse_gateway.errors import GatewayError, InternalError
from roundhouse_gateway.relay import OF_THE_BODY
from roundhouse_gateway.speech.answer import MAX_ANSWER_BYTES, explained, is_right, told_of, too_long
from roundhouse_gateway.speech.dialects import Plan
from roundhouse_gateway.speech.heard import read_heard
from roundhouse_gateway.speech.metering import Hearing
from roundhouse_gateway.speech.render import render
from roundhouse_gateway.text.answer_head import AnswerHead, lines_of
from roundhouse_gateway.text.client_side import Client
from roundhouse_gateway.text.passage import Passage, Reader
from roundhouse_gateway.tour import Failure, Tried
from roundhouse_gateway.transcription_request import TranscriptionRequest
from roundhouse_gateway.usage import NOTHING, Usage, read_usage, with_seconds

log: Final = logging.getLogger("roundhouse.gateway")

_JSON: Final = "application/json"
_READ_ELSEWHERE: Final = (
    "the engine at {url} answers for model {model!r} in a way that only the ordinary route may read; "
    "requests for it take that route, which is slower: see to the head of its answers"
)


class SpeechPassage(Passage):
    """`plan` is how the engine was asked for what `request` wants."""

    request: TranscriptionRequest
    plan: Plan
    _connecting: asyncio.Task[None] | None = None
    _heard: bytearray | None = None
    """What is to be written anew, as far as it has come."""

    @override
    def start(self, client: Client, *, keep_alive: bool) -> None:
        super().start(client, keep_alive=keep_alive)
        if self.kept is None:
            self._connecting = client.loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await self._ask_anew()
        except Exception:  # nobody waits for this task who would hear of it
            exchange = self.exchange
            log.exception("fault in connecting for %s", exchange.path, extra={"fields": exchange.fields()})
            self.cut(InternalError(exchange.request_id))

    async def _ask_anew(self) -> None:
        pool = self.lane.engines.pool
        try:
            connection = await pool.connect(self.stop.address, hasty=self.way.only is None)
        except (OSError, TimeoutError) as error:
            if not self.response_complete:
                self._fails("Failed", "unreachable", error)
            return
        if self.response_complete:  # the client has left meanwhile
            pool.keep(self.stop.address, connection)
        else:
            self.heard = self._client.loop.time()
            self._ask(connection)

    def _fails(
        self, how: Literal["Unreadable", "Failed"], reason: Failure, error: Exception | None = None
    ) -> None:
        entry = self.way.entry
        at = self.stop.base_url if how == "Failed" else ""
        told = self.lane.engines.tours.failed(entry, reason, error, at=at, sent=self.exchange.started)
        self.tried = Tried(entry.model.id, self.stop.base_url, how, told)
        super()._return()

    @override
    def _return(self) -> None:
        model, base_url = self.way.entry.model.id, self.stop.base_url
        if self.failure == "unreadable":  # to that route perhaps not: from here on its requests go there
            if base_url not in self.way.unreadable:
                self.way.unreadable.add(base_url)
                log.warning("%s", _READ_ELSEWHERE.format(url=base_url, model=model))
            self._fails("Unreadable", "broken")
        elif not self.failure:
            self.tried = Tried(model, base_url, "Refused", reason=self.head.reason)
            super()._return()
        elif self.kept is None:
            self._fails("Failed", "broken")
        else:
            self.tried = Tried(model, base_url, "Left")
            super()._return()

    @override
    def _told(self, error: GatewayError) -> GatewayError:
        if self.status == 400 and self.plan.added:
            return explained(error, self.way.entry.model.id, self.request)
        return error

    @override
    def _stream(self, head: AnswerHead) -> None:
        """Events that nobody asked for pass as they come, unless what came was to be written anew."""
        if self.plan.untouched:
            self.streams()
            super()._pass(head)
        elif self.failure:
            self._fail(self._broke_off())
        else:
            self._pass(head)

    @override
    def _fail(self, error: GatewayError) -> None:
        """Of a stream the client is told where that is no part of an event."""
        seen = self._seen
        if self._chunked and isinstance(seen, Hearing) and seen.is_between_events:
            self._write(formats.error_event(told_of(error)).encode())
        super()._fail(error)

    @override
    def _pass(self, head: AnswerHead) -> None:
        if is_right(head.media_type, self.request, self.plan):
            super()._pass(head)
            return
        piece = self.take()
        if self._heard is None:
            self._heard, self._pending = bytearray(), piece  # which tells that an answer has begun
        self._heard += piece
        if len(self._heard) > MAX_ANSWER_BYTES:
            self.abandon()
            self._fail(too_long(self.way.entry.model.id))
        elif self.complete:
            self._render(head, bytes(self._heard))

    def _render(self, head: AnswerHead, said: bytes) -> None:
        """Sends the transcript in the words and the format that the client asked for."""
        model = self.way.entry.model.id
        self.exchange.usage = with_seconds(read_usage(said), head.audio_seconds)
        try:
            body = render(read_heard(said, head.media_type, model), self.request, model)
        except GatewayError as error:
            self._fail(error)
            return
        passing = [each for each in head.passing_to(self.exchange.standing) if each[0] not in OF_THE_BODY]
        kind = formats.MEDIA_TYPES[self.request.response_format].encode()
        self.head = AnswerHead(HTTPStatus.OK, head.headers)  # whatever good one the engine's own was
        self._send_head(lines_of([*passing, (b"content-type", kind)]), body, len(body))
        self._end()

    @override
    def _usage_of(self, body: bytes) -> Usage:
        usage = read_usage(body) if self.head.media_type == _JSON else NOTHING
        return with_seconds(usage, self.head.audio_seconds)

    @override
    def _reader(self) -> Reader:
        return Hearing(self.head.media_type, self.head.audio_seconds)
