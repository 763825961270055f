"""How each kind of engine is asked for a transcript, by the dialect that its Engine declares.

`Roundhouse` (the engine SDK) and `OpenAI` are asked in the client's own words, for they speak the same
language. `VLLM` and `Speaches` differ:

vLLM gives JSON alone, whatever format is asked for, `verbose_json` with a duration that is a text and without
words, and streams in the shape of its chats. Speaches gives srt and vtt of its own making, languages as
codes, speakers only within `verbose_json`, and streams either OpenAI's events or bare texts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from roundhouse_api.enums import Dialect
from roundhouse_engine.formats import Granularity, ResponseFormat
from roundhouse_gateway.errors import UnsupportedValueError
from roundhouse_gateway.form import Field
from roundhouse_gateway.snapshot import Entry
from roundhouse_gateway.speech.events import Reader, read_openai, read_speaches, read_vllm
from roundhouse_gateway.transcription_request import TranscriptionRequest

_ASKED_ANEW: Final = frozenset(
    {"response_format", "timestamp_granularities", "stream", "language", "keywords", "include"}
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an engine is told. Of the client's fields `replaced` do not pass and `added` come instead.

    `asked` is the format that it is asked for; `untouched` says that its answer in that format, or its
    stream, is already what OpenAI's clients read. `marks_end`: a stream without its last event is broken off.
    """

    asked: ResponseFormat
    replaced: frozenset[str] = frozenset()
    added: tuple[Field, ...] = ()
    untouched: bool = True
    read_event: Reader = read_openai
    marks_end: bool = True


def plan(dialect: str | None, request: TranscriptionRequest) -> Plan:
    """How an engine of that dialect is asked for what the request wants."""
    return _PLANS.get(dialect or "", _as_it_is)(request)


def shortfall(entry: Entry, request: TranscriptionRequest) -> UnsupportedValueError | None:
    """What an engine of this dialect could not tell, where that is known before it is asked.

    What its resource declares is looked at by `choice`.
    """
    model, dialect = entry.model.id, entry.record.effective.dialect
    if request.speakers and dialect == Dialect.VLLM:
        return UnsupportedValueError(
            f"Engine '{model}' does not tell speakers apart. Use 'verbose_json' instead of 'diarized_json'.",
            param="response_format",
        )
    if request.speakers and request.stream and dialect == Dialect.SPEACHES:
        return UnsupportedValueError(
            f"Engine '{model}' does not stream speakers. Leave out `stream`.", param="stream"
        )
    if request.logprobs and dialect in _NO_LOGPROBS:
        return UnsupportedValueError(
            f"Engine '{model}' tells no log probabilities. Leave out `include`.", param="include"
        )
    if Granularity.WORD in request.granularities and dialect == Dialect.VLLM:
        return UnsupportedValueError(
            f"Engine '{model}' tells no times of words. Use 'segment' instead.",
            param="timestamp_granularities",
        )
    return None


def _as_it_is(request: TranscriptionRequest) -> Plan:
    return Plan(request.response_format)


def _vllm(request: TranscriptionRequest) -> Plan:
    asked = _least(request)
    added = [Field("response_format", asked.encode()), *_hints(request)]
    if request.stream:
        added += [Field("stream", b"true"), Field("stream_include_usage", b"true")]
    return Plan(asked, _ASKED_ANEW, tuple(added), _is_plain_json(request), read_vllm)


def _speaches(request: TranscriptionRequest) -> Plan:
    asked = _least(request)
    granularities = sorted(request.granularities)
    added = [
        Field("response_format", asked.encode()),
        *(Field("timestamp_granularities[]", each.encode()) for each in granularities),
        *_hints(request),
    ]
    if request.stream:
        added.append(Field("stream", b"true"))
    if request.speakers:
        added.append(Field("diarization", b"true"))
    return Plan(asked, _ASKED_ANEW, tuple(added), _is_plain_json(request), read_speaches, marks_end=False)


def _least(request: TranscriptionRequest) -> ResponseFormat:
    """The smallest JSON that has what is asked for."""
    plain = request.response_format in (ResponseFormat.JSON, ResponseFormat.TEXT) or request.stream
    return ResponseFormat.JSON if plain else ResponseFormat.VERBOSE_JSON


def _is_plain_json(request: TranscriptionRequest) -> bool:
    return request.response_format is ResponseFormat.JSON and not request.stream


def _hints(request: TranscriptionRequest) -> list[Field]:
    """The language as a bare code, and the keywords as these engines' `hotwords`."""
    found = [Field("language", request.needs.language.encode())] if request.needs.language else []
    if request.keywords:
        found.append(Field("hotwords", ", ".join(request.keywords).encode()))
    return found


_NO_LOGPROBS: Final = frozenset({Dialect.ROUNDHOUSE, Dialect.VLLM, Dialect.SPEACHES})
_PLANS: Final[dict[str, Callable[[TranscriptionRequest], Plan]]] = {
    Dialect.VLLM: _vllm,
    Dialect.SPEACHES: _speaches,
}
