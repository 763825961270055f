"""What an ElevenLabs client wants of its session: the query of its WebSocket, as engines take it.

What would change the words that come back (redaction, edits, no fillers) is refused, because no engine here
does it; what tunes a voice detector or a filter that engines do not have is taken and has no effect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from roundhouse_engine.languages import short_code
from roundhouse_gateway.errors import InvalidRequestError, UnsupportedValueError

_RATES: Final = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)
FORMATS: Final = {f"pcm_{rate}": ("pcm_s16le", rate) for rate in _RATES} | {"ulaw_8000": ("mulaw", 8_000)}
STRATEGIES: Final = ("manual", "vad")
CHANGING: Final = (
    *("entity_detection", "entity_redaction", "transcript_edit", "no_verbatim"),
    *("include_language_detection", "secondary_languages"),
)
SILENCE: Final = "vad_silence_threshold_secs"
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}
_SILENCE_SECONDS: Final = (0.1, 10.0)
_DEFAULT_SILENCE_SECONDS: Final = 1.5


@dataclass(frozen=True, slots=True)
class Config:
    """A session as it was agreed."""

    model: str
    language: str
    audio_format: str
    by_hand: bool
    timestamps: bool
    silence_seconds: float
    keyterms: tuple[str, ...]

    @property
    def rate(self) -> int:
        return FORMATS[self.audio_format][1]

    @property
    def byte_rate(self) -> int:
        encoding, rate = FORMATS[self.audio_format]
        return rate * (2 if encoding == "pcm_s16le" else 1)

    @property
    def parameters(self) -> dict[str, str]:
        """As engines take them."""
        encoding, rate = FORMATS[self.audio_format]
        found = {
            "encoding": encoding,
            "sample_rate": str(rate),
            "language": self.language,
            "prompt": ", ".join(self.keyterms),
            "vad": "false" if self.by_hand else "true",
            "word_timestamps": "true" if self.timestamps else "",
            "silence_ms": "" if self.by_hand else str(round(self.silence_seconds * 1000)),
        }
        return {name: value for name, value in found.items() if value}

    def shown(self) -> dict[str, Any]:
        return {
            "model_id": self.model,
            "language_code": self.language or None,
            "audio_format": self.audio_format,
            "sample_rate": self.rate,
            "commit_strategy": "manual" if self.by_hand else "vad",
            "include_timestamps": self.timestamps,
            SILENCE: self.silence_seconds,
            "keyterms": list(self.keyterms),
        }


def read_config(query: Mapping[str, Sequence[str]]) -> Config:
    """Raises `InvalidRequestError`."""
    for name in CHANGING:
        if any(value not in ("", "false", "0", "null") for value in query.get(name, ())):
            raise UnsupportedValueError(f"`{name}` is not supported; leave it out.", param=name)
    strategy = _one_of(query, "commit_strategy", STRATEGIES, "manual")
    return Config(
        model=_single(query, "model_id"),
        language=short_code(_single(query, "language_code")),
        audio_format=_one_of(query, "audio_format", tuple(FORMATS), "pcm_16000"),
        by_hand=strategy == "manual",
        timestamps=_flag(query, "include_timestamps"),
        silence_seconds=_silence(query),
        keyterms=tuple(query.get("keyterms", ())),
    )


def _single(query: Mapping[str, Sequence[str]], name: str) -> str:
    values = query.get(name, [""])
    if len(values) > 1:
        raise InvalidRequestError(f"The parameter {name!r} is given {len(values)} times.", param=name)
    return values[0]


def _one_of(query: Mapping[str, Sequence[str]], name: str, known: Sequence[str], default: str) -> str:
    value = _single(query, name) or default
    if value not in known:
        raise UnsupportedValueError(f"`{name}` must be one of {', '.join(known)}, not {value!r}.", param=name)
    return value


def _flag(query: Mapping[str, Sequence[str]], name: str) -> bool:
    value = _single(query, name).lower() or "false"
    if value not in _FLAGS:
        raise InvalidRequestError(f"`{name}` must be true or false, not {value!r}.", param=name)
    return _FLAGS[value]


def _silence(query: Mapping[str, Sequence[str]]) -> float:
    text = _single(query, SILENCE)
    try:
        seconds = float(text) if text else _DEFAULT_SILENCE_SECONDS
    except ValueError:
        seconds = -1.0
    if not _SILENCE_SECONDS[0] <= seconds <= _SILENCE_SECONDS[1]:
        raise InvalidRequestError(f"`{SILENCE}` must be a number of seconds, not {text!r}.", param=SILENCE)
    return seconds
