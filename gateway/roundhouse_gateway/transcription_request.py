"""What a transcription form asks for: read from its text fields, checked, as one value.

Fields with and without the `[]` of arrays are the same. Unknown fields are for the engine and pass as they
are; `tier` and `streaming` steer only the choice of `auto` and are not sent on.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from roundhouse_api.enums import CostTier, SpeedTier, Stage
from roundhouse_api.selection import Needs, Tier, primary_language
from roundhouse_gateway.errors import InvalidRequestError, UnsupportedValueError
from roundhouse_gateway.form import Field

AUTO = "auto"
RESPONSE_FORMATS = ("json", "text", "verbose_json")
GRANULARITIES = ("word", "segment")
TIERS: dict[str, Tier] = {tier.lower(): tier for tier in (*SpeedTier, *CostTier)}
MAX_MODEL_NAME = 200
MAX_LANGUAGE = 35
_LANGUAGE_CODE = re.compile(r"[A-Za-z]{2,3}([-_].*)?")

# Fields that may stand once only, so that what was checked here is what the engine reads.
_SINGLE = ("model", "language", "prompt", "response_format", "temperature", "stream", "tier", "streaming")
_NOT_FORWARDED = ("model", "tier", "streaming")


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """The checked fields. `model` is None where none was given or an empty one."""

    model: str | None
    needs: Needs
    response_format: str
    granularities: frozenset[str]


def read_request(fields: Iterable[Field], *, complete: bool) -> TranscriptionRequest:
    """The request that the fields make, or the error that names the first field at fault.

    `complete` says that no more fields can follow, so that one that is missing is missing.
    """
    single, granularities = _sort(fields)
    response_format = _response_format(single.get("response_format"))
    _check_granularities(granularities, single.get("response_format"), complete=complete)
    _check_temperature(single.get("temperature"))
    if _flag(single, "stream"):
        raise UnsupportedValueError(
            "Streamed transcription is not supported; leave out `stream`.", param="stream"
        )
    return TranscriptionRequest(
        model=_model(single.get("model")),
        needs=Needs(
            stage=Stage.TRANSCRIBE,
            language=_language(single.get("language")),
            streaming=_flag(single, "streaming"),
            word_timestamps="word" in granularities,
            tier=_tier(single.get("tier")),
        ),
        response_format=response_format,
        granularities=granularities,
    )


def is_forwarded(field: Field) -> bool:
    """`model` is set anew, routing hints end here, and an empty field says nothing."""
    return _bare(field.name) not in _NOT_FORWARDED and field.value != b""


def _bare(name: str) -> str:
    return name.removesuffix("[]")


def _sort(fields: Iterable[Field]) -> tuple[dict[str, str], frozenset[str]]:
    single: dict[str, str] = {}
    granularities: set[str] = set()
    for field in fields:
        name = _bare(field.name)
        if name == "timestamp_granularities":
            granularities.add(_text(field))
        elif name in _SINGLE:
            if name in single:
                raise InvalidRequestError(f"The form holds {name!r} twice; send one.", param=name)
            single[name] = _text(field)
    return single, frozenset(granularities - {""})


def _text(field: Field) -> str:
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


def _language(value: str | None) -> str | None:
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
    return primary_language(value)


def _response_format(value: str | None) -> str:
    if not value:
        return "json"
    if value not in RESPONSE_FORMATS:
        raise UnsupportedValueError(
            f"response_format {value!r} is not supported. Use 'json', 'text' or 'verbose_json' instead.",
            param="response_format",
        )
    return value


def _check_granularities(
    granularities: frozenset[str], response_format: str | None, *, complete: bool
) -> None:
    unknown = sorted(granularities.difference(GRANULARITIES))
    if unknown:
        raise InvalidRequestError(
            f"timestamp_granularities {unknown[0]!r} is unknown. Use 'word', 'segment' or both.",
            param="timestamp_granularities",
        )
    known = response_format is not None or complete
    if granularities and known and response_format != "verbose_json":
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
