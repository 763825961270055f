"""The route where the server below it fails."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.types import Message, Scope

from roundhouse_engine.ask import TranscriptionAsk, read_ask
from roundhouse_engine.events import Event, Found, Started
from roundhouse_engine.formats import Segment
from roundhouse_engine.settings import read_settings
from roundhouse_engine.speech import Task
from roundhouse_engine.transcriptions import Transcriptions, _stream, _transcript
from tests.unit.engine.test_pool import Engine
from tests.unit.engine.test_settings import Plain


async def test_what_nobody_foresaw_counts_as_500_and_frees_its_place() -> None:
    engine = Engine()
    await engine.up()
    route = Transcriptions(Plain, read_settings({"MODELS": "m"}, Plain), engine.pool, engine.metrics)
    scope = {"type": "http", "headers": [(b"content-type", b"multipart/form-data; boundary=b")]}

    async def receive() -> Message:
        raise RuntimeError("no such thing ever happens")

    async def send(_: Message) -> None: ...

    with pytest.raises(RuntimeError):
        await route(scope, receive, send)
    assert engine.value("requests_total", model="unknown", code="500") == 1
    assert engine.value("request_seconds_count", model="unknown") == 0
    assert engine.pool.in_use == 0
    engine.supervising.cancel()


class Translator(Plain):
    translation = True


def asked() -> TranscriptionAsk:
    return read_ask({"model": ["m"], "stream": ["true"]}, Plain, ("m",), Task.TRANSCRIBE)


SCOPE: Scope = {"type": "http", "headers": []}


async def streamed(seconds_left: float | None, error: Exception | None) -> tuple[str, int]:
    """How a stream ends whose work fails after it has begun, or goes on until its time is over."""

    async def events() -> AsyncGenerator[Event, None]:
        yield Started(1.0)
        if error is not None:
            raise error
        await asyncio.Event().wait()

    async def send(_: Message) -> None: ...

    return await _stream(events(), asked(), SCOPE, send, seconds_left)


async def test_a_timeout_of_what_computes_is_no_deadline() -> None:
    last, status = await streamed(0.0, None)
    assert "deadline" in last
    assert status == 504
    with pytest.raises(TimeoutError, match="of the disk"):
        await streamed(60.0, TimeoutError("of the disk"))


async def test_a_translation_is_joined_as_english_is_streamed_or_not() -> None:
    ask = read_ask({"model": ["m"], "stream": ["true"]}, Translator, ("m",), Task.TRANSLATE)
    said = [Found(Segment(0, 1, text, language="ja")) for text in ("Good morning.", "How are you?")]

    async def events() -> AsyncGenerator[Event, None]:
        yield Started(2.0)
        for found in said:
            yield found

    async def send(_: Message) -> None: ...

    assert "Good morning. How are you?" in (await _stream(events(), ask, SCOPE, send, None))[0]
    assert (await _transcript(events(), ask)).text == "Good morning. How are you?"
