"""Whatever an engine answers becomes a transcript, a refusal, or the engine's fault: never the gateway's."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roundhouse_api.enums import Stage
from roundhouse_api.selection import Needs
from roundhouse_engine.formats import Granularity, ResponseFormat
from roundhouse_gateway.errors import EngineFailedError, UnsupportedValueError
from roundhouse_gateway.speech.elevenlabs_answer import render as render_as_elevenlabs
from roundhouse_gateway.speech.elevenlabs_request import read_wanted
from roundhouse_gateway.speech.heard import Segment, Word, read_heard
from roundhouse_gateway.speech.render import render
from roundhouse_gateway.transcription_request import TranscriptionRequest

JSON = "application/json"
numbers = st.one_of(st.integers(), st.floats(allow_nan=False), st.just(1e308), st.none(), st.text(max_size=3))
words = st.fixed_dictionaries(
    {"word": st.text(max_size=5), "start": numbers, "end": numbers},
    optional={"probability": numbers, "speaker": st.text(max_size=3)},
)
segments = st.fixed_dictionaries(
    {"start": numbers, "end": numbers, "text": st.text(max_size=9)},
    optional={
        "tokens": st.lists(st.integers(), max_size=3),
        "avg_logprob": numbers,
        "words": st.lists(words),
    },
)
answers = st.fixed_dictionaries(
    {"text": st.text(max_size=20)},
    optional={
        "language": st.one_of(st.text(max_size=9), st.none()),
        "duration": numbers,
        "segments": st.one_of(st.none(), st.lists(segments, max_size=4)),
        "words": st.one_of(st.none(), st.lists(words, max_size=4)),
        "usage": st.one_of(st.none(), st.dictionaries(st.text(max_size=5), numbers, max_size=3)),
    },
)


@example(
    {"text": "a", "words": [{"word": "a", "start": 0, "end": 0, "probability": -1}]},
    ResponseFormat.JSON,
    set(),
)
@given(answers, st.sampled_from(ResponseFormat), st.sets(st.sampled_from(Granularity)))
def test_no_answer_is_a_fault_of_the_gateway(
    answer: dict[str, Any], wanted: ResponseFormat, granularities: set[Granularity]
) -> None:
    needs = Needs(Stage.TRANSCRIBE)
    request = TranscriptionRequest(None, needs, wanted, frozenset(granularities))
    with suppress(EngineFailedError, UnsupportedValueError):
        heard = read_heard(json.dumps(answer).replace("e+308", "e+999").encode(), JSON, "m")
        render(heard, request, "m").decode()
        render_as_elevenlabs(heard, read_wanted([]), "m", None).decode()


BROKEN = (
    *(b"", b"[]", b"null", b'"text"', b'{"text": 1}', b"{" * 100_000, b'{"text": "\xff"}'),
    b'{"text": "\\ud800"}',
    b'{"text":"a","duration":1e999}',
    b'{"text":"a","segments":[{"start":0,"end":1e999,"text":"a"}]}',
)


@pytest.mark.parametrize("body", BROKEN)
def test_what_is_no_transcript_is_the_engines_fault(body: bytes) -> None:
    with pytest.raises(EngineFailedError, match="no transcript"):
        read_heard(body, JSON, "m")


def test_times_lie_in_the_recording_and_in_order() -> None:
    assert Word("a", -0.02, 0.5) == Word("a", 0.0, 0.5)
    assert Segment(2.0, 1.0, "a").end == 2.0


def test_plain_text_is_a_transcript_and_markup_is_none() -> None:
    assert read_heard(b" go \n", "text/plain", "m").text == "go"
    with pytest.raises(EngineFailedError, match="'text/html'"):
        read_heard(b"<html>", "text/html", "m")
