"""`POST /v1/audio/transcriptions` and `/translations`: from the request's first byte to the answer's last.

The order is the contract: admit, or refuse before the body is read; read the form; check it; compute while
watching whether the client is still there; answer. The slot is free again before a whole answer is written.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from functools import partial
from typing import BinaryIO

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from roundhouse_engine.answers import flushing
from roundhouse_engine.ask import TranscriptionAsk, read_ask
from roundhouse_engine.door import Door, take_place
from roundhouse_engine.errors import EngineError, invalid
from roundhouse_engine.events import Ask, Done, Event, Found, Started
from roundhouse_engine.formats import (
    MEDIA_TYPES,
    Segment,
    Transcript,
    delta_event,
    done_event,
    error_event,
    joined,
    render,
)
from roundhouse_engine.lease import Lease
from roundhouse_engine.leaving import deadline_of, left, overdue, unless_gone
from roundhouse_engine.metrics import UNKNOWN_MODEL, Metrics
from roundhouse_engine.naming import renamed
from roundhouse_engine.settings import Settings
from roundhouse_engine.speech import Speech, Task
from roundhouse_engine.upload import ClientGone, Form, UploadLimits, boundary, read_form

_UNDETERMINED = "und"
_ENGLISH = "en"
_CLIENT_GONE = 499


class Transcriptions:
    """The route of one task, as an ASGI application: it must see the request before its body."""

    def __init__(
        self,
        handler: type[Speech],
        settings: Settings,
        door: Door,
        metrics: Metrics,
        task: Task = Task.TRANSCRIBE,
    ) -> None:
        self._handler = handler
        self._task = task
        self._audio_limit_seconds = settings.audio_limit_seconds
        self._limits = UploadLimits(
            settings.upload_limit_bytes, settings.upload_idle_seconds, settings.spool_dir
        )
        self._door = door
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.monotonic()
        form = Form()
        status = 500  # of what nobody foresaw
        try:
            status = await self._answer(form, scope, receive, send)
        except EngineError as error:
            status = error.problem.status
            raise
        except ClientGone:
            status = _CLIENT_GONE
        finally:
            model = self._label(form)
            scope["roundhouse.model"] = model
            self._metrics.requests.labels(model, str(status)).inc()
            if status == 200:
                self._metrics.request_seconds.labels(model).observe(time.monotonic() - begun)

    async def _answer(self, form: Form, scope: Scope, receive: Receive, send: Send) -> int:
        """The status that it counts as; that of a stream was sent before it could fail."""
        headers = Headers(scope=scope)
        with self._door.admit() as lease, form:
            deadline = deadline_of(headers)
            async with lease.upload():
                await read_form(receive, boundary(headers, self._limits), self._limits, form)
                self._metrics.upload_bytes.inc(form.file_bytes)
                scope["roundhouse.model"] = self._label(form)
                ask, file = self._checked(form)
                await take_place(self._door, ask.model, lease, receive, deadline)
            events = self._events(lease, ask, file)
            if ask.stream:
                last, status = await unless_gone(receive, _stream(events, ask, scope, send, left(deadline)))
            else:
                transcript = await unless_gone(receive, _transcript(events, ask), left(deadline))
        with self._door.answers.another():
            if ask.stream:
                await flushing(send)({"type": "http.response.body", "body": last.encode()})
                return status
            write = partial(render, transcript, ask.response_format, ask.granularities)
            body = await asyncio.to_thread(write) if transcript.is_long else write()
            told = {"X-Roundhouse-Audio-Seconds": f"{transcript.duration:.3f}"}
            response = Response(body, media_type=MEDIA_TYPES[ask.response_format], headers=told)
            await response(scope, receive, flushing(send))
        return 200

    def _checked(self, form: Form) -> tuple[TranscriptionAsk, BinaryIO]:
        ask = read_ask(form.fields, self._handler, self._door.names, self._task)
        if form.file is None:
            raise invalid(
                "The form has no recording: send it in the field 'file'.", param="file", code="missing"
            )
        return ask, form.file

    async def _events(
        self, lease: Lease, ask: TranscriptionAsk, file: BinaryIO
    ) -> AsyncGenerator[Event, None]:
        """The work's events, counted in the metrics as they pass."""
        seconds = 0.0
        work = lease.compute(Ask(ask.model, ask.options, self._audio_limit_seconds), file)
        async with contextlib.aclosing(work):
            async for event in work:
                if isinstance(event, Started):
                    seconds = event.audio_seconds
                elif isinstance(event, Done):
                    self._count(ask.model, seconds, event.compute_seconds)
                yield event

    def _count(self, model: str, audio_seconds: float, compute_seconds: float) -> None:
        self._metrics.audio_seconds.labels(model).inc(audio_seconds)
        self._metrics.compute_seconds.labels(model).inc(compute_seconds)
        self._metrics.recording_seconds.labels(model).observe(audio_seconds)
        if audio_seconds > 0:
            self._metrics.real_time_factor.labels(model).observe(compute_seconds / audio_seconds)

    def _label(self, form: Form) -> str:
        named = form.fields.get("model", [""])[0]
        return named if named in self._door.names else UNKNOWN_MODEL


async def _transcript(events: AsyncGenerator[Event, None], ask: TranscriptionAsk) -> Transcript:
    seconds = 0.0
    segments: list[Segment] = []
    async with contextlib.aclosing(events):
        async for event in events:
            if isinstance(event, Started):
                seconds = event.audio_seconds
            elif isinstance(event, Found):
                segments.append(event.segment)
    return Transcript(_language(ask, segments), seconds, tuple(segments), ask.options.task)


async def _stream(
    events: AsyncGenerator[Event, None],
    ask: TranscriptionAsk,
    scope: Scope,
    send: Send,
    seconds_left: float | None,
) -> tuple[str, int]:
    """Send text as it is found; the event to end with, which is sent once the slot is free, and its status.

    Until the recording proved readable an error is raised, and gets a status; after that it is an event.
    """
    text = ""
    seconds: float | None = None
    async with contextlib.aclosing(events):
        try:
            async with asyncio.timeout(seconds_left) as deadline:
                async for event in events:
                    if isinstance(event, Started):
                        await _begin_stream(send)
                        seconds = event.audio_seconds
                    elif isinstance(event, Found):
                        delta = joined(text, event.segment.text, _language(ask, [event.segment]))[len(text) :]
                        text += delta
                        if delta:
                            body = delta_event(delta).encode()
                            await send({"type": "http.response.body", "body": body, "more_body": True})
        except (EngineError, TimeoutError) as error:
            if isinstance(error, TimeoutError) and not deadline.expired():
                raise  # of what computes, and nobody foresaw it
            told = error if isinstance(error, EngineError) else overdue()
            if seconds is None:
                raise told from None
            return error_event(renamed(told.problem, scope).envelope), told.problem.status
    return done_event(text, duration=seconds), 200


async def _begin_stream(send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


def _language(ask: TranscriptionAsk, segments: list[Segment]) -> str:
    """Of the text, which a translation's is not that of the speech."""
    if ask.options.task is Task.TRANSLATE:
        return _ENGLISH
    found = (segment.language for segment in segments if segment.language)
    return ask.options.language or next(found, _UNDETERMINED)
