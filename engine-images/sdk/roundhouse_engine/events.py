"""What a runner is asked and what it tells, as plain data that crosses threads and processes."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, assert_never

from roundhouse_engine.errors import Problem
from roundhouse_engine.formats import Segment, Word
from roundhouse_engine.realtime_speech import StreamOptions
from roundhouse_engine.speech import SpeechOptions, Task
from roundhouse_engine.text import Finish, FinishReason, Piece, Prompted, ToolCall
from roundhouse_engine.text_events import (
    Composed,
    Composing,
    Embedded,
    Halved,
    Ranked,
    Spoiled,
    TextAsk,
    TextEvent,
    TextWork,
)


@dataclass(frozen=True, slots=True)
class Loading:
    """A model's weights are being read; `progress` is the part done, 0 to 1."""

    model: str
    progress: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """Every model can be used. Loading took `seconds`, and `ram_bytes` of this process's memory."""

    seconds: float
    ram_bytes: int = 0


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


@dataclass(frozen=True, slots=True)
class Heard:
    """A session's audio is worked through up to here, in seconds since it began.

    `compute_seconds`: what that took since it was told last.
    """

    seconds: float
    compute_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SpeechBegan:
    """A session's utterance; they are counted from 1."""

    utterance: int
    at: float


@dataclass(frozen=True, slots=True)
class SpeechOver:
    utterance: int
    at: float


@dataclass(frozen=True, slots=True)
class Guessed:
    """What a session's utterance seems to say so far."""

    utterance: int
    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Uttered:
    """What a session's utterance says; `found.text` is empty where it was none."""

    utterance: int
    found: Segment


@dataclass(frozen=True, slots=True)
class Flushed:
    id: str


@dataclass(frozen=True, slots=True)
class Cleared:
    id: str


LONGEST_LINE: Final = 16 << 20
"""Bytes of an event on its way from one process to another."""

StreamEvent = Heard | SpeechBegan | SpeechOver | Guessed | Uttered | Flushed | Cleared
Common = Loading | Loaded | LoadFailed | Memory | Done | Failed | Stopped
Event = Common | Started | Found | StreamEvent | TextEvent

_KINDS = (
    *(Loading, Loaded, LoadFailed, Memory, Started, Done, Stopped),
    *(Heard, SpeechBegan, SpeechOver, Guessed, Flushed, Cleared),
    *(Found, Uttered, Failed, Prompted, Piece, Finish, Embedded, Ranked, Spoiled, Halved),
    *(Composing, Composed),
)
_EVENTS: Mapping[str, type[Event]] = {kind.__name__: kind for kind in _KINDS}


@dataclass(frozen=True, slots=True)
class Ask:
    """What to transcribe with; the recording itself is an open file beside it.

    With `stream` the file is a session's stream of frames, which goes on while it is read.
    """

    model: str
    options: SpeechOptions
    audio_limit_seconds: float
    stream: StreamOptions | None = None

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> "Ask":
        options, stream = wire["options"], wire["stream"]
        return cls(
            wire["model"],
            SpeechOptions(**{**options, "task": Task(options["task"])}),
            wire["audio_limit_seconds"],
            StreamOptions(**stream) if stream else None,
        )


Work = Ask | TextAsk


def work_from_wire(wire: Mapping[str, Any]) -> Work:
    return (
        TextAsk(wire["model"], TextWork(wire["work"]), wire["whole"])
        if "work" in wire
        else Ask.from_wire(wire)
    )


def to_wire(event: Event) -> dict[str, Any]:
    return {"event": type(event).__name__, **asdict(event)}


def from_wire(wire: Mapping[str, Any]) -> Event:
    values = {key: value for key, value in wire.items() if key != "event"}
    kind = _EVENTS[wire["event"]]
    return kind(**{name: _INNER[name](value) if name in _INNER else value for name, value in values.items()})


def _segment(wire: Mapping[str, Any]) -> Segment:
    words = tuple(Word(**word) for word in wire["words"])
    return Segment(**{**wire, "words": words, "tokens": tuple(wire["tokens"])})


_INNER: Final[Mapping[str, Callable[[Any], Any]]] = {
    "segment": _segment,
    "found": _segment,
    "problem": Problem.from_wire,
    "reason": FinishReason,
    "tool_calls": lambda calls: tuple(ToolCall(**call) for call in calls),
}
"""Fields that are no plain values, by their names, which mean the same in every event."""


def ends(event: Event) -> bool:
    """Whether the event is the last of its request."""
    match event:
        case Done() | Failed() | Stopped():
            return True
        case Loading() | Loaded() | LoadFailed() | Memory() | Started() | Found():
            return False
        case Heard() | SpeechBegan() | SpeechOver() | Guessed() | Uttered() | Flushed() | Cleared():
            return False
        case Prompted() | Piece() | Finish() | Embedded() | Ranked() | Spoiled() | Halved():
            return False
        case Composing() | Composed():
            return False
        case _:
            assert_never(event)
