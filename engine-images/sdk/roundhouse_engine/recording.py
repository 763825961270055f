"""From a recording to segments, told in events; of sessions `listening` has the middle."""

from collections.abc import Iterator
from typing import BinaryIO

import roundhouse_engine.vad  # noqa: F401 - handlers import it late, and no first request shall wait for numpy
from roundhouse_engine.audio import decode, inspect
from roundhouse_engine.authoring import heard
from roundhouse_engine.events import Ask, Event, Found, Started
from roundhouse_engine.handler import Cancellation
from roundhouse_engine.listening import listen
from roundhouse_engine.realtime_speech import RealtimeSpeech
from roundhouse_engine.speech import Speech


def transcribe(handler: Speech, file: BinaryIO, ask: Ask, cancellation: Cancellation) -> Iterator[Event]:
    if ask.stream is None:
        return _recording(handler, file, ask, cancellation)
    assert isinstance(handler, RealtimeSpeech)  # noqa: S101 - the route asks no other
    return listen(handler, file, ask.options, ask.stream, cancellation)


def _recording(handler: Speech, file: BinaryIO, ask: Ask, cancellation: Cancellation) -> Iterator[Event]:
    seconds = inspect(file, ask.audio_limit_seconds, cancellation)
    yield Started(seconds)
    audio = decode(file, handler.sample_rate, ask.audio_limit_seconds, cancellation)
    windows = handler.windows(audio, cancellation)
    found = handler.transcribe(windows, ask.options, cancellation)
    for segment in heard(handler, "transcribe", found, seconds):
        cancellation.check()
        yield Found(segment)
