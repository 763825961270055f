"""One transcription from file to segments, and the events that tell of it.

The same code runs in a thread of the server and in a child process; `to_wire` and `from_wire` carry its
events between processes. It knows nothing of HTTP.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO, assert_never

from roundhouse_engine.audio import decode, inspect
from roundhouse_engine.errors import EngineError, Problem, failed
from roundhouse_engine.formats import Segment, Word
from roundhouse_engine.speech import Cancellation, Cancelled, ModelError, ModelSpec, Speech, SpeechOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loading:
    """A model's weights are being read; `progress` is the part done, 0 to 1."""

    model: str
    progress: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """Every model can be used."""

    seconds: float


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A model cannot be used, and trying again will not help."""

    message: str


@dataclass(frozen=True, slots=True)
class Started:
    """The recording can be read; `audio_seconds` is its length."""

    audio_seconds: float


@dataclass(frozen=True, slots=True)
class Found:
    segment: Segment


@dataclass(frozen=True, slots=True)
class Done:
    compute_seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The request failed; the engine goes on."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Stopped:
    """The request was cancelled and computes no more."""


Event = Loading | Loaded | LoadFailed | Started | Found | Done | Failed | Stopped

_EVENTS: Mapping[str, type[Event]] = {
    kind.__name__: kind for kind in (Loading, Loaded, LoadFailed, Started, Done, Stopped)
}


@dataclass(frozen=True, slots=True)
class Ask:
    """What to transcribe with; the recording itself is an open file beside it."""

    model: str
    options: SpeechOptions
    audio_limit_seconds: float


def to_wire(event: Event) -> dict[str, Any]:
    return {"event": type(event).__name__, **asdict(event)}


def from_wire(wire: Mapping[str, Any]) -> Event:
    values = {key: value for key, value in wire.items() if key != "event"}
    if wire["event"] == Found.__name__:
        segment = values["segment"]
        words = tuple(Word(**word) for word in segment["words"])
        return Found(Segment(**{**segment, "words": words, "tokens": tuple(segment["tokens"])}))
    if wire["event"] == Failed.__name__:
        return Failed(Problem.from_wire(values["problem"]))
    return _EVENTS[wire["event"]](**values)


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
        instances[model.name] = instance
    tell(Loaded(time.monotonic() - begun))
    return instances


def transcribe(handler: Speech, file: BinaryIO, ask: Ask, cancellation: Cancellation) -> Iterator[Event]:
    """The events of one request; the last is `Done`, `Failed` or `Stopped`, whatever happens."""
    begun = time.monotonic()
    try:
        recording = inspect(file, ask.audio_limit_seconds, cancellation)
        yield Started(recording.seconds)
        audio = decode(file, handler.sample_rate, cancellation)
        windows = handler.windows(audio, cancellation)
        for segment in handler.transcribe(windows, ask.options, cancellation):
            cancellation.check()
            yield Found(_within(segment, recording.seconds))
        cancellation.check()
        yield Done(time.monotonic() - begun)
    except Cancelled:
        yield Stopped()
    except EngineError as error:
        yield Failed(error.problem)
    except Exception as error:
        logger.exception("transcription failed", extra={"model": ask.model})
        yield Failed(failed(f"The engine failed while it transcribed ({type(error).__name__}).").problem)


def _within(segment: Segment, seconds: float) -> Segment:
    """The segment with its times inside the recording: models like to end a word after the last sample."""

    def clamp(value: float) -> float:
        return min(max(float(value), 0.0), seconds)

    words = tuple(Word(word.text, clamp(word.start), clamp(word.end)) for word in segment.words)
    return replace(segment, start=clamp(segment.start), end=clamp(segment.end), words=words)


def ends(event: Event) -> bool:
    """Whether the event is the last of its request."""
    match event:
        case Done() | Failed() | Stopped():
            return True
        case Loading() | Loaded() | LoadFailed() | Started() | Found():
            return False
        case _:
            assert_never(event)
