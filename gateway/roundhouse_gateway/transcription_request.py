"""What a form of OpenAI's audio routes asks for: read from its text fields, checked, as one value.

Fields with and without the `[]` of arrays are the same. Unknown fields are for the engine and pass as they
are; `tier` and `streaming` steer only the choice of `auto` and are not sent on. Whether the chosen model can
do what is asked is left to `choice` and `speech.dialects`.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from roundhouse_api.enums import Feature, Stage
from roundhouse_api.selection import Needs, Tier
from roundhouse_engine.formats import Granularity, ResponseFormat
from roundhouse_engine.languages import short_code
from roundhouse_gateway.errors import InvalidRequestError, UnsupportedValueError
from roundhouse_gateway.form import Field
from roundhouse_gateway.hints import TIERS

AUTO = "auto"
RESPONSE_FORMATS = tuple(ResponseFormat)
STREAMED_FORMATS = frozenset({ResponseFormat.JSON, ResponseFormat.TEXT, ResponseFormat.DIARIZED_JSON})
GRANULARITIES = tuple(Granularity)
LOGPROBS = "logprobs"
MAX_MODEL_NAME = 200
MAX_LANGUAGE = 35
_LANGUAGE_CODE = re.compile(r"[A-Za-z]{2,3}([-_].*)?")

# Fields that may stand once only, so that what was checked here is what the engine reads.
_SINGLE = ("model", "language", "prompt", "response_format", "temperature", "stream", "tier", "streaming")
_ARRAYS = ("timestamp_granularities", "include", "keywords")
_NOT_FORWARDED = ("model", "tier", "streaming")


class Task(StrEnum):
    """What is made of the speech: its own words, or theirs in English."""

    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """The checked fields. `model` is None where none was given or an empty one."""

    model: str | None
    needs: Needs
    response_format: ResponseFormat = ResponseFormat.JSON
    granularities: frozenset[Granularity] = frozenset()
    stream: bool = False
    logprobs: bool = False
    speakers: bool = False
    """Whether they are to be told apart."""
    keywords: tuple[str, ...] = ()
    """Words that the model is to look out for."""
    task: Task = Task.TRANSCRIBE


def read_request(
    fields: Iterable[Field], *, complete: bool, task: Task = Task.TRANSCRIBE
) -> TranscriptionRequest:
    """The request that the fields make, or the error that names the first field at fault.

    `complete` says that no more fields can follow, so that one that is missing is missing.
    """
    single, arrays = _sort(fields)
    granularities = _granularities(arrays.get("timestamp_granularities", ()))
    response_format = _response_format(single.get("response_format"), task)
    _check_granularities(granularities, single.get("response_format"), complete=complete)
    _check_temperature(single.get("temperature"))
    stream = _flag(single, "stream")
    if stream:
        _check_stream(response_format, task)
    return TranscriptionRequest(
        model=_model(single.get("model")),
        needs=Needs(
            stage=Stage.TRANSCRIBE,
            language=read_language(single.get("language")),
            streaming=_flag(single, "streaming"),
            word_timestamps=Granularity.WORD in granularities,
            tier=_tier(single.get("tier")),
            features=_features(task, response_format),
        ),
        response_format=response_format,
        granularities=granularities,
        stream=stream,
        logprobs=_logprobs(arrays.get("include", ())),
        speakers=response_format is ResponseFormat.DIARIZED_JSON,
        keywords=tuple(arrays.get("keywords", ())),
        task=task,
    )


def is_forwarded(field: Field) -> bool:
    """`model` is set anew, routing hints end here, and an empty field says nothing."""
    return bare(field.name) not in _NOT_FORWARDED and field.value != b""


def bare(name: str) -> str:
    """The name of a field without the `[]` of arrays."""
    return name.removesuffix("[]")


def _sort(fields: Iterable[Field]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Fields that stand once, and those of which there may be more, without empty values."""
    single: dict[str, str] = {}
    arrays: dict[str, list[str]] = {}
    for field in fields:
        name = bare(field.name)
        if name in _ARRAYS:
            arrays.setdefault(name, []).extend(filter(None, (text_of(field),)))
        elif name in _SINGLE:
            if name in single:
                raise InvalidRequestError(f"The form holds {name!r} twice; send one.", param=name)
            single[name] = text_of(field)
    return single, arrays


