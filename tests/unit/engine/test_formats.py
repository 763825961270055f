"""The six formats and the streamed events, against OpenAI's answers and the caption formats."""

import json
import subprocess
import sys
from dataclasses import dataclass, field, replace
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_engine import formats
from roundhouse_engine.formats import (
    Granularity,
    ResponseFormat,
    Segment,
    Transcript,
    Word,
    compression_ratio,
    delta_event,
    done_event,
    error_event,
    joined,
    render,
    srt,
    vtt,
)

GO = Segment(0.46, 2.12, " go forward", (Word("go", 0.46, 0.64), Word("forward", 0.64, 2.12)))
STOP = Segment(3.0, 3.9999, " then <stop> & wait ", (Word("then", 3.0, 3.2),))
TRANSCRIPT = Transcript("en", 4.2004, (GO, STOP))
BOTH = frozenset(Granularity)


def parsed(granularities: frozenset[Granularity]) -> dict[str, object]:
    body: dict[str, object] = json.loads(render(TRANSCRIPT, ResponseFormat.VERBOSE_JSON, granularities))
    return body


def test_json_is_the_text_and_begun_seconds_of_usage() -> None:
    assert json.loads(render(TRANSCRIPT, ResponseFormat.JSON, frozenset())) == {
        "text": "go forward then <stop> & wait",
        "usage": {"type": "duration", "seconds": 5},
    }


def test_text_ends_its_line() -> None:
    assert render(TRANSCRIPT, ResponseFormat.TEXT, frozenset()) == "go forward then <stop> & wait\n"


def test_verbose_json_names_the_language_in_english_and_has_all_ten_segment_fields() -> None:
    body = parsed(frozenset())
    assert list(body) == ["task", "language", "duration", "text", "segments", "usage"]
    assert (body["task"], body["language"], body["duration"]) == ("transcribe", "english", 4.2)
    assert isinstance(body["segments"], list)
    assert body["segments"][0] == {
        "id": 0,
        "seek": 46,
        "start": 0.46,
        "end": 2.12,
        "text": " go forward",
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": 0.0,
        "compression_ratio": compression_ratio(" go forward"),
        "no_speech_prob": 0.0,
    }


@dataclass(frozen=True)
class Asked:
    id: str
    granularities: frozenset[Granularity]
    present: set[str]
    absent: set[str] = field(default_factory=set)


@pytest.mark.parametrize(
    "case",
    [
        Asked("nothing: segments", frozenset(), {"segments"}, {"words"}),
        Asked("word alone: words and no segments", frozenset({Granularity.WORD}), {"words"}, {"segments"}),
        Asked("both", BOTH, {"words", "segments"}),
    ],
    ids=lambda case: case.id,
)
def test_granularities_choose_what_verbose_json_holds(case: Asked) -> None:
    body = parsed(case.granularities)
    assert case.present <= body.keys()
    assert not case.absent & body.keys()


def test_words_of_all_segments_stand_in_one_list() -> None:
    assert parsed(BOTH)["words"] == [
        {"word": "go", "start": 0.46, "end": 0.64},
        {"word": "forward", "start": 0.64, "end": 2.12},
        {"word": "then", "start": 3.0, "end": 3.2},
    ]


def test_srt_numbers_its_cues_and_puts_a_comma_before_the_milliseconds() -> None:
    assert render(TRANSCRIPT, ResponseFormat.SRT, frozenset()) == (
        "1\n00:00:00,460 --> 00:00:02,120\ngo forward\n\n"
        "2\n00:00:03,000 --> 00:00:04,000\nthen <stop> & wait\n\n"
    )


def test_vtt_escapes_what_it_would_take_for_markup() -> None:
    assert render(TRANSCRIPT, ResponseFormat.VTT, frozenset()) == (
        "WEBVTT\n\n"
        "00:00:00.460 --> 00:00:02.120\ngo forward\n\n"
        "00:00:03.000 --> 00:00:04.000\nthen &lt;stop&gt; &amp; wait\n\n"
    )


@pytest.mark.parametrize(
    ("seconds", "clock"),
    [
        (0.0, "00:00:00,000"),
        (59.9996, "00:01:00,000"),
        (3599.999, "00:59:59,999"),
        (3600.0, "01:00:00,000"),
        (3 * 3600 + 25 * 60 + 45.678, "03:25:45,678"),
        (100 * 3600.0, "100:00:00,000"),
    ],
)
def test_clock_past_a_minute_an_hour_and_four_days(seconds: float, clock: str) -> None:
    assert srt([Segment(seconds, seconds, "x")]).splitlines()[1] == f"{clock} --> {clock}"


def test_a_line_break_in_a_segment_does_not_end_its_cue() -> None:
    assert "one two" in vtt([Segment(0, 1, "one\n\ntwo")])


