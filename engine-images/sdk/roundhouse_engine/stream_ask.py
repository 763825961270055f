"""What a realtime session asks for: the query of its WebSocket, checked against what the engine can do.

A parameter that it does not know is refused: left alone, a slip such as `samplerate` would make noise of
speech.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from roundhouse_engine.ask import language_for, unknown_model
from roundhouse_engine.errors import invalid
from roundhouse_engine.realtime_speech import RealtimeSpeech, StreamOptions
from roundhouse_engine.samples import ENCODINGS
from roundhouse_engine.showing import shown
from roundhouse_engine.speech import SpeechOptions

LOWEST_RATE: Final = 8_000
HIGHEST_RATE: Final = 96_000
_LONGEST_SILENCE_MS: Final = 10_000
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}
_KNOWN: Final = frozenset(
    {
        *("model", "language", "encoding", "sample_rate", "interim_results", "word_timestamps"),
        *("prompt", "vad", "silence_ms"),
    }
)


@dataclass(frozen=True, slots=True)
class StreamAsk:
    """A session, checked."""

    model: str
    options: SpeechOptions
    stream: StreamOptions


def read_stream_ask(
    query: Mapping[str, Sequence[str]], handler: type[RealtimeSpeech], served: Sequence[str]
) -> StreamAsk:
    """The session that the query asks for; raises `EngineError` with `param` set."""
    values = _single(query)
    model = values.get("model", "")
    if model not in served:
        raise unknown_model(model, served)
    words = _flag(values, "word_timestamps", default=False)
    if words and not handler.word_timestamps:
        raise invalid(
            f"The model {model!r} has no word timestamps. Leave out word_timestamps.",
            param="word_timestamps",
            code="unsupported_value",
        )
    silence = _integer(values, "silence_ms", 0, _LONGEST_SILENCE_MS)
    return StreamAsk(
        model,
        SpeechOptions(
            language=language_for(values.get("language"), handler, model),
            prompt=values.get("prompt", ""),
            words=words,
        ),
        StreamOptions(
            encoding=_encoding(values.get("encoding")),
            sample_rate=_integer(values, "sample_rate", LOWEST_RATE, HIGHEST_RATE) or 16_000,
            interim_results=_flag(values, "interim_results", default=True),
            vad=_flag(values, "vad", default=True),
            silence_seconds=None if silence is None else silence / 1000,
        ),
    )


def _single(query: Mapping[str, Sequence[str]]) -> dict[str, str]:
    for name, values in query.items():
        if name not in _KNOWN:
            raise invalid(
                f"There is no parameter {shown(name)}; there are {', '.join(sorted(_KNOWN))}.", param=name
            )
        if len(values) > 1:
            raise invalid(f"The parameter {name!r} is given {len(values)} times.", param=name)
    return {name: values[0] for name, values in query.items() if values[0]}


def _encoding(value: str | None) -> str:
    if value is not None and value not in ENCODINGS:
        raise invalid(
            f"encoding must be one of {', '.join(ENCODINGS)}, not {shown(value)}.",
            param="encoding",
            code="unsupported_value",
        )
    return value or ENCODINGS[0]


def _flag(values: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = values.get(name)
    if text is None:
        return default
    if text.lower() not in _FLAGS:
        raise invalid(f"{name} must be true or false, not {shown(text)}.", param=name)
    return _FLAGS[text.lower()]


def _integer(values: Mapping[str, str], name: str, lowest: int, highest: int) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    number = float(text) if text.isascii() and text.isdigit() and len(text) < 10 else math.nan
    if not lowest <= number <= highest:
        raise invalid(
            f"{name} must be a whole number from {lowest} to {highest}, not {shown(text)}.", param=name
        )
    return int(number)
