"""What a transcript looks like on the wire: OpenAI's six formats and its streamed events.

Pure functions over plain data, standard library alone: the gateway imports this module and nothing else of
the SDK. What the words are, and when an answer is sent, is decided elsewhere.
"""

import json
import math
import textwrap
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
    DIARIZED_JSON = "diarized_json"


class Granularity(StrEnum):
    WORD = "word"
    SEGMENT = "segment"


MEDIA_TYPES: Final = {
    ResponseFormat.JSON: "application/json",
    ResponseFormat.VERBOSE_JSON: "application/json",
    ResponseFormat.TEXT: "text/plain; charset=utf-8",
    ResponseFormat.SRT: "text/plain; charset=utf-8",
    ResponseFormat.VTT: "text/vtt; charset=utf-8",
    ResponseFormat.DIARIZED_JSON: "application/json",
}


UNKNOWN_SPEAKER: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Word:
    """One spoken word; times are seconds from the start of the recording."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech; times are seconds from the start of the recording.

    `language` is the code that the engine found out for itself, if it did. The next four fields are Whisper's
    own measures; an engine without them leaves the defaults, and clients see the fields that they require.
    `speaker` is the label of who speaks, where the engine tells speakers apart.
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
    speaker: str | None = None


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)
_LONG_SEGMENTS: Final = 100
"""Ten minutes of speech, nearly."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """A whole recording's text. `language` is a code, `duration` is the recording's length in seconds.

    `task` is `transcribe` or `translate`.
    """

    language: str
    duration: float
    segments: tuple[Segment, ...] = ()
    task: str = "transcribe"

    @property
    def is_long(self) -> bool:
        return len(self.segments) > _LONG_SEGMENTS

    @property
    def text(self) -> str:
        space = "" if self.language in UNSPACED else " "
        return space.join(filter(None, (segment.text.strip() for segment in self.segments)))


def joined(text: str, more: str, language: str) -> str:
    """The text with a segment's added: a space between them, in languages that have spaces."""
    space = " " if text and more.strip() and language not in UNSPACED else ""
    return text + space + more.strip()


def render(transcript: Transcript, wanted: ResponseFormat, granularities: frozenset[Granularity]) -> str:
    """The body of the answer in one of the six formats; its media type is `MEDIA_TYPES[wanted]`.

    A `long` transcript's takes a tenth of a second and more: in a thread, where others are waiting.
    """
    match wanted:
        case ResponseFormat.JSON:
            return _json({"text": transcript.text} | _usage(transcript))
        case ResponseFormat.VERBOSE_JSON:
            return _json(verbose(transcript, granularities), long=transcript.is_long)
        case ResponseFormat.TEXT:
            return transcript.text + "\n"
        case ResponseFormat.SRT:
            return srt(transcript.segments)
        case ResponseFormat.VTT:
            return vtt(transcript.segments)
        case ResponseFormat.DIARIZED_JSON:
            body = diarized(transcript.segments, transcript.duration, transcript.language)
            return _json(body | _usage(transcript), long=transcript.is_long)
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
        body["words"] = [word_body(word) for segment in transcript.segments for word in segment.words]
    if Granularity.SEGMENT in granularities or not granularities:
        body["segments"] = [
            segment_body(number, segment) for number, segment in enumerate(transcript.segments)
        ]
    return body | _usage(transcript)


def diarized(segments: Sequence[Segment], duration: float, language: str) -> dict[str, Any]:
    """OpenAI's `diarized_json`: who says what, and a text with a line for each turn.

    A segment whose speaker could not be told is of the speaker `unknown`.
    """
    turns: list[tuple[str, str]] = []
    bodies = []
    for number, segment in enumerate(_spoken(segments)):
        speaker = segment.speaker or UNKNOWN_SPEAKER
        said = turns.pop()[1] if turns and turns[-1][0] == speaker else ""
        turns.append((speaker, joined(said, segment.text, language)))
        bodies.append(
            {
                "type": "transcript.text.segment",
                "id": f"seg_{number:03d}",
                "start": _seconds(segment.start),
                "end": _seconds(segment.end),
                "text": segment.text.strip(),
                "speaker": speaker,
            }
        )
    return {
        "task": "transcribe",
        "duration": _seconds(duration),
        "text": "\n".join(f"{speaker}: {said}" for speaker, said in turns),
        "segments": bodies,
    }


