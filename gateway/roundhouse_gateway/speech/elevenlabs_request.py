"""What a form of ElevenLabs' `/v1/speech-to-text` asks for.

Every field that ElevenLabs has is known here: it is honoured, a hint that may be left out without making the
answer untrue, or refused. Fields that are not known are left alone, as ElevenLabs leaves them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from roundhouse_api.enums import Feature, Stage
from roundhouse_api.selection import Needs
from roundhouse_engine.formats import Granularity, ResponseFormat
from roundhouse_engine.languages import language_code, short_code
from roundhouse_gateway.errors import UnsupportedValueError
from roundhouse_gateway.form import Field
from roundhouse_gateway.speech.elevenlabs_errors import FieldError
from roundhouse_gateway.transcription_request import AUTO, TranscriptionRequest, bare, text_of

MODEL: Final = "model_id"
HONOURED: Final = (
    "model_id",
    "file",
    "language_code",
    "timestamps_granularity",
    "diarize",
    "additional_formats",
    "file_format",
    "temperature",
    "seed",
    "keyterms",
)
HINTS: Final = (
    "secondary_language_codes",
    "tag_audio_events",
    "num_speakers",
    "diarization_threshold",
    "multichannel_output_style",
    "entity_redaction_mode",
    "webhook_id",
    "webhook_metadata",
)
"""Without effect here: they steer what is refused, or better what no engine of ours does."""
REFUSED: Final = (
    "source_url",
    "cloud_storage_url",
    "webhook",
    "use_multi_channel",
    "entity_detection",
    "entity_redaction",
    "transcript_edit",
    "numbers_format",
    "no_verbatim",
    "use_speaker_library",
    "detect_speaker_roles",
)
"""Refused but where they say no."""
GRANULARITIES: Final = ("none", "word", "character")
FILE_FORMATS: Final = ("other", "pcm_s16le_16")
MAX_KEYTERMS: Final = 1000
_NOTHING: Final = frozenset({"", "null", "false", "0", "[]"})


class Export(msgspec.Struct, frozen=True):
    """One of `additional_formats`."""

    format: Literal["srt", "txt", "docx", "html", "pdf", "segmented_json"]
    include_speakers: bool | None = None
    include_timestamps: bool | None = None
    max_characters_per_line: Annotated[int, msgspec.Meta(ge=1)] | None = None
    segment_on_silence_longer_than_s: Annotated[float, msgspec.Meta(ge=0)] | None = None
    max_segment_duration_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    max_segment_chars: Annotated[int, msgspec.Meta(ge=1)] | None = None


EXPORTED: Final = ("srt", "txt")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The checked fields. `named`: a `model_id` has come, whichever it is."""

    named: bool
    language: str | None
    words: bool
    speakers: bool
    raw: bool
    temperature: str | None
    seed: str | None
    keyterms: tuple[str, ...]
    exports: tuple[Export, ...]

    def request(self) -> TranscriptionRequest:
        """The same, as engines are asked for it: more than the text only where more is needed.

        Without a language that is named, it is learnt from `verbose_json`.
        """
        text_alone = not (self.words or self.speakers or self.exports) and self.language is not None
        granularities = {Granularity.WORD} if self.words else {Granularity.SEGMENT}
        if self.speakers:
            granularities.add(Granularity.SEGMENT)
        return TranscriptionRequest(
            model=AUTO if self.named else None,
            needs=Needs(
                stage=Stage.TRANSCRIBE,
                language=self.language,
                word_timestamps=self.words,
                features=frozenset({Feature.DIARIZATION} if self.speakers else ()),
            ),
            response_format=ResponseFormat.JSON if text_alone else ResponseFormat.VERBOSE_JSON,
            granularities=frozenset(() if text_alone else granularities),
            speakers=self.speakers,
            keywords=self.keyterms,
        )


