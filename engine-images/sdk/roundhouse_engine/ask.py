"""What a transcription request asks for: OpenAI's form fields, checked against what the engine can do.

Fields that it does not know are left alone, as OpenAI leaves them; a value that it would have to ignore or
guess at is refused with the field's name.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from roundhouse_engine.errors import EngineError, invalid
from roundhouse_engine.formats import Granularity, ResponseFormat
from roundhouse_engine.languages import english_name, language_code, short_code
from roundhouse_engine.showing import shown
from roundhouse_engine.speech import Speech, SpeechOptions, Task

_STREAMED: Final = frozenset({ResponseFormat.JSON, ResponseFormat.TEXT})
_YES: Final = frozenset({"true", "1", "yes"})
_NO: Final = frozenset({"", "false", "0", "no", "null"})

Choice = TypeVar("Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class TranscriptionAsk:
    """A request, checked. `options.language` is the one named, or the only one that the engine has."""

    model: str
    options: SpeechOptions
    response_format: ResponseFormat
    granularities: frozenset[Granularity]
    stream: bool


def read_ask(
    fields: Mapping[str, Sequence[str]],
    handler: type[Speech],
    served: Sequence[str],
    task: Task = Task.TRANSCRIBE,
) -> TranscriptionAsk:
    """The request in the form's fields; raises `EngineError` with `param` set."""
    model = _one(fields, "model")
    if model is None or not model.strip():
        raise invalid(
            f"The field 'model' is missing. Served here: {_names(served)}.", param="model", code="missing"
        )
    if model not in served:
        raise unknown_model(model, served)
    wanted = _choice(fields, "response_format", ResponseFormat, ResponseFormat.JSON)
    granularities = _granularities(fields)
    speakers = wanted is ResponseFormat.DIARIZED_JSON or _flag(fields, "diarization")
    _check_powers(handler, model, task, speakers=speakers)
    if Granularity.WORD in granularities and not handler.word_timestamps:
        raise invalid(
            f"The model {model!r} has no word timestamps. Ask for timestamp_granularities[]=segment.",
            param="timestamp_granularities",
            code="unsupported_value",
        )
    stream = _flag(fields, "stream")
    if stream and wanted not in _STREAMED:
        raise invalid(
            f"A stream carries text alone: response_format must be json or text, not {wanted.value!r}.",
            param="response_format",
            code="unsupported_value",
        )
    options = SpeechOptions(
        language=_language(fields, handler, model),
        prompt=_one(fields, "prompt") or "",
        hotwords=_hotwords(fields),
        temperature=_temperature(fields),
        words=Granularity.WORD in granularities,
        speakers=speakers,
        task=task,
    )
    return TranscriptionAsk(model, options, wanted, granularities, stream)


def _check_powers(handler: type[Speech], model: str, task: Task, *, speakers: bool) -> None:
    if task is Task.TRANSLATE and not handler.translation:
        raise invalid(
            f"The model {model!r} does not translate. Ask for its own language at /v1/audio/transcriptions.",
            param="model",
            code="unsupported_value",
        )
    if speakers and not (handler.diarization and task is Task.TRANSCRIBE):
        raise invalid(
            f"The model {model!r} does not tell speakers apart here. Ask for verbose_json without them.",
            param="response_format",
            code="unsupported_value",
        )


def unknown_model(model: str, served: Sequence[str]) -> EngineError:
    return invalid(
        f"The model {shown(model)} is not served by this engine. Served here: {_names(served)}.",
        param="model",
        code="model_not_found",
        status=404,
    )


def _names(served: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in served)


def _one(fields: Mapping[str, Sequence[str]], name: str) -> str | None:
    values = fields.get(name, ())
    if len(set(values)) > 1:
        raise invalid(f"The field {name!r} is given {len(values)} times with different values.", param=name)
    return values[0] if values else None


def _choice(fields: Mapping[str, Sequence[str]], name: str, kind: type[Choice], default: Choice) -> Choice:
    return _member(_one(fields, name) or default.value, name, kind)


def _member(value: str, name: str, kind: type[Choice]) -> Choice:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(member.value for member in kind)
        message = f"{name} must be one of {known}, not {shown(value)}."
        raise invalid(message, param=name, code="unsupported_value") from None


def _granularities(fields: Mapping[str, Sequence[str]]) -> frozenset[Granularity]:
    name = "timestamp_granularities"
    values = [*fields.get(f"{name}[]", ()), *fields.get(name, ())]
    return frozenset(_member(value, name, Granularity) for value in values if value)


def _flag(fields: Mapping[str, Sequence[str]], name: str) -> bool:
    value = (_one(fields, name) or "").strip().lower()
    if value not in _YES | _NO:
        raise invalid(f"{name} must be true or false, not {shown(value)}.", param=name)
    return value in _YES


def _temperature(fields: Mapping[str, Sequence[str]]) -> float:
    text = _one(fields, "temperature") or "0"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise invalid(f"temperature must be a number from 0 to 1, not {shown(text)}.", param="temperature")
    return value


def _hotwords(fields: Mapping[str, Sequence[str]]) -> str:
    """As faster-whisper's servers name them, and as OpenAI's SDKs send lists."""
    named = [*fields.get("hotwords", ()), *fields.get("keywords[]", ()), *fields.get("keywords", ())]
    return ", ".join(filter(None, (text.strip() for text in named)))


def _language(fields: Mapping[str, Sequence[str]], handler: type[Speech], model: str) -> str | None:
    return language_for(_one(fields, "language"), handler, model)


def language_for(text: str | None, handler: type[Speech], model: str) -> str | None:
    """The code of the language that was named, or of the only one; raises `EngineError` with `param` set."""
    if text is None or not text.strip():
        only = handler.languages
        return next(iter(only)) if only is not None and len(only) == 1 else None
    code = language_code(text)
    if code is None and handler.languages is not None and short_code(text) in handler.languages:
        code = short_code(text)  # one that Whisper does not know
    if code is None:
        raise invalid(
            f"language must be the code of a known language such as 'en' (ISO 639-1), not {shown(text)}.",
            param="language",
            code="unsupported_value",
        )
    if handler.languages is not None and code not in handler.languages:
        known = ", ".join(f"{known!r} ({english_name(known)})" for known in sorted(handler.languages))
        raise invalid(
            f"The model {model!r} does not understand {code!r} ({english_name(code)}), only {known}.",
            param="language",
            code="unsupported_value",
        )
    return code
