"""Whisper by transformers over HTTP: repositories that say known words at known times, in every format."""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest

from tests.conformance.engine.holding import assert_nothing_stays
from tests.conformance.engine.listening import CLIP_SECONDS, RATE
from tests.conformance.engine.running import Engine, form
from tests.conformance.engine.stalling import assert_others_are_answered
from tests.conformance.engine.streaming import go_forward_samples
from tests.conformance.engine.test_faster_whisper import (
    HINTS,
    SECOND,
    TRANSLATIONS,
    clock,
    create,
    phrases,
    timed,
)
from tests.conformance.engine.test_long_recordings import conversation, peak_mib
from tests.conformance.engine.test_transformers import serving
from tests.support.recordings import go_forward, wav
from tests.support.waiting import wait_until
from tests.support.whisper import UNSURE, Whisper
from tests.unit.engine.encoding import encode

# The client calls its own translations deprecated, because OpenAI's models are.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def listener(making: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("listener")
    german = Whisper(says=("guten", "tag"), language="de", mels=128)
    served = {
        "m": making.write_whisper(folder / "m"),
        "german": making.write_whisper(folder / "german", german),
        "english": making.write_whisper(folder / "english", Whisper(multilingual=False)),
        "unsure": making.write_whisper(folder / "unsure", UNSURE),
    }
    with serving("transcriptions", folder, **served) as engine:
        yield engine


@pytest.mark.req("S2-20")
def test_words_come_at_their_times(listener: Engine) -> None:
    answer = listener.post(
        wav(phrases(2)), response_format="verbose_json", **{"timestamp_granularities[]": "word"}
    )
    starts = [
        segment["start"]
        for segment in listener.post(wav(phrases(2)), response_format="verbose_json").json["segments"]
    ]
    assert starts == [pytest.approx(3, abs=0.5), pytest.approx(8 + CLIP_SECONDS, abs=0.5)]
    assert timed(answer.json["words"]) == [
        (word, round(start + at, 2), round(start + at + 0.5, 2))
        for start in starts
        for word, at in (("hello", 0.0), ("world", 0.5))
    ]


@pytest.mark.req("S2-20")
def test_every_format_through_the_official_client(listener: Engine) -> None:
    verbose = create(listener, response_format="verbose_json", language="en", temperature=0.2)
    assert (verbose.text, verbose.language) == ("hello world hello world", "english")
    assert [(one.text, one.temperature) for one in verbose.segments] == [(" hello world", 0.2)] * 2
    assert all(one.end == pytest.approx(one.start + 1, abs=0.01) for one in verbose.segments)
    assert all(one.avg_logprob > -0.1 and one.tokens for one in verbose.segments)
    first = verbose.segments[0].start
    assert create(listener).text == "hello world hello world"
    assert create(listener, response_format="text") == "hello world hello world\n"
    srt = create(listener, response_format="srt")
    assert srt.startswith(f"1\n{clock(first, ',')} --> {clock(first + 1, ',')}\nhello world\n")
    vtt = create(listener, response_format="vtt")
    assert vtt.startswith(f"WEBVTT\n\n{clock(first, '.')} --> {clock(first + 1, '.')}\nhello world\n")
    *deltas, done = create(listener, stream=True)
    assert [event.delta for event in deltas] == ["hello world", " hello world"]
    assert done.text == "hello world hello world"


@pytest.mark.req("S2-20")
def test_a_translation_says_it_in_english_and_the_language_is_found_out(listener: Engine) -> None:
    with listener.client as client:
        answer = client.audio.translations.create(
            model="german", file=("a.wav", go_forward()), response_format="verbose_json"
        )
    assert (answer.text, answer.language) == ("good day", "english")
    found = listener.post(go_forward(), model="german", response_format="verbose_json").json
    assert (found["text"], found["language"]) == ("guten tag", "german")


def test_hints_are_taken_however_long_they_are(listener: Engine) -> None:
    long = "a prompt that is longer than the model's memory " * 100
    for fields in ({"prompt": long}, {"hotwords": long}, {"prompt": long, "keywords[]": "Roundhouse"}):
        answer = listener.post(go_forward(), **fields)
        assert (answer.status, answer.json.get("text")) == (200, "hello world"), answer.body


@pytest.mark.req("S2-20")
def test_hints_decide_between_words_that_sound_alike(listener: Engine) -> None:
    samples = wav(phrases(2))
    for fields, word in HINTS:
        answer = listener.post(samples, model="unsure", **fields)
        assert answer.json.get("text") == f"hello {word} hello {word}", (fields, answer.body)


def test_clips_at_once_are_each_answered(listener: Engine) -> None:
    clips = [wav(phrases(count)) for count in (1, 2, 3, 4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(listener.post, clips))
    assert [answer.json["text"].count("hello world") for answer in answers] == [1, 2, 3, 4]


def test_an_english_model_knows_no_other_language(listener: Engine) -> None:
    assert listener.post(go_forward(), model="english").json["text"] == "hello world"
    other = listener.post(go_forward(), model="english", language="de")
    assert (other.status, other.error["param"]) == (400, "language")
    assert "English alone, not 'de'" in other.error["message"]
    translation = listener.post(go_forward(), model="english", path=TRANSLATIONS)
    assert (translation.status, translation.error["param"]) == (400, "model")


def test_unusual_recordings_are_heard_and_what_is_none_is_told(listener: Engine) -> None:
    surround = encode(go_forward(), "wav", "pcm_f32le", rate=96_000, layout="7.1")
    assert listener.post(surround).json["text"] == "hello world"
    assert listener.post(wav(go_forward_samples()[: RATE // 8])).json["text"] == "", "a sixteenth of a second"
    assert listener.post(wav(SECOND * 5)).json["text"] == "", "silence"
    for file, fields, code in (
        (b"this is no audio at all" * 100, {}, "audio_unreadable"),
        (go_forward()[:30_000], {}, "audio_cut_off"),
        (go_forward(), {"language": "xx"}, "unsupported_value"),
    ):
        bad = listener.post(file, **fields)
        assert (bad.status, bad.error["code"]) == (400, code)
    assert listener.post(go_forward()).json["text"] == "hello world"


def test_a_long_recording_in_flat_memory_while_the_server_answers(listener: Engine) -> None:
    assert listener.post(conversation(0.5)[0]).status == 200
    before = peak_mib(listener.process.pid)
    body, headers = form(conversation(4)[0], stream="true", language="en")

    def heard() -> None:
        with contextlib.closing(listener.connect(timeout=500)) as connection:
            begun = time.perf_counter()
            connection.request("POST", "/v1/audio/transcriptions", body, headers)
            lines = ((line, time.perf_counter() - begun) for line in connection.getresponse())
            told = [seconds for line, seconds in lines if b"transcript.text.delta" in line]
        assert len(told) == 16, "a window for each sentence"
        assert told[0] < told[-1] / 3, "the first words do not wait for the last"

    assert_others_are_answered(listener, heard)
    assert peak_mib(listener.process.pid) - before < 60


def test_what_is_refused_or_left_in_the_middle_leaves_nothing_behind(listener: Engine) -> None:
    recording = conversation(10)[0]

    def ask() -> None:
        for file, fields in (
            (b"no audio" * 9, {}),
            (go_forward()[:30_000], {}),
            (go_forward(), {"language": "xx"}),
        ):
            assert listener.post(file, **fields).status == 400
        with listener.started(recording, language="en"):
            pass
        wait_until(lambda: listener.metric("slots_computing") == 0, seconds=30, what="nothing is computed")

    assert_nothing_stays(listener, ask, mebibytes=64)
