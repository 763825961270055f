"""An engine's answer on its way to the client: as it is where that is what was asked for, else written anew.

What is written anew is held whole, within a bound, or piece by piece where it is a stream. Until the first
byte is sent a failure is an error with a status; in a stream it is an event after that.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import msgspec
from starlette.types import Send

from roundhouse_engine import formats
from roundhouse_engine.formats import ResponseFormat
from roundhouse_gateway.errors import (
    CLOSE,
    BrokenAnswerError,
    EngineAnsweredError,
    EngineFailedError,
    GatewayError,
    Headers,
    UnsupportedValueError,
    envelope,
    error_of,
)
from roundhouse_gateway.relay import EVENT_STREAM, OF_THE_BODY, passing, read_error, relay
from roundhouse_gateway.snapshot import Entry
from roundhouse_gateway.speech.dialects import Plan
from roundhouse_gateway.speech.events import Told, data_of
from roundhouse_gateway.speech.heard import Heard, read_heard
from roundhouse_gateway.speech.metering import Meter
from roundhouse_gateway.speech.render import language_of, render
from roundhouse_gateway.transcription_request import TranscriptionRequest
from roundhouse_gateway.usage import AUDIO_SECONDS_HEADER, NOTHING, Usage, read_usage, with_seconds

MAX_ANSWER_BYTES: Final = 32 << 20
"""Of an answer that is written anew: a week of speech with the times of its words has less."""

_JSON: Final = "application/json"
_JSON_FORMATS: Final = frozenset(
    {ResponseFormat.JSON, ResponseFormat.VERBOSE_JSON, ResponseFormat.DIARIZED_JSON}
)


@dataclass(slots=True)
class Answer:
    """What an engine said, and who is to get it. Without `keep_alive` the connection ends with it.

    `usage` is what the answer says it has used, once it is sent.
    """

    response: aiohttp.ClientResponse
    entry: Entry
    send: Send
    keep_alive: bool
    usage: Usage = NOTHING

    @property
    def model(self) -> str:
        return self.entry.model.id

    @property
    def streams(self) -> bool:
        return self.response.content_type == EVENT_STREAM

    @property
    def audio_seconds(self) -> str | None:
        """What the engine tells of the recording's length."""
        return self.response.headers.get(AUDIO_SECONDS_HEADER)

    async def hear(self) -> Heard:
        """The whole answer, read; the engine's own error, or `EngineFailedError`."""
        if not 200 <= self.response.status < 300:
            raise await read_error(self.response, self.model, self.entry.access)
        body = bytearray()
        try:
            async for chunk in self.response.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise too_long(self.model)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise EngineFailedError(f"Engine '{self.model}' broke off in its answer.") from error
        said = self.entry.access.blotted(bytes(body))
        self.usage = with_seconds(read_usage(said), self.audio_seconds)
        return read_heard(said, self.response.content_type, self.model)

    async def begin(self, *own: tuple[bytes, bytes]) -> None:
        headers: Headers = [
            *((name, value) for name, value in passing(self.response) if name not in OF_THE_BODY),
            *own,
        ]
        if not self.keep_alive:
            headers.append(CLOSE)
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})

    async def write(self, piece: bytes) -> None:
        await self.send({"type": "http.response.body", "body": piece, "more_body": True})

    async def send_whole(self, body: bytes, media_type: str) -> None:
        """All of the answer but for its end, as `relay` does."""
        length = (b"content-length", b"%d" % len(body))
        await self.begin((b"content-type", media_type.encode()), length)
        await self.write(body)


async def send_answer(answer: Answer, request: TranscriptionRequest, plan: Plan) -> None:
    """All of the answer but for its end. Raises what `relay` raises."""
    if answer.response.status == 400 and plan.added:
        error = await read_error(answer.response, answer.model, answer.entry.access)
        raise explained(error, answer.model, request)
    if not 200 <= answer.response.status < 300 or is_right(answer.response.content_type, request, plan):
        await _pass_on(answer)
    elif request.stream:
        await _Stream(answer, request, plan).run()
    else:
        body = render(await answer.hear(), request, answer.model)
        await answer.send_whole(body, formats.MEDIA_TYPES[request.response_format])


