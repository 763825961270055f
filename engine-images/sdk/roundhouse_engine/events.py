"""What a runner is asked and what it tells, as plain data that crosses threads and processes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, assert_never

from roundhouse_engine.errors import Problem
from roundhouse_engine.formats import Segment, Word
from roundhouse_engine.speech import SpeechOptions


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
class Memory:
    """How much GPU memory a model holds now."""

    model: str
    vram_bytes: int


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


Event = Loading | Loaded | LoadFailed | Memory | Started | Found | Done | Failed | Stopped

_EVENTS: Mapping[str, type[Event]] = {
    kind.__name__: kind for kind in (Loading, Loaded, LoadFailed, Memory, Started, Done, Stopped)
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


def ends(event: Event) -> bool:
    """Whether the event is the last of its request."""
    match event:
        case Done() | Failed() | Stopped():
            return True
        case Loading() | Loaded() | LoadFailed() | Memory() | Started() | Found():
            return False
        case _:
            assert_never(event)