def read_wanted(fields: Iterable[Field]) -> Wanted:
    """What the fields ask for; `FieldError` or `UnsupportedValueError` names the first that is at fault."""
    values: dict[str, list[str]] = {}
    for field in fields:
        values.setdefault(bare(field.name), []).append(text_of(field))
    for name in REFUSED:
        if set(values.get(name, ())) - _NOTHING:
            raise UnsupportedValueError(f"`{name}` is not offered here; leave it out.", param=name)
    return Wanted(
        named=bool(_one(values, MODEL)),
        language=_language(_one(values, "language_code")),
        words=_granularity(_one(values, "timestamps_granularity") or "word") == "word",
        speakers=_flag(values, "diarize"),
        raw=_choice(values, "file_format", FILE_FORMATS) == "pcm_s16le_16",
        temperature=_temperature(_one(values, "temperature")),
        seed=_seed(_one(values, "seed")),
        keyterms=_keyterms(values.get("keyterms", ())),
        exports=_exports(_one(values, "additional_formats")),
    )


def check_named(wanted: Wanted) -> None:
    """Asks for a `model_id`, as ElevenLabs does.

    Its Python client loses all fields but the file when it repeats a request: without this it would get a
    transcript that is not what it asked for.
    """
    if not wanted.named:
        raise FieldError(f"`{MODEL}` is required; any value will do.", param=MODEL)


def _one(values: dict[str, list[str]], name: str) -> str | None:
    given = values.get(name, [])
    if len(given) > 1:
        raise FieldError(f"The form holds `{name}` {len(given)} times; send one.", param=name)
    return None if not given or given[0] in ("", "null") else given[0]


def _language(value: str | None) -> str | None:
    if value is None:
        return None
    code = short_code(value)
    if not (2 <= len(code) <= 3 and code.isascii() and code.isalpha()):
        raise FieldError(
            f"`language_code` must be a code such as 'en' or 'eng', not {value!r}.", param="language_code"
        )
    return language_code(code) or code


def _granularity(value: str) -> str:
    if value not in GRANULARITIES:
        raise FieldError(
            f"`timestamps_granularity` must be one of {', '.join(GRANULARITIES)}, not {value!r}.",
            param="timestamps_granularity",
        )
    if value == "character":
        raise UnsupportedValueError(
            "No engine here times single characters. Use 'word' or 'none'.", param="timestamps_granularity"
        )
    return value


def _flag(values: dict[str, list[str]], name: str) -> bool:
    value = (_one(values, name) or "false").lower()
    if value not in ("true", "1", "false", "0"):
        raise FieldError(f"`{name}` must be true or false, not {value!r}.", param=name)
    return value in ("true", "1")


def _choice(values: dict[str, list[str]], name: str, known: Sequence[str]) -> str:
    value = _one(values, name) or known[0]
    if value not in known:
        raise FieldError(f"`{name}` must be one of {', '.join(known)}, not {value!r}.", param=name)
    return value


def _temperature(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 2:
        raise FieldError(f"`temperature` must be a number from 0 to 2, not {value!r}.", param="temperature")
    if number > 1:
        raise UnsupportedValueError("Engines here take a `temperature` of at most 1.", param="temperature")
    return value


def _seed(value: str | None) -> str | None:
    if value is not None and not (value.isascii() and value.isdigit() and int(value) < 1 << 31):
        raise FieldError(f"`seed` must be a whole number from 0 to 2147483647, not {value!r}.", param="seed")
    return value


def _keyterms(values: Sequence[str]) -> tuple[str, ...]:
    if len(values) > MAX_KEYTERMS:
        raise FieldError(f"There may be {MAX_KEYTERMS} `keyterms` at most.", param="keyterms")
    return tuple(filter(None, values))


def _exports(value: str | None) -> tuple[Export, ...]:
    if value is None:
        return ()
    try:
        found = msgspec.json.decode(value, type=tuple[Export, ...])
    except (msgspec.DecodeError, RecursionError) as error:
        raise FieldError(
            f"`additional_formats` cannot be read: {error}.", param="additional_formats"
        ) from error
    for each in found:
        if each.format not in EXPORTED:
            raise UnsupportedValueError(
                f"The additional format '{each.format}' is not offered. Use {' or '.join(EXPORTED)}.",
                param="additional_formats",
            )
    return found
