"""What a transcript looks like on the wire: OpenAI's json, verbose_json, text, srt, vtt and streamed events.

Pure functions over plain data, standard library alone: the gateway imports this module and nothing else of
the SDK. What the words are, and when an answer is sent, is decided elsewhere.
"""

import json
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, assert_never

from roundhouse_engine.languages import UNSPACED, english_name


class ResponseFormat(StrEnum):
    JSON = "json"
    TEXT = "text"
    VERBOSE_JSON = "verbose_json"
    SRT = "srt"
    VTT = "vtt"


class Granularity(StrEnum):
    WORD = "word"
    SEGMENT = "segment"


MEDIA_TYPES: Final = {
    ResponseFormat.JSON: "application/json",
    ResponseFormat.VERBOSE_JSON: "application/json",
    ResponseFormat.TEXT: "text/plain; charset=utf-8",
    ResponseFormat.SRT: "text/plain; charset=utf-8",
    ResponseFormat.VTT: "text/vtt; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Word:
    """One spoken word; times are seconds from the start of the recording."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech; times are seconds from the start of the recording.

    `language` is the code that the engine found out for itself, if it did. The last five fields are Whisper's
    own measures; an engine without them leaves the defaults, and clients see the fields that they require.
    """

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    language: str | None = None
    tokens: tuple[int, ...] = ()
    temperature: float = 0.0
    avg_logprob: float = 0.0
    no_speech_prob: float = 0.0


@dataclass(frozen=True, slots=True)
class Transcript:
    """A whole recording's text. `language` is a code, `duration` is the recording's length in seconds."""

    language: str
    duration: float
    segments: tuple[Segment, ...] = ()
    task: str = "transcribe"

    @property
    def text(self) -> str:
        text = ""
        for segment in self.segments:
            text = joined(text, segment.text, self.language)
        return text


def joined(text: str, more: str, language: str) -> str:
    """The text with a segment's added: a space between them, in languages that have spaces."""
    space = " " if text and more.strip() and language not in UNSPACED else ""
    return text + space + more.strip()


def render(transcript: Transcript, wanted: ResponseFormat, granularities: frozenset[Granularity]) -> str:
    """The body of the answer in one of the five formats; its media type is `MEDIA_TYPES[wanted]`."""
    match wanted:
        case ResponseFormat.JSON:
            return _json({"text": transcript.text, "usage": _usage(transcript)})
        case ResponseFormat.VERBOSE_JSON:
            return _json(verbose(transcript, granularities))
        case ResponseFormat.TEXT:
            return transcript.text + "\n"
        case ResponseFormat.SRT:
            return srt(transcript.segments)
        case ResponseFormat.VTT:
            return vtt(transcript.segments)
        case _:
            assert_never(wanted)


def verbose(transcript: Transcript, granularities: frozenset[Granularity]) -> dict[str, Any]:
    """OpenAI's `verbose_json`: `words` and `segments` only where asked for, segments when nothing was."""
    body: dict[str, Any] = {
        "task": transcript.task,
        "language": english_name(transcript.language),
        "duration": _seconds(transcript.duration),
        "text": transcript.text,
    }
    if Granularity.WORD in granularities:
        body["words"] = [_word(word) for segment in transcript.segments for word in segment.words]
    if Granularity.SEGMENT in granularities or not granularities:
        body["segments"] = [_segment(number, segment) for number, segment in enumerate(transcript.segments)]
    return body | {"usage": _usage(transcript)}


def srt(segments: Sequence[Segment]) -> str:
    """SubRip: numbered cues with a decimal comma, an empty line after each."""
    cues = (
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{_one_line(cue.text)}\n\n"
        for number, cue in enumerate(_spoken(segments), start=1)
    )
    return "".join(cues)


def vtt(segments: Sequence[Segment]) -> str:
    """WebVTT: the header, then cues with a decimal point; the text is escaped, since VTT has markup."""
    cues = (
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escaped(_one_line(cue.text))}\n\n"
        for cue in _spoken(segments)
    )
    return "WEBVTT\n\n" + "".join(cues)


def delta_event(delta: str) -> str:
    """One server-sent event with a piece of text, as OpenAI streams it."""
    return _event({"type": "transcript.text.delta", "delta": delta})


def done_event(text: str) -> str:
    """The last server-sent event, with the whole text."""
    return _event({"type": "transcript.text.done", "text": text})


def error_event(error: dict[str, Any]) -> str:
    """A failure after the first byte of a stream: `error` has the four keys of OpenAI's envelope."""
    return _event({"error": error})


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    return {
        "id": number,
        "seek": round(segment.start * 100),
        "start": _seconds(segment.start),
        "end": _seconds(segment.end),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": segment.temperature,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": compression_ratio(segment.text),
        "no_speech_prob": segment.no_speech_prob,
    }


def _word(word: Word) -> dict[str, Any]:
    return {"word": word.text, "start": _seconds(word.start), "end": _seconds(word.end)}


def _usage(transcript: Transcript) -> dict[str, Any]:
    # Whole seconds, begun ones counted, as OpenAI bills them.
    return {"type": "duration", "seconds": math.ceil(_seconds(transcript.duration))}


def compression_ratio(text: str) -> float:
    """Whisper's measure of repetition: bytes of the text over bytes of its zlib form; 0.0 for no text."""
    raw = text.encode()
    return round(len(raw) / len(zlib.compress(raw)), 4) if raw else 0.0


def _spoken(segments: Iterable[Segment]) -> Iterable[Segment]:
    return (segment for segment in segments if segment.text.strip())


def _one_line(text: str) -> str:
    # A cue ends at an empty line, so a line break inside its text would cut it short.
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{mark}{milliseconds % 1000:03d}"


def _seconds(value: float) -> float:
    return round(float(value), 3)


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False)


def _event(body: dict[str, Any]) -> str:
    return f"data: {_json(body)}\n\n"
