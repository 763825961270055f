"""What an engine has heard, in the format that was asked for, or a refusal that says what is missing."""

from collections.abc import Sequence
from typing import Any, Final, assert_never

import msgspec

from roundhouse_engine import formats
from roundhouse_engine.formats import Granularity, ResponseFormat
from roundhouse_engine.languages import english_name
from roundhouse_gateway.errors import UnsupportedValueError
from roundhouse_gateway.speech.cues import segments_of
from roundhouse_gateway.speech.heard import Heard, Segment
from roundhouse_gateway.transcription_request import Task, TranscriptionRequest

_ENGLISH: Final = "english"
_UNDETERMINED: Final = "und"


def render(heard: Heard, request: TranscriptionRequest, model: str) -> bytes:
    """The body of the answer; its media type is `formats.MEDIA_TYPES[request.response_format]`.

    `UnsupportedValueError` names the field that asks for what this engine does not say.
    """
    match request.response_format:
        case ResponseFormat.JSON:
            return msgspec.json.encode({"text": heard.text.strip()} | _usage(heard, request))
        case ResponseFormat.TEXT:
            return f"{heard.text.strip()}\n".encode()
        case ResponseFormat.SRT:
            return formats.srt(_segments(heard, request, model)).encode()
        case ResponseFormat.VTT:
            return formats.vtt(_segments(heard, request, model)).encode()
        case ResponseFormat.VERBOSE_JSON:
            return msgspec.json.encode(_verbose(heard, request, model))
        case ResponseFormat.DIARIZED_JSON:
            return msgspec.json.encode(_diarized(heard, request, model))
        case _:
            assert_never(request.response_format)


def language_of(heard: Heard, request: TranscriptionRequest) -> str:
    """The code of the language that the engine names, else of the one that the client did."""
    return heard.language_code or request.needs.language or _UNDETERMINED


def spoken_segments(heard: Heard, request: TranscriptionRequest, model: str) -> Sequence[Segment]:
    """Segments as the engine gave them, or made of its words."""
    if heard.segments is not None:
        return heard.segments
    if (words := heard.all_words) is not None:
        return segments_of(words, language_of(heard, request))
    if not heard.text.strip():
        return ()
    raise _missing(model, "no times", request)


def _segments(heard: Heard, request: TranscriptionRequest, model: str) -> list[formats.Segment]:
    return [segment.plain for segment in spoken_segments(heard, request, model)]


def _verbose(heard: Heard, request: TranscriptionRequest, model: str) -> dict[str, Any]:
    wanted = request.granularities or {Granularity.SEGMENT}
    translated = request.task is Task.TRANSLATE
    body: dict[str, Any] = {
        "task": request.task,
        "language": _ENGLISH if translated else english_name(language_of(heard, request)),
        "duration": _duration(heard, request, model),
        "text": heard.text.strip(),
    }
    if Granularity.WORD in wanted:
        words = heard.all_words
        if words is None and heard.text.strip():
            raise UnsupportedValueError(
                f"Engine '{model}' tells no times of words. Use 'segment' instead.",
                param="timestamp_granularities",
            )
        body["words"] = [formats.word_body(word.plain) for word in words or ()]
    if Granularity.SEGMENT in wanted:
        segments = _segments(heard, request, model)
        body["segments"] = [formats.segment_body(number, each) for number, each in enumerate(segments)]
    return body | _usage(heard, request)


def _diarized(heard: Heard, request: TranscriptionRequest, model: str) -> dict[str, Any]:
    segments = _segments(heard, request, model)
    if segments and not any(segment.speaker for segment in segments):
        raise _missing(model, "no speakers", request)
    body = formats.diarized(segments, _duration(heard, request, model), language_of(heard, request))
    return body | _usage(heard, request)


def _duration(heard: Heard, request: TranscriptionRequest, model: str) -> float:
    if heard.duration is None:
        raise _missing(model, "not how long the recording is", request)
    return round(heard.duration, 3)


def _usage(heard: Heard, request: TranscriptionRequest) -> dict[str, Any]:
    """As the engine tells it, else by the length of the recording. Translations have none, as at OpenAI."""
    if request.task is Task.TRANSLATE:
        return {}
    if heard.usage is not None:
        return {"usage": heard.usage}
    return {} if heard.duration is None else {"usage": formats.duration_usage(heard.duration)}


def _missing(model: str, what: str, request: TranscriptionRequest) -> UnsupportedValueError:
    return UnsupportedValueError(
        f"Engine '{model}' tells {what}, which response_format '{request.response_format}' needs. Use 'json' "
        "or 'text' instead.",
        param="response_format",
    )
