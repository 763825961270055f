"""What a client asks of a session with an engine that does not read our parameters itself: checked here.

A parameter that nobody knows is refused, as engines of our own refuse it. Of those that these engines have no
way to take, the language has served its purpose by then, and a prompt is a hint; both are let be.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from roundhouse_api.enums import Encoding
from roundhouse_api.realtime import DEFAULT_SAMPLE_RATE, SAMPLE_RATES, Parameter
from roundhouse_gateway.errors import InvalidRequestError, UnsupportedValueError

LONGEST_SILENCE_MS: Final = 10_000
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Asked:
    """`silence_seconds` None: as the engine has it, or whoever stands in for it."""

    language: str | None
    encoding: Encoding
    sample_rate: int
    interim_results: bool
    vad: bool
    silence_seconds: float | None


def read_asked(given: Mapping[str, str], model: str) -> Asked:
    """Raises `InvalidRequestError` with `param` set."""
    for name in given:
        if name not in set(Parameter):
            raise InvalidRequestError(
                f"There is no parameter {name!r}; there are {', '.join(sorted(Parameter))}.", param=name
            )
    if _flag(given, Parameter.WORD_TIMESTAMPS, default=False):
        raise UnsupportedValueError(
            f"Engine '{model}' tells no times of words while it listens. Leave out word_timestamps.",
            param=Parameter.WORD_TIMESTAMPS,
        )
    encoding = given.get(Parameter.ENCODING, Encoding.PCM_S16LE)
    if encoding not in set(Encoding):
        raise UnsupportedValueError(
            f"encoding must be one of {', '.join(Encoding)}, not {encoding!r}.", param=Parameter.ENCODING
        )
    silence = _number(given, Parameter.SILENCE_MS, 0, LONGEST_SILENCE_MS)
    return Asked(
        given.get(Parameter.LANGUAGE),
        Encoding(encoding),
        _number(given, Parameter.SAMPLE_RATE, *SAMPLE_RATES) or DEFAULT_SAMPLE_RATE,
        _flag(given, Parameter.INTERIM_RESULTS, default=True),
        _flag(given, Parameter.VAD, default=True),
        None if silence is None else silence / 1000,
    )


def _flag(given: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = given.get(name)
    if text is None:
        return default
    if text.lower() not in _FLAGS:
        raise InvalidRequestError(f"{name} must be true or false, not {text!r}.", param=name)
    return _FLAGS[text.lower()]


def _number(given: Mapping[str, str], name: str, lowest: int, highest: int) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and lowest <= int(text) <= highest):
        raise InvalidRequestError(
            f"{name} must be a whole number from {lowest} to {highest}, not {text!r}.", param=name
        )
    return int(text)