def srt(segments: Sequence[Segment], characters_per_line: int | None = None) -> str:
    """SubRip: numbered cues with a decimal comma, an empty line after each.

    A cue has one line, or as many as `characters_per_line` asks for.
    """
    cues = (
        f"{number}\n{clock(cue.start, ',')} --> {clock(cue.end, ',')}\n"
        f"{_lines(cue.text, characters_per_line)}\n\n"
        for number, cue in enumerate(_spoken(segments), start=1)
    )
    return "".join(cues)


def vtt(segments: Sequence[Segment]) -> str:
    """WebVTT: the header, then cues with a decimal point; the text is escaped, since VTT has markup."""
    cues = (
        f"{clock(cue.start, '.')} --> {clock(cue.end, '.')}\n{_escaped(_one_line(cue.text))}\n\n"
        for cue in _spoken(segments)
    )
    return "WEBVTT\n\n" + "".join(cues)


def delta_event(delta: str) -> str:
    """One server-sent event with a piece of text, as OpenAI streams it."""
    return _event({"type": "transcript.text.delta", "delta": delta})


def done_event(text: str, *, tokens: dict[str, Any] | None = None, duration: float | None = None) -> str:
    """The last server-sent event, with the whole text.

    Its `usage` can only be one by `tokens`: OpenAI has no other here, and strict clients take no other. The
    length of the recording stands beside it, as `duration`.
    """
    body: dict[str, Any] = {"type": "transcript.text.done", "text": text}
    if tokens is not None:
        body["usage"] = tokens
    if duration is not None:
        body["duration"] = _seconds(duration)
    return _event(body)


def error_event(error: dict[str, Any]) -> str:
    """A failure after the first byte of a stream: `error` has the four keys of OpenAI's envelope."""
    return _event({"error": error})


def segment_body(number: int, segment: Segment) -> dict[str, Any]:
    """A segment of `verbose_json`, all ten members that clients require, and the speaker if one is told."""
    body: dict[str, Any] = {
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
    return body if segment.speaker is None else body | {"speaker": segment.speaker}


def word_body(word: Word) -> dict[str, Any]:
    """A word of `verbose_json`."""
    return {"word": word.text, "start": _seconds(word.start), "end": _seconds(word.end)}


def duration_usage(seconds: float) -> dict[str, Any]:
    """Whole seconds, begun ones counted, as OpenAI bills them."""
    return {"type": "duration", "seconds": math.ceil(_seconds(seconds))}


def _usage(transcript: Transcript) -> dict[str, Any]:
    """A transcript tells its usage; OpenAI's translations have no such member."""
    return {"usage": duration_usage(transcript.duration)} if transcript.task == "transcribe" else {}


def compression_ratio(text: str) -> float:
    """Whisper's measure of repetition: bytes of the text over bytes of its zlib form; 0.0 for no text."""
    raw = text.encode()
    return round(len(raw) / len(zlib.compress(raw)), 4) if raw else 0.0


def _spoken(segments: Iterable[Segment]) -> Iterable[Segment]:
    return (segment for segment in segments if segment.text.strip())


def _one_line(text: str) -> str:
    # A cue ends at an empty line, so a line break inside its text would cut it short.
    return " ".join(text.split())


def _lines(text: str, characters: int | None) -> str:
    line = _one_line(text)
    return "\n".join(textwrap.wrap(line, characters)) if characters else line


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def clock(seconds: float, mark: str) -> str:
    """`01:02:03,456` with the comma or point that the format wants before its milliseconds."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{mark}{milliseconds % 1000:03d}"


def _seconds(value: float) -> float:
    return round(float(value), 3)


def _json(body: dict[str, Any], *, long: bool = False) -> str:
    """A `long` one in Python, which lets other threads on; C would hold its lock until it is through."""
    return "".join(_ENCODER.iterencode(body)) if long else json.dumps(body, ensure_ascii=False)


def _event(body: dict[str, Any]) -> str:
    return f"data: {_json(body)}\n\n"
