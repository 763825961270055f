"""Reads a request's JSON as it arrives, and checks its fields as they are asked for.

A field that is null counts as absent, as OpenAI's clients mean it. A large body is parsed and checked in a
thread: one at a time, because each that computes makes the event loop wait a little longer for its turn. One
whose client leaves, or whose deadline is over, leaves the line as well.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeGuard, TypeVar

from starlette.types import Receive

from roundhouse_engine.ask import unknown_model
from roundhouse_engine.errors import EngineError, invalid
from roundhouse_engine.large_json import SMALL_BYTES, loads
from roundhouse_engine.leaving import unless_gone
from roundhouse_engine.showing import shown
from roundhouse_engine.upload import next_message

_TOKENS: Final = 1 << 31
"""No id of a token is as large."""
_HALVES: Final = (b"\\ud", b"\\uD", b"\x00")
"""Where half a character could stand: escaped, perhaps in UTF-16 or UTF-32."""
_MOST: Final = 1 << 21
"""Numbers in one body, of which a list or an object costs the memory of four."""
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""One that is not closed goes on to the end: else each quote in it would be tried up to there."""
DEPTH: Final = 100
"""Lists and objects in one another, as the gateway takes them by default."""
_reader: Final = ThreadPoolExecutor(1, thread_name_prefix="json")

Read = TypeVar("Read")


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


async def checked(
    body: bytes, check: Callable[["Fields"], Read], receive: Receive, seconds_left: float | None
) -> Read:
    """What `check` makes of the body's JSON object; raises `EngineError` or `ClientGone`."""
    if len(body) <= SMALL_BYTES:
        return check(read_object(body))
    return await unless_gone(receive, _in_turn(lambda: check(read_object(body))), seconds_left)


async def _in_turn(read: Callable[[], Read]) -> Read:
    return await asyncio.get_running_loop().run_in_executor(_reader, read)


def read_object(body: bytes) -> "Fields":
    if _values(body) > _MOST:
        raise invalid(
            f"The body holds more than {_MOST} values. Send it in parts.", code="body_too_large", status=413
        )
    try:
        told = loads(body)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise invalid(f"The body is no JSON: {error}.", code="json_malformed") from None
    if not isinstance(told, dict):
        raise invalid("The body must be a JSON object.", code="json_malformed")
    if body.count(b"[") + body.count(b"{") > DEPTH and _is_deep(told):
        raise _too_deep()
    try:
        if any(each in body for each in _HALVES):
            for text in _texts(told):
                text.encode()
    except UnicodeEncodeError:
        raise invalid(
            "The body holds half a character (a lone surrogate such as \\ud800); send whole ones.",
            code="json_malformed",
        ) from None
    return Fields(told)


def _values(body: bytes) -> int:
    """At least as many as the body holds; those of its texts are left out only where that decides."""
    found = _weight(body, 0, len(body))
    if found <= _MOST or json.detect_encoding(body) not in ("utf-8", "utf-8-sig"):
        return found
    found, at = 0, 0
    for text in _STRING.finditer(body):
        found += _weight(body, at, text.start())
        if found > _MOST:
            break
        at = text.end()
    return found + _weight(body, at, len(body))


def _weight(body: bytes, start: int, end: int) -> int:
    lists = body.count(b"[", start, end) + body.count(b"{", start, end)
    return body.count(b",", start, end) + 4 * lists


def _is_deep(told: object) -> bool:
    level = [told]
    for _ in range(DEPTH):
        level = [
            value
            for each in level
            for value in (each.values() if isinstance(each, dict) else each)  # type: ignore[attr-defined]
            if isinstance(value, dict | list)
        ]
        if not level:
            return False
    return True


def _too_deep() -> EngineError:
    return invalid(f"The body is nested deeper than {DEPTH} levels. Make it flatter.", code="json_too_deep")


def _texts(told: object) -> Iterator[str]:
    waiting = [told]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            yield from each
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object. Where a field is not what is asked for, `EngineError` is raised, with `param` set."""

    values: Mapping[str, Any]
    within: str = ""
    """What stands before the fields' names in errors, where this object is a field itself: `options.`."""

    def given(self, name: str) -> bool:
        return self.values.get(name) is not None

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is not None and not isinstance(value, str):
            raise self._wrong(name, "a text")
        return value

    def flag(self, name: str) -> bool:
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return bool(value)

    def integer(self, name: str, lowest: int, highest: int) -> int | None:
        value = self.values.get(name)
        if value is None:
            return None
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or not lowest <= value <= highest:
            raise self._wrong(name, f"a whole number from {lowest} to {highest}")
        return int(value)

    def number(self, name: str, lowest: float, highest: float) -> float | None:
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
            raise self._wrong(name, f"a number from {lowest:g} to {highest:g}")
        return float(value)

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """The first of the choices where nothing is said."""
        value = self.text(name) or choices[0]
        if value not in choices:
            raise self._wrong(name, f"one of {', '.join(choices)}", code="unsupported_value")
        return value

    def items(self, name: str) -> list[Any]:
        value = self.values.get(name)
        if value is not None and not isinstance(value, list):
            raise self._wrong(name, "a list")
        return value or []

    def object(self, name: str) -> "Fields":
        value = self.values.get(name)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return Fields(value or {}, f"{self.within}{name}.")

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

    def _wrong(self, name: str, must_be: str, code: str = "invalid_value") -> EngineError:
        where = self.within + name
        return invalid(f"{where} must be {must_be}, not {shown(self.values[name])}.", param=where, code=code)


def is_tokens(value: Any) -> TypeGuard[list[int]]:  # noqa: ANN401 - any JSON
    """Whether these are ids of tokens. Libraries hold them in 32 bits, and may cut off what is beyond."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(type(each) is int and 0 <= each < _TOKENS for each in value)
    )


def _too_large(limit_bytes: int) -> EngineError:
    return invalid(
        f"The body is larger than this engine takes ({limit_bytes} bytes). Send it in parts.",
        code="body_too_large",
        status=413,
    )
