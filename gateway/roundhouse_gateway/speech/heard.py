"""What an engine has heard, whatever format and dialect it said it in.

Engines differ in the details of `verbose_json`: durations that are texts, languages that are codes, measures
that are null. They are read leniently here; what is missing stays missing.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec.structs import force_setattr

from roundhouse_engine import formats
from roundhouse_engine.languages import language_code
from roundhouse_gateway.errors import EngineFailedError

_JSON: Final = "application/json"
_PLAIN: Final = "text/plain"

Number = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
"""JSON can say numbers that are infinite to a computer; no engine means them."""
Token = Annotated[int, msgspec.Meta(ge=-(1 << 31), lt=1 << 31)]


class Word(msgspec.Struct, frozen=True):
    """`probability` and `speaker` are told by few engines."""

    word: str
    start: Number
    end: Number
    probability: Number | None = None
    speaker: str | None = None

    def __post_init__(self) -> None:
        _clamp(self)

    @property
    def plain(self) -> formats.Word:
        return formats.Word(self.word.strip(), self.start, self.end)


class Segment(msgspec.Struct, frozen=True):
    start: Number
    end: Number
    text: str
    tokens: tuple[Token, ...] | None = None
    temperature: Number | None = None
    avg_logprob: Number | None = None
    no_speech_prob: Number | None = None
    speaker: str | None = None
    words: tuple[Word, ...] | None = None

    def __post_init__(self) -> None:
        _clamp(self)

    @property
    def plain(self) -> formats.Segment:
        """With zeros for measures that the engine does not tell, because clients require them."""
        return formats.Segment(
            start=self.start,
            end=self.end,
            text=self.text,
            tokens=self.tokens or (),
            temperature=self.temperature or 0.0,
            avg_logprob=self.avg_logprob or 0.0,
            no_speech_prob=self.no_speech_prob or 0.0,
            speaker=self.speaker,
        )


def _clamp(timed: Word | Segment) -> None:
    """Models like to begin a little before the recording, and now and then end before they begin."""
    start = max(0.0, timed.start)
    force_setattr(timed, "start", start)
    force_setattr(timed, "end", max(start, timed.end))


class Heard(msgspec.Struct, frozen=True):
    """`duration` is in seconds; `usage` is OpenAI's, by time or by tokens."""

    text: str
    language: str | None = None
    language_probability: Number | None = None
    duration: Number | None = None
    segments: tuple[Segment, ...] | None = None
    words: tuple[Word, ...] | None = None
    usage: dict[str, Any] | None = None

    @property
    def language_code(self) -> str:
        """ISO 639-1 where there is one; empty where the engine named none."""
        named = self.language or ""
        return language_code(named) or named.strip().lower()

    @property
    def all_words(self) -> tuple[Word, ...] | None:
        """The words with their times, from wherever the engine put them."""
        if self.words:
            return self.words
        if self.segments and all(segment.words is not None for segment in self.segments):
            return tuple(word for segment in self.segments for word in segment.words or ())
        return self.words


def read_heard(body: bytes, content_type: str, model: str) -> Heard:
    """The engine's answer; `EngineFailedError` for what is no transcript."""
    if content_type == _PLAIN:
        return Heard(body.decode(errors="replace").strip())
    if content_type != _JSON:
        raise EngineFailedError(f"Engine '{model}' answered {content_type!r}, which is no transcript.")
    try:
        return msgspec.json.decode(body, type=Heard, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EngineFailedError(f"Engine '{model}' answered what is no transcript: {error}.") from error
