"""Text fields become a request, or the error that names the field."""

import pytest

from roundhouse_api.enums import CostTier, SpeedTier, Stage
from roundhouse_api.selection import Needs
from roundhouse_gateway.errors import InvalidRequestError
from roundhouse_gateway.form import Field
from roundhouse_gateway.transcription_request import Task, TranscriptionRequest, is_forwarded, read_request


def fields_of(**fields: str) -> list[Field]:
    return [Field(name.replace("__", "[]"), value.encode()) for name, value in fields.items()]


def read(complete: bool = True, /, **fields: str) -> TranscriptionRequest:
    return read_request(fields_of(**fields), complete=complete)


@pytest.mark.req("S1-8", "S1-22")
def test_a_bare_form_asks_for_any_transcription_as_json() -> None:
    request = read()
    assert (request.model, request.response_format, request.stream) == (None, "json", False)
    assert request.needs == Needs(stage=Stage.TRANSCRIBE)


def test_empty_fields_say_nothing() -> None:
    request = read(model="", language="", response_format="", temperature="", tier="", stream="", prompt="")
    assert request == read()


def test_all_fields() -> None:
    fields = fields_of(
        model=" whisper ",
        language="pt-BR",
        response_format="verbose_json",
        timestamp_granularities__="word",
        temperature="0.5",
        streaming="true",
        tier="Fast",
        vendor="kept",
    )
    request = read_request(fields, complete=True)
    assert request.model == "whisper"
    assert request.needs == Needs(
        stage=Stage.TRANSCRIBE, language="pt", streaming=True, word_timestamps=True, tier=SpeedTier.FAST
    )
    forwarded = [field.name for field in fields if is_forwarded(field)]
    assert forwarded == ["language", "response_format", "timestamp_granularities[]", "temperature", "vendor"]


@pytest.mark.parametrize("name", ["timestamp_granularities__", "timestamp_granularities"])
def test_an_array_is_the_same_with_and_without_brackets(name: str) -> None:
    assert read(response_format="verbose_json", **{name: "segment"}).granularities == {"segment"}


@pytest.mark.parametrize("name", ["model", "model[]", "tier[]", "streaming[]"])
def test_what_ends_here_does_so_with_and_without_brackets(name: str) -> None:
    assert not is_forwarded(Field(name, b"x"))


@pytest.mark.parametrize(
    ("code", "expected"),
    [("hr", "hr"), ("EN_gb", "en"), ("yue", "yue"), ("zh-Hant-TW", "zh"), (" de ", "de"), ("deu", "de")],
)
def test_a_language_is_a_code_with_or_without_a_region(code: str, expected: str) -> None:
    assert read(language=code).needs.language == expected


def test_a_tier_is_of_either_vocabulary() -> None:
    assert read(tier="premium").needs.tier is CostTier.PREMIUM


def test_while_fields_can_follow_a_missing_format_is_not_held_against_granularities() -> None:
    assert read(False, timestamp_granularities__="word").granularities == {"word"}
    with pytest.raises(InvalidRequestError):
        read(timestamp_granularities__="word")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "docx"}, "response_format"),
        ({"response_format": "vtt", "stream": "true"}, "response_format"),
        ({"response_format": "verbose_json", "stream": "true"}, "response_format"),
        ({"include__": "everything"}, "include"),
        ({"timestamp_granularities__": "letter"}, "timestamp_granularities"),
        ({"response_format": "json", "timestamp_granularities__": "word"}, "timestamp_granularities"),
        ({"temperature": "1.1"}, "temperature"),
        ({"temperature": "-0.1"}, "temperature"),
        ({"temperature": "inf"}, "temperature"),
        ({"stream": "yes please"}, "stream"),
        ({"tier": "turbo"}, "tier"),
        ({"model": "a\tb"}, "model"),
        ({"language": "x" * 36}, "language"),
        ({"language": "english"}, "language"),
        ({"language": "e"}, "language"),
        ({"language": "12"}, "language"),
        ({"model": "x" * 201}, "model"),
    ],
)
def test_a_refusal_names_the_field(fields: dict[str, str], param: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        read(**fields)
    assert raised.value.param == param


@pytest.mark.parametrize("name", ["model", "language", "prompt", "response_format", "temperature", "tier"])
def test_a_field_that_stands_twice_is_refused(name: str) -> None:
    twice = [Field(name, b""), Field(name, b"")]
    with pytest.raises(InvalidRequestError, match="twice"):
        read_request(twice, complete=True)


def test_what_is_not_utf8_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="not UTF-8"):
        read_request([Field("prompt", b"\xff")], complete=True)


def test_what_is_asked_besides() -> None:
    request = read(stream="true", response_format="diarized_json", include__="logprobs", keywords__="fjord")
    assert (request.stream, request.speakers, request.logprobs) == (True, True, True)
    assert request.keywords == ("fjord",)


def test_a_translation_is_not_streamed_and_names_no_speakers() -> None:
    for fields, param in (({"stream": "true"}, "stream"), ({"response_format": "diarized_json"}, None)):
        with pytest.raises(InvalidRequestError) as raised:
            read_request(fields_of(**fields), complete=True, task=Task.TRANSLATE)
        assert raised.value.param == (param or "response_format")
