"""One transcription from file to segments, told in events; of sessions `listening` has the middle.

The same code runs in a thread of the server and in a child process. It knows nothing of HTTP.
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

import roundhouse_engine.vad  # noqa: F401 - handlers import it late, and no first request shall wait for numpy
from roundhouse_engine.audio import decode, inspect
from roundhouse_engine.errors import EngineError, failed
from roundhouse_engine.events import (
    Ask,
    Done,
    Event,
    Failed,
    Found,
    Loaded,
    LoadFailed,
    Loading,
    Memory,
    Started,
    Stopped,
)
from roundhouse_engine.listening import listen
from roundhouse_engine.presentable import presentable
from roundhouse_engine.realtime_speech import RealtimeSpeech
from roundhouse_engine.speech import Cancellation, Cancelled, ModelError, ModelSpec, Speech

logger = logging.getLogger(__name__)


def load(
    handler: type[Speech], models: tuple[ModelSpec, ...], tell: Callable[[Event], None]
) -> dict[str, Speech]:
    """An instance for each model, loaded, telling of progress; empty after it told `LoadFailed`."""
    begun = time.monotonic()
    instances = {}
    for model in models:
        tell(Loading(model.name, 0.0))
        instance = handler()
        try:
            instance.load(model, lambda part, name=model.name: tell(Loading(name, part)))  # type: ignore[misc]
        except ModelError as error:
            tell(LoadFailed(str(error)))
            return {}
        except Exception as error:
            logger.exception("model failed to load", extra={"model": model.name})
            tell(LoadFailed(f"{model.name!r} failed to load: {type(error).__name__}: {error}"))
            return {}
        tell(Loading(model.name, 1.0))
        for event in _memory(instance, model.name):
            tell(event)
        instances[model.name] = instance
    tell(Loaded(time.monotonic() - begun))
    return instances


def transcribe(handler: Speech, file: BinaryIO, ask: Ask, cancellation: Cancellation) -> Iterator[Event]:
    """The events of one request; the last is `Done`, `Failed` or `Stopped`, whatever happens."""
    begun = time.monotonic()
    try:
        if ask.stream is None:
            yield from _recording(handler, file, ask, cancellation)
        else:
            assert isinstance(handler, RealtimeSpeech)  # noqa: S101 - the route asks no other
            yield from listen(handler, file, ask.options, ask.stream, cancellation)
        cancellation.check()
        yield from _memory(handler, ask.model)
        yield Done(time.monotonic() - begun)
    except Cancelled:
        yield Stopped()
    except EngineError as error:
        yield Failed(error.problem)
    except (Exception, SystemExit) as error:  # a library that exits ends the request and not the engine
        logger.exception("transcription failed", extra={"model": ask.model})
        yield Failed(failed(f"The engine failed while it transcribed ({type(error).__name__}).").problem)


def _recording(handler: Speech, file: BinaryIO, ask: Ask, cancellation: Cancellation) -> Iterator[Event]:
    seconds = inspect(file, ask.audio_limit_seconds, cancellation)
    yield Started(seconds)
    audio = decode(file, handler.sample_rate, cancellation)
    windows = handler.windows(audio, cancellation)
    for segment in handler.transcribe(windows, ask.options, cancellation):
        cancellation.check()
        yield Found(presentable(segment, seconds))


def _memory(handler: Speech, model: str) -> Iterator[Memory]:
    """What the handler says of its memory; a handler that fails to say it serves all the same."""
    try:
        vram_bytes = handler.vram_bytes()
    except Exception:
        logger.exception("GPU memory could not be read", extra={"model": model})
        return
    if vram_bytes is not None:
        yield Memory(model, int(vram_bytes))
