"""What an OpenAI client wants of its session: `session.update` in its present and its former shape.

Fields are merged into what was said before. Of what this gateway cannot give (conversations, other voices) a
client is told; what only tunes a voice detector or a filter that engines do not have is taken and shown, and
has no effect.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from roundhouse_gateway.errors import InvalidRequestError, UnsupportedValueError

_PCM_RATE: Final = 24_000
_ENCODINGS: Final = {"audio/pcm": "pcm_s16le", "audio/pcmu": "mulaw", "audio/pcma": "alaw"}
_FORMER_FORMATS: Final = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
_TELEPHONE_RATE: Final = 8_000
SERVER_VAD: Final[Mapping[str, Any]] = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
}
_UNSET: Final = object()


@dataclass(frozen=True, slots=True)
class Config:
    """A session as it was agreed. `turn_detection` None: the client commits."""

    model: str = ""
    language: str = ""
    prompt: str = ""
    encoding: str = "audio/pcm"
    rate: int = _PCM_RATE
    turn_detection: Mapping[str, Any] | None = field(default_factory=lambda: SERVER_VAD)
    noise_reduction: Any = None
    include: tuple[str, ...] = ()

    @property
    def parameters(self) -> dict[str, str]:
        """As engines take them."""
        found = {
            "encoding": _ENCODINGS[self.encoding],
            "sample_rate": str(self.rate),
            "interim_results": "false",
            "vad": "false" if self.turn_detection is None else "true",
            "language": self.language,
            "prompt": self.prompt,
        }
        if self.turn_detection is not None and "silence_duration_ms" in self.turn_detection:
            found["silence_ms"] = str(self.turn_detection["silence_duration_ms"])
        return {name: value for name, value in found.items() if value}

    def shown(self) -> dict[str, Any]:
        """As `session.created` and `session.updated` have it. By OpenAI's schema only turns may be null."""
        language = {"language": self.language} if self.language else {}
        transcription = {"model": self.model, **language, "prompt": self.prompt}
        noise = {"noise_reduction": self.noise_reduction} if self.noise_reduction else {}
        form = {"type": self.encoding} | ({"rate": self.rate} if self.encoding == "audio/pcm" else {})
        return {
            "object": "realtime.transcription_session",
            "type": "transcription",
            "audio": {
                "input": {
                    "format": form,
                    "transcription": transcription,
                    **noise,
                    "turn_detection": self.turn_detection,
                }
            },
            **({"include": list(self.include)} if self.include else {}),
        }


def updated(config: Config, session: Any) -> Config:  # noqa: ANN401 - whatever the JSON held
    """With what a `session` of GA shape says; raises `InvalidRequestError`."""
    session = _object(session, "session")
    if session.get("type", "transcription") != "transcription":
        raise UnsupportedValueError(
            f"There are sessions of type 'transcription' alone, not {session['type']!r}.",
            param="session.type",
        )
    audio = _object(session.get("audio"), "session.audio")
    given = _object(audio.get("input"), "session.audio.input")
    where = "session.audio.input"
    config = _transcribed(config, given.get("transcription"), f"{where}.transcription")
    config = _formatted(config, given.get("format"), f"{where}.format")
    turns = given.get("turn_detection", _UNSET)
    if turns is not _UNSET:
        config = replace(config, turn_detection=_turns(turns, f"{where}.turn_detection"))
    if "noise_reduction" in given:
        config = replace(config, noise_reduction=given["noise_reduction"])
    return replace(config, include=_include(session.get("include"), config.include))


def updated_as_before(config: Config, session: Any) -> Config:  # noqa: ANN401 - as above
    """With what a `session` of the beta's flat shape says."""
    session = _object(session, "session")
    given = {
        "transcription": session.get("input_audio_transcription"),
        "noise_reduction": session.get("input_audio_noise_reduction"),
    }
    if (former := session.get("input_audio_format")) is not None:
        if former not in _FORMER_FORMATS:
            raise _not_one_of("session.input_audio_format", former, _FORMER_FORMATS)
        given["format"] = {"type": _FORMER_FORMATS[former]}
    if "turn_detection" in session:
        given["turn_detection"] = session["turn_detection"]
    return updated(config, {"audio": {"input": given}, "include": session.get("include")})


def _transcribed(config: Config, given: Any, where: str) -> Config:  # noqa: ANN401 - as above
    asked = _object(given, where)
    for name in ("model", "language", "prompt"):
        value = asked.get(name)
        if value is not None and not isinstance(value, str):
            raise InvalidRequestError(f"`{name}` must be a text, not {value!r}.", param=f"{where}.{name}")
    kept = {name: asked[name] for name in ("model", "language", "prompt") if asked.get(name) is not None}
    return replace(config, **kept)


def _formatted(config: Config, given: Any, where: str) -> Config:  # noqa: ANN401 - as above
    form = _object(given, where)
    if not form:
        return config
    kind = form.get("type", config.encoding)
    if kind not in _ENCODINGS:
        raise _not_one_of(f"{where}.type", kind, _ENCODINGS)
    if kind != "audio/pcm":
        return replace(config, encoding=kind, rate=_TELEPHONE_RATE)
    rate = form.get("rate", _PCM_RATE)
    if not isinstance(rate, int) or not 8_000 <= rate <= 96_000:  # OpenAI has 24000 alone
        raise InvalidRequestError(f"`rate` must be from 8000 to 96000, not {rate!r}.", param=f"{where}.rate")
    return replace(config, encoding=kind, rate=rate)


def _turns(given: Any, where: str) -> Mapping[str, Any] | None:  # noqa: ANN401 - as above
    if given is None:
        return None
    turns = _object(given, where)
    kind = turns.get("type", "server_vad")
    if kind == "semantic_vad":  # by meaning no engine here can; a pause it is, of the engine's own length
        return {"type": kind, "eagerness": turns.get("eagerness", "auto")}
    if kind != "server_vad":
        raise _not_one_of(f"{where}.type", kind, ("server_vad", "semantic_vad"))
    silence = turns.get("silence_duration_ms", SERVER_VAD["silence_duration_ms"])
    if not isinstance(silence, int) or not 0 <= silence <= 10_000:
        raise InvalidRequestError(
            f"`silence_duration_ms` must be from 0 to 10000, not {silence!r}.",
            param=f"{where}.silence_duration_ms",
        )
    return {**SERVER_VAD, **turns, "type": kind, "silence_duration_ms": silence}


def _include(given: Any, before: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ANN401 - as above
    if given is None:
        return before
    if given:
        raise UnsupportedValueError(
            f"`include` has {given!r}, and no engine here tells log probabilities of live speech.",
            param="session.include",
        )
    return ()


def _object(value: Any, where: str) -> dict[str, Any]:  # noqa: ANN401 - as above
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequestError(f"`{where}` must be an object, not {value!r}.", param=where)
    return value


def _not_one_of(where: str, value: object, known: Any) -> UnsupportedValueError:  # noqa: ANN401 - any names
    return UnsupportedValueError(f"`{where}` must be one of {', '.join(known)}, not {value!r}.", param=where)
