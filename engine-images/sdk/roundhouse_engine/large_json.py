"""JSON of any size, read and written in steps that let others on.

Python's own parser, and what writes it, hold Python's lock until they are through, which for some megabytes
takes as long as a client waits for a word.

Standard library alone: the server reads and writes with it, and runners in its threads read.
"""

import codecs
import json
import json.scanner
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

SMALL_BYTES: Final = 64 << 10
"""What is no larger takes Python's own parser a few milliseconds at worst."""
_STEP: Final = 1 << 18
"""Characters or bytes that are converted at once."""
_ROW: Final = 1024
"""Numbers that are written at once."""


def loads(body: bytes) -> Any:  # noqa: ANN401 - any JSON
    """As `json.loads`, without NaN and infinity. Raises `ValueError` or `RecursionError`."""
    return (_SMALL if len(body) <= SMALL_BYTES else _LARGE).decode(_text(body))


class _Written(str):
    """JSON already, beside values that are still to be written."""

    __slots__ = ()


def pieces(told: object) -> Iterator[str]:
    """The JSON text; making one piece takes a millisecond at most, however deep what it is of is nested."""
    opened: list[Iterator[object]] = [iter((told,))]
    while opened:
        for each in opened[-1]:
            if isinstance(each, _Written):
                yield each
            elif isinstance(each, str):
                yield from _string(each)
            elif isinstance(each, dict | list | tuple):
                opened.append(_object(each) if isinstance(each, dict) else _array(each))
                break
            else:
                yield json.dumps(each)
        else:
            opened.pop()


def _string(text: str) -> Iterator[str]:
    if len(text) <= _STEP:
        yield json.dumps(text, ensure_ascii=False)
        return
    yield '"'
    for start in range(0, len(text), _STEP):
        yield json.dumps(text[start : start + _STEP], ensure_ascii=False)[1:-1]
    yield '"'


def _object(told: Mapping[str, object]) -> Iterator[object]:
    yield _Written("{")
    for at, (name, value) in enumerate(told.items()):
        yield _Written(f"{',' if at else ''}{json.dumps(name)}:")
        yield value
    yield _Written("}")


def _array(told: Sequence[object]) -> Iterator[object]:
    yield _Written("[")
    for start in range(0, len(told), _ROW):
        row = told[start : start + _ROW]
        if all(type(each) is int for each in row):
            yield _Written(f"{',' if start else ''}{json.dumps(row)[1:-1]}")
            continue
        for at, each in enumerate(row, start):
            if at:
                yield _Written(",")
            yield each
    yield _Written("]")


def _text(body: bytes) -> str:
    decoder = codecs.getincrementaldecoder(json.detect_encoding(body))()
    parts = [decoder.decode(body[start : start + _STEP]) for start in range(0, len(body), _STEP)]
    return "".join([*parts, decoder.decode(b"", final=True)])


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:60]} is larger than any number")
    return value


_SMALL: Final = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite)
_LARGE: Final = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite)
# In Python, which lets go of its lock every few milliseconds.
_LARGE.scan_once = json.scanner.py_make_scanner(_LARGE)  # type: ignore[attr-defined]