def test_segments_without_words_give_no_cue() -> None:
    assert srt([Segment(0, 1, "  "), Segment(1, 2, "yes")]).startswith("1\n00:00:01,000")


def test_silence_is_an_empty_answer_in_every_format() -> None:
    silent = Transcript("en", 3.0)
    assert render(silent, ResponseFormat.TEXT, frozenset()) == "\n"
    assert render(silent, ResponseFormat.SRT, frozenset()) == ""
    assert render(silent, ResponseFormat.VTT, frozenset()) == "WEBVTT\n\n"
    assert json.loads(render(silent, ResponseFormat.VERBOSE_JSON, BOTH))["segments"] == []


def test_a_diarized_answer_has_a_line_for_each_turn() -> None:
    segments = (
        Segment(0, 1, " Hello,", speaker="A"),
        Segment(1, 2, " caller.", speaker="A"),
        Segment(2, 3, " Hi.", speaker="B"),
        Segment(3, 4, " ", speaker="A"),
        Segment(4, 5, " Who?"),
    )
    body = json.loads(render(Transcript("en", 5.5, segments), ResponseFormat.DIARIZED_JSON, frozenset()))
    assert body["text"] == "A: Hello, caller.\nB: Hi.\nunknown: Who?"
    assert (body["task"], body["duration"], body["usage"]["seconds"]) == ("transcribe", 5.5, 6)
    assert body["segments"][2] == {
        "type": "transcript.text.segment",
        "id": "seg_002",
        "start": 2.0,
        "end": 3.0,
        "text": "Hi.",
        "speaker": "B",
    }


def test_a_translation_tells_no_usage_as_openais_does_not() -> None:
    translation = replace(TRANSCRIPT, task="translate")
    assert set(json.loads(render(translation, ResponseFormat.JSON, frozenset()))) == {"text"}
    verbose = json.loads(render(translation, ResponseFormat.VERBOSE_JSON, frozenset()))
    assert (verbose["task"], "usage" in verbose) == ("translate", False)


def test_languages_without_spaces_are_joined_without_them() -> None:
    segments = (Segment(0, 1, "今日は"), Segment(1, 2, "いい天気"))
    assert Transcript("ja", 2, segments).text == "今日はいい天気"


@given(st.lists(st.text(alphabet="ab \n", max_size=6)), st.sampled_from(["en", "zh"]))
def test_streamed_pieces_joined_are_the_text(texts: list[str], language: str) -> None:
    text = ""
    pieces = []
    for segment in texts:
        pieces.append(joined(text, segment, language)[len(text) :])
        text += pieces[-1]
    segments = tuple(Segment(0, 1, segment) for segment in texts)
    assert "".join(pieces) == Transcript(language, 1, segments).text


def test_events_are_openais() -> None:
    assert delta_event(" wör") == 'data: {"type": "transcript.text.delta", "delta": " wör"}\n\n'
    done = {"type": "transcript.text.done", "text": "all"}
    assert json.loads(done_event("all")[len("data: ") :]) == done
    tokens = {"type": "tokens", "input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    told = json.loads(done_event("all", tokens=tokens, duration=2.1)[len("data: ") :])
    assert told == done | {"usage": tokens, "duration": 2.1}
    error = {"type": "server_error", "message": "m", "param": None, "code": "c"}
    assert json.loads(error_event(error)[len("data: ") :]) == {"error": error}


def test_formats_need_the_standard_library_alone() -> None:
    """The gateway imports this module, and handlers the package: neither may pull in a server or numpy."""
    program = (
        "import sys, roundhouse_engine.formats, roundhouse_engine\n"
        "print([m for m in ('av', 'numpy', 'starlette', 'uvicorn', 'multipart', 'prometheus_client')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_engine_of_texts_starts_without_the_decoders_of_audio() -> None:
    """Their import, and numpy's, is more than half of its server's start."""
    program = (
        "import sys, roundhouse_engine.server\n"
        "print([m for m in ('av', 'numpy', 'roundhouse_engine.session') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("wanted", ResponseFormat)
@pytest.mark.parametrize("language", ["en", "ja"])
def test_what_is_written_of_a_long_recording_is_made_as_of_a_short_one(
    wanted: ResponseFormat, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Python, step by step, where a short one's is written at once."""
    segments = tuple(
        Segment(at, at + 0.5, text, (Word(text, at, at + 0.5),), speaker="A")
        for at in range(200)
        for text in (f" “{at}” é\n", "", "…")
    )
    transcript = Transcript(language, 200.0, segments)
    assert transcript.is_long
    long = render(transcript, wanted, frozenset(Granularity))
    monkeypatch.setattr(formats, "_LONG_SEGMENTS", 1000)
    assert not transcript.is_long
    assert render(transcript, wanted, frozenset(Granularity)) == long
    assert transcript.text == reduce(lambda said, one: joined(said, one.text, language), segments, "")
