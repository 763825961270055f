"""ElevenLabs' words: the text and nothing but the text, cut into words and spaces."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_engine.languages import NAMES, THREE_LETTERS, short_code
from roundhouse_gateway.form import Field
from roundhouse_gateway.speech.elevenlabs_answer import pieces_of, render
from roundhouse_gateway.speech.elevenlabs_request import HINTS, REFUSED, read_wanted
from roundhouse_gateway.speech.heard import Heard, Segment, Word


def words_of(*texts: str) -> list[Word]:
    return [Word(text, float(place), place + 0.5) for place, text in enumerate(texts)]


def answer(heard: Heard, **fields: str) -> dict[str, Any]:
    wanted = read_wanted([Field(name, value.encode()) for name, value in fields.items()])
    body: dict[str, Any] = json.loads(render(heard, wanted, "m", None))
    return body


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("Go, now!", ["Go", "now"], ["Go,", " ", "now!"]),
        ("¿Qué? — Sí.", ["Qué", "Sí"], ["¿Qué?", " ", "— Sí."]),
        ("今日は。", ["今日", "は"], ["今日", "は。"]),
        ("ten ten", [" ten", " ten"], ["ten", " ", "ten"]),
        ("go on then", ["go"], ["go"]),
        ("21 metres", ["twenty", "one", "metres"], ["twenty", " ", "one", " ", "metres"]),
    ],
)
def test_pieces(text: str, words: list[str], expected: list[str]) -> None:
    assert [piece.text for piece in pieces_of(text, words_of(*words), "en")] == expected


@given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=4), st.sampled_from(["", ",", ".", "!?"]))))
def test_the_pieces_together_are_the_text(spoken: list[tuple[str, str]]) -> None:
    text = " ".join(word + mark for word, mark in spoken)
    pieces = pieces_of(text, words_of(*(word for word, _ in spoken)), "en")
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.text.isspace() for piece in pieces] == [place % 2 == 1 for place in range(len(pieces))]


def test_speakers_are_numbered_as_they_come_and_words_take_that_of_their_segment() -> None:
    segments = (Segment(0, 0.9, "yes", speaker="Zoe"), Segment(1, 2, "no", speaker="Ada"))
    heard = Heard("yes no", "en", duration=2, segments=segments, words=tuple(words_of("yes", "no")))
    found = answer(heard, model_id="m", diarize="true")["words"]
    assert [word["speaker_id"] for word in found] == ["speaker_0", "speaker_0", "speaker_1"]


def test_subtitles_without_words_are_of_the_segments() -> None:
    heard = Heard("yes no", "en", segments=(Segment(0, 0.9, " yes"), Segment(1, 2, " no")))
    formats = '[{"format": "srt"}, {"format": "txt"}]'
    found = answer(heard, timestamps_granularity="none", additional_formats=formats)
    srt, txt = (each["content"] for each in found["additional_formats"])
    assert srt.startswith("1\n00:00:00,000 --> 00:00:00,900\nyes\n\n2\n")
    assert txt == "[00:00:00.000] yes\n[00:00:01.000] no\n"


def test_silence() -> None:
    assert answer(Heard("", "en", duration=1.5, words=()))["words"] == []


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_field_may_say_no(name: str) -> None:
    for value in ("", "null", "false"):
        assert read_wanted([Field(name, value.encode())]) == read_wanted([])


@pytest.mark.parametrize("name", HINTS)
def test_a_hint_has_no_effect(name: str) -> None:
    assert read_wanted([Field(name, b"7")]) == read_wanted([])


def test_codes_of_languages_there_and_back() -> None:
    assert (THREE_LETTERS["en"], short_code("eng"), short_code("en-GB")) == ("eng", "en", "en")
    for code in NAMES:
        assert short_code(THREE_LETTERS.get(code, code)) == code
