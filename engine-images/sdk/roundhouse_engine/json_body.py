"""Reads a request's JSON as it arrives, and checks its fields as they are asked for.

A field that is null counts as absent, as OpenAI's clients mean it.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from starlette.types import Receive

from roundhouse_engine.ask import unknown_model
from roundhouse_engine.errors import EngineError, invalid
from roundhouse_engine.upload import next_message

_TOKENS: Final = 1 << 31
"""No id of a token is as large."""
_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]|\x00")
"""Where half a character could stand: escaped, in UTF-8 of a careless writer, or in UTF-16 and UTF-32."""


async def read_body(
    receive: Receive, headers: Mapping[str, str], *, limit_bytes: int, idle_seconds: float
) -> bytes:
    """The whole body; raises `EngineError` or `ClientGone`."""
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > limit_bytes:
        raise _too_large(limit_bytes)
    body = bytearray()
    more = True
    while more:
        message = await next_message(receive, idle_seconds)
        body += message.get("body", b"")
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        more = message.get("more_body", False)
    return bytes(body)


def read_object(body: bytes) -> "Fields":
    try:
        told = json.loads(body, parse_constant=_no_number)
    except RecursionError:
        raise invalid("The body is nested too deeply.", code="json_malformed") from None
    except ValueError as error:
        raise invalid(f"The body is no JSON: {error}.", code="json_malformed") from None
    if not isinstance(told, dict):
        raise invalid("The body must be a JSON object.", code="json_malformed")
    try:
        if _HALF.search(body) is not None:
            json.dumps(told, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise invalid(
            "The body holds half a character (a lone surrogate such as \\ud800); send whole ones.",
            code="json_malformed",
        ) from None
    return Fields(told)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object. Where a field is not what is asked for, `EngineError` is raised, with `param` set."""

    values: Mapping[str, Any]

    def given(self, name: str) -> bool:
        return self.values.get(name) is not None

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is not None and not isinstance(value, str):
            raise invalid(f"{name} must be a text, not {_shown(value)}.", param=name)
        return value

    def flag(self, name: str) -> bool:
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            raise invalid(f"{name} must be true or false, not {_shown(value)}.", param=name)
        return bool(value)

    def integer(self, name: str, lowest: int, highest: int) -> int | None:
        value = self.values.get(name)
        if value is None:
            return None
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or not lowest <= value <= highest:
            raise invalid(
                f"{name} must be a whole number from {lowest} to {highest}, not {_shown(value)}.", param=name
            )
        return int(value)

    def number(self, name: str, lowest: float, highest: float) -> float | None:
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
            raise invalid(
                f"{name} must be a number from {lowest:g} to {highest:g}, not {_shown(value)}.", param=name
            )
        return float(value)

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """The first of the choices where nothing is said."""
        value = self.text(name) or choices[0]
        if value not in choices:
            message = f"{name} must be one of {', '.join(choices)}, not {value!r}."
            raise invalid(message, param=name, code="unsupported_value")
        return value

    def items(self, name: str) -> list[Any]:
        value = self.values.get(name)
        if value is not None and not isinstance(value, list):
            raise invalid(f"{name} must be a list, not {_shown(value)}.", param=name)
        return value or []

    def object(self, name: str) -> "Fields":
        value = self.values.get(name)
        if value is not None and not isinstance(value, dict):
            raise invalid(f"{name} must be an object, not {_shown(value)}.", param=name)
        return Fields(value or {})

    def model(self, served: Sequence[str]) -> str:
        model = self.text("model")
        if not model:
            known = ", ".join(map(repr, served))
            raise invalid(f"'model' is missing. Served here: {known}.", param="model", code="missing")
        if model not in served:
            raise unknown_model(model, served)
        return model

    def refuse(self, name: str, *without: Any, why: str) -> None:  # noqa: ANN401 - any JSON
        """Raise where the field says something else than nothing, or one of `without`."""
        if self.given(name) and self.values[name] not in without:
            raise invalid(why, param=name, code="unsupported_value")


def is_tokens(value: Any) -> TypeGuard[list[int]]:  # noqa: ANN401 - any JSON
    """Whether these are ids of tokens. Libraries hold them in 32 bits, and may cut off what is beyond."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(type(each) is int and 0 <= each < _TOKENS for each in value)
    )


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, float) or math.isfinite(value) else str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _too_large(limit_bytes: int) -> EngineError:
    return invalid(
        f"The body is larger than this engine takes ({limit_bytes} bytes). Send it in parts.",
        code="body_too_large",
        status=413,
    )