def text_of(field: Field) -> str:
    try:
        return field.value.decode().strip()
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"The field {field.name!r} is not UTF-8.", param=field.name) from error


def _model(name: str | None) -> str | None:
    if name is not None and (len(name) > MAX_MODEL_NAME or not name.isprintable()):
        raise InvalidRequestError(
            f"`model` must be at most {MAX_MODEL_NAME} printable characters.", param="model"
        )
    return name or None


def read_language(value: str | None) -> str | None:
    """As models name it, without a region: the one rule of all routes. Raises `InvalidRequestError`."""
    if not value:
        return None
    if len(value) > MAX_LANGUAGE:
        raise InvalidRequestError(
            f"`language` must be a code of at most {MAX_LANGUAGE} characters.", param="language"
        )
    if _LANGUAGE_CODE.fullmatch(value) is None:
        raise InvalidRequestError(
            f"`language` must be an ISO 639 code such as 'en' or 'pt-BR', not {value!r}.", param="language"
        )
    return short_code(value)


def _response_format(value: str | None, task: Task) -> ResponseFormat:
    """Translations name no speakers, as at OpenAI."""
    if not value:
        return ResponseFormat.JSON
    offered = [each for each in ResponseFormat if task is Task.TRANSCRIBE or each != "diarized_json"]
    if value not in offered:
        raise UnsupportedValueError(
            f"response_format {value!r} is not supported. Use one of {', '.join(offered)}.",
            param="response_format",
        )
    return ResponseFormat(value)


def _granularities(values: Iterable[str]) -> frozenset[Granularity]:
    try:
        return frozenset(map(Granularity, values))
    except ValueError:
        unknown = sorted(set(values).difference(GRANULARITIES))
        raise InvalidRequestError(
            f"timestamp_granularities {unknown[0]!r} is unknown. Use 'word', 'segment' or both.",
            param="timestamp_granularities",
        ) from None


def _features(task: Task, response_format: ResponseFormat) -> frozenset[Feature]:
    translates = {Feature.TRANSLATION} if task is Task.TRANSLATE else set()
    diarizes = {Feature.DIARIZATION} if response_format is ResponseFormat.DIARIZED_JSON else set()
    return frozenset(translates | diarizes)


def _check_stream(response_format: ResponseFormat, task: Task) -> None:
    if task is Task.TRANSLATE:
        raise UnsupportedValueError("Translations are not streamed; leave out `stream`.", param="stream")
    if response_format not in STREAMED_FORMATS:
        raise UnsupportedValueError(
            f"response_format '{response_format}' cannot be streamed. Use 'json' or 'text', or leave out "
            "`stream`.",
            param="response_format",
        )


def _logprobs(included: Iterable[str]) -> bool:
    unknown = sorted(set(included) - {LOGPROBS})
    if unknown:
        raise InvalidRequestError(f"include {unknown[0]!r} is unknown. Use '{LOGPROBS}'.", param="include")
    return bool(tuple(included))


def _check_granularities(
    granularities: frozenset[Granularity], response_format: str | None, *, complete: bool
) -> None:
    known = response_format is not None or complete
    if granularities and known and response_format != ResponseFormat.VERBOSE_JSON:
        raise InvalidRequestError(
            "timestamp_granularities needs response_format 'verbose_json': other formats have no timestamps.",
            param="timestamp_granularities",
        )


def _check_temperature(value: str | None) -> None:
    if not value:
        return
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise InvalidRequestError(
            f"`temperature` must be a number from 0 to 1, not {value!r}.", param="temperature"
        )


def _flag(single: dict[str, str], name: str) -> bool:
    value = single.get(name, "").lower()
    if value in ("true", "1"):
        return True
    if value in ("", "false", "0", "null"):
        return False
    raise InvalidRequestError(f"`{name}` must be true or false, not {value!r}.", param=name)


def _tier(value: str | None) -> Tier | None:
    if not value:
        return None
    try:
        return TIERS[value.lower()]
    except KeyError:
        raise InvalidRequestError(
            f"tier {value!r} is unknown. Use one of {', '.join(TIERS)}.", param="tier"
        ) from None