async def _pass_on(answer: Answer) -> None:
    """Untouched; a stream that breaks off between two events ends with one that says so."""
    meter = Meter(answer.send, answer.response.content_type, answer.audio_seconds)
    try:
        access = answer.entry.access
        await relay(answer.response, answer.model, meter, keep_alive=answer.keep_alive, access=access)
    except BrokenAnswerError:
        if meter.is_between_events:
            broken = EngineFailedError(f"Engine '{answer.model}' broke off in its answer.")
            await answer.write(formats.error_event(told_of(broken)).encode())
        raise
    finally:
        answer.usage = meter.usage()


def told_of(error: GatewayError) -> dict[str, str | None]:
    return {"message": error.message, "type": error.type, "param": error.param, "code": error.code}


def too_long(model: str) -> EngineFailedError:
    return EngineFailedError(f"Engine '{model}' answered more than {MAX_ANSWER_BYTES} bytes.")


def explained(error: GatewayError, model: str, request: TranscriptionRequest) -> GatewayError:
    """An engine's refusal of the format that it was asked for instead of the client's."""
    said = error_of(error.body())["message"] or ""
    if ResponseFormat.VERBOSE_JSON not in said:
        return error
    return UnsupportedValueError(
        f"Engine '{model}' tells no times, which response_format '{request.response_format}' needs; it says: "
        f"{said}",
        param="response_format",
    )


def is_right(media_type: str, request: TranscriptionRequest, plan: Plan) -> bool:
    """Whether the engine's own bytes, of a good answer, are what the client asked for."""
    if not plan.untouched:
        return False
    if request.stream:
        return media_type == EVENT_STREAM
    return request.response_format in _JSON_FORMATS or media_type != _JSON


class _Stream:
    """Events of an engine's dialect, or an answer in one piece, as OpenAI's events."""

    def __init__(self, answer: Answer, request: TranscriptionRequest, plan: Plan) -> None:
        self._answer = answer
        self._request = request
        self._plan = plan
        self._text = ""
        self._begun = False

    async def run(self) -> None:
        try:
            ending = await self._relayed()
        except GatewayError as error:
            if not self._begun:
                raise
            await self._answer.write(formats.error_event(told_of(error)).encode())
            raise BrokenAnswerError(error.message) from error
        await self._begin()
        await self._answer.write(ending.encode())

    async def _relayed(self) -> str:
        """Sends the text as it comes; the event to end with."""
        usage = None
        async for told in self._told():
            if told.error is not None:
                return self._failed(told.error)
            if told.usage:
                usage = told.usage
                self._answer.usage = read_usage(msgspec.json.encode({"usage": usage}))
            await self._add(told)
            if len(self._text) > MAX_ANSWER_BYTES:
                raise EngineFailedError(f"Engine '{self._answer.model}' does not come to an end.")
            if told.ends:
                return self._done(usage)
        if self._plan.marks_end:
            raise EngineFailedError(f"Engine '{self._answer.model}' broke off in its answer.")
        return self._done(usage)

    def _done(self, usage: dict[str, Any] | None) -> str:
        if usage is not None and usage.get("type") == "tokens":
            return formats.done_event(self._text, tokens=usage)
        return formats.done_event(self._text, duration=self._answer.usage.audio_seconds or None)

    async def _told(self) -> AsyncIterator[Told]:
        answer = self._answer
        if not answer.streams:
            heard = await answer.hear()
            text = heard.text.strip()
            yield Told(text, text=text, usage=heard.usage, ends=True)
            return
        try:
            async for data in data_of(answer.response.content.iter_any(), answer.model):
                yield self._plan.read_event(answer.entry.access.blotted(data))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise EngineFailedError(f"Engine '{answer.model}' broke off in its answer.") from error
        except ValueError as error:
            raise EngineFailedError(f"Engine '{answer.model}' sent {error}.") from error

    async def _add(self, told: Told) -> None:
        delta = told.delta
        if told.loose:
            language = language_of(Heard(""), self._request)
            delta = formats.joined(self._text, delta, language)[len(self._text) :]
        if delta:
            await self._begin()
            self._text += delta
            await self._answer.write(formats.delta_event(delta).encode())
        if told.text is not None:
            self._text = told.text

    async def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            stream = (b"content-type", EVENT_STREAM.encode() + b"; charset=utf-8")
            await self._answer.begin(stream, (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))

    def _failed(self, error: dict[str, str | None]) -> str:
        """The event of an error that the engine told of; before the first text it is an answer instead."""
        if not self._begun:
            body = envelope(
                error["message"] or "", error["type"] or "upstream_error", error["param"], error["code"]
            )
            raise EngineAnsweredError(EngineFailedError.status, [], body)
        return formats.error_event(error)
