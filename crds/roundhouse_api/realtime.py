"""The realtime protocol between clients, gateway and engines: what the WebSocket carries, frozen by version.

A client opens `PATH` with its parameters in the query and sends raw audio of one channel as binary frames,
of any size up to `MESSAGE_BYTES`. What it wants beside that it says in text frames of JSON (`Control`); what
is heard comes back as such frames (`Event`), each with `type` and `lagMs`. An event gets new fields, never
other ones: readers pass over what they do not know. What would break a reader gets another VERSION.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from roundhouse_api.enums import Encoding
from roundhouse_api.model import camel_case

VERSION: Final = 1
PATH: Final = "/v1/audio/transcriptions/stream"
MESSAGE_BYTES: Final = 1 << 20
"""The largest frame that an engine takes."""
SAMPLE_RATES: Final = (8_000, 96_000)
"""The lowest and the highest, in hertz."""
DEFAULT_SAMPLE_RATE: Final = 16_000


class Parameter(StrEnum):
    """What the query may say."""

    MODEL = "model"
    """Absent at the gateway: `auto`."""
    LANGUAGE = "language"
    ENCODING = "encoding"
    """An `Encoding`; absent: pcm_s16le."""
    SAMPLE_RATE = "sample_rate"
    INTERIM_RESULTS = "interim_results"
    """`false`: no `transcript.partial`."""
    WORD_TIMESTAMPS = "word_timestamps"
    PROMPT = "prompt"
    VAD = "vad"
    """`false`: an utterance ends where the client says `flush`, else also where its speaker pauses."""
    SILENCE_MS = "silence_ms"
    """How long a pause ends an utterance; absent: the engine decides, sooner the longer it already is."""


class Close(IntEnum):
    """Why a session was ended, or not begun; the close frame's reason says it in words."""

    NORMAL = 1000
    GOING_AWAY = 1012
    """The server leaves, after it has said `session.ending`. Another one will take a new session."""
    TOO_LARGE = 1009
    FAILED = 1011
    """The engine's or the gateway's fault."""
    UNKNOWN_MODEL = 4000
    LAG = 4010
    """The engine fell behind the speaker, and did not catch up."""
    PARAMETERS = 4400
    """A parameter or a message is wrong."""
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    """The API key may not use the route, or the model."""
    IDLE = 4408
    """The client sent nothing for too long, or the session has lasted as long as it may."""
    LIMIT = 4429
    """The key's limits, or every place for a session is taken. Try again later."""
    NOTHING_RUNS = 4503


class _Message(BaseModel):
    model_config = ConfigDict(alias_generator=camel_case, populate_by_name=True, frozen=True)


class Flush(_Message):
    """End the utterance here, whatever the speaker does. Answered by `flushed` once its text is out."""

    type: Literal["flush"]
    id: str | None = Field(default=None, max_length=128)


class Clear(_Message):
    """Forget the utterance that has begun. Answered by `cleared`."""

    type: Literal["clear"]
    id: str | None = Field(default=None, max_length=128)


class End(_Message):
    """No more audio comes: the rest is transcribed, then follow `session.end` and the close frame."""

    type: Literal["end"]


class Word(BaseModel):
    """Times here and below are seconds of the audio since the session began."""

    text: str
    start: float
    end: float


class _Event(_Message):
    lag_ms: int
    """How far the engine is behind one that works as fast as people speak."""


class SessionBegin(_Event):
    """The first event: what was agreed."""

    type: Literal["session.begin"]
    version: int
    session_id: str
    model: str
    language: str | None
    encoding: Encoding
    sample_rate: int
    interim_results: bool
    word_timestamps: bool
    vad: bool


class SpeechStart(_Event):
    type: Literal["vad.speech_start"]
    utterance: int
    """Counts from 1."""
    at: float


class SpeechEnd(_Event):
    """Of the utterance; its final text may take a moment."""

    type: Literal["vad.speech_end"]
    utterance: int
    at: float


class Partial(_Event):
    """What the utterance seems to say so far. The next one replaces it, also in its beginning."""

    type: Literal["transcript.partial"]
    utterance: int
    text: str
    start: float
    end: float


class Transcript(_Event):
    """What the utterance says, once for each that was begun; empty where it was no speech after all."""

    type: Literal["transcript.final"]
    utterance: int
    text: str
    start: float
    end: float
    language: str | None = None
    words: tuple[Word, ...] | None = None
    """Only where word timestamps were asked for."""


class Flushed(_Event):
    type: Literal["flushed"]
    id: str | None = None


class Cleared(_Event):
    type: Literal["cleared"]
    id: str | None = None


class Warned(_Event):
    """The session goes on, for now. `code` is `lag`."""

    type: Literal["warning"]
    code: str
    message: str


class SessionEnding(_Event):
    """The server will leave: `deadlineMs` from now it ends the session if the client has not."""

    type: Literal["session.ending"]
    deadline_ms: int
    reason: str


class Problem(BaseModel):
    """OpenAI's error object."""

    type: str
    message: str
    param: str | None
    code: str | None


class Failed(_Event):
    """The session is over, or the message is not heeded; a close frame says which."""

    type: Literal["error"]
    error: Problem


class SessionEnd(_Event):
    """The last event of a session that was ended in order."""

    type: Literal["session.end"]
    reason: str
    audio_seconds: float


Control = Flush | Clear | End
Event = (
    SessionBegin
    | SpeechStart
    | SpeechEnd
    | Partial
    | Transcript
    | Flushed
    | Cleared
    | Warned
    | SessionEnding
    | Failed
    | SessionEnd
)

_CONTROL: Final[TypeAdapter[Control]] = TypeAdapter(Annotated[Control, Field(discriminator="type")])
_EVENT: Final[TypeAdapter[Event]] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


def read_control(text: str | bytes) -> Control:
    """Raises pydantic's ValidationError."""
    return _CONTROL.validate_json(text)


def read_event(text: str | bytes) -> Event:
    """Raises pydantic's ValidationError."""
    return _EVENT.validate_json(text)


def known_event(text: str | bytes) -> Event | None:
    """None for an event that this version does not know, or not in this form: readers pass over it."""
    try:
        return read_event(text)
    except ValidationError:
        return None


def write(message: Control | Event) -> str:
    return message.model_dump_json(by_alias=True)
