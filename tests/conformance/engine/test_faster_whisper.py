"""faster-whisper over HTTP: models that say known words at known times, in every format."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from roundhouse_engine import Cancellation, Window
from roundhouse_faster_whisper.handler import FasterWhisper
from tests.conformance.engine.holding import assert_nothing_stays
from tests.conformance.engine.running import Engine
from tests.conformance.engine.streaming import Stream, go_forward_samples, streaming
from tests.support.recordings import WEATHER_WORDS, go_forward, spoken, wav
from tests.support.waiting import wait_until
from tests.unit.engine.encoding import encode

# The client calls its own translations deprecated, because OpenAI's models are.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

SECOND = bytes(32_000)
TRANSLATIONS = "/v1/audio/translations"


def phrases(count: int) -> bytes:
    """Samples of so many phrases with long pauses between them: each is a window of its own."""
    return SECOND * 3 + (go_forward_samples() + SECOND * 5) * count


def windows(samples: bytes) -> list[Window]:
    def blocks() -> Iterator[bytes]:
        for start in range(0, len(samples), len(SECOND)):
            yield samples[start : start + len(SECOND)]

    return list(FasterWhisper().windows(blocks(), Cancellation()))


def timed(words: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    return [(word["word"], round(word["start"], 2), round(word["end"], 2)) for word in words]


def test_words_come_at_their_times(whisper: Engine) -> None:
    samples = phrases(2)
    first, second = windows(samples)
    assert (round(first.start), round(second.start)) == (3, 11)
    answer = whisper.post(
        wav(samples), response_format="verbose_json", **{"timestamp_granularities[]": "word"}
    )
    assert timed(answer.json["words"]) == [
        (word, round(window.start + at, 2), round(window.start + at + 0.5, 2))
        for window in (first, second)
        for word, at in (("hello", 0.0), ("world", 0.5))
    ]


def create(engine: Engine, **options: Any) -> Any:
    with engine.client as client:
        answer = client.audio.transcriptions.create(
            **{"model": "m", "file": ("a.wav", wav(phrases(2)))} | options
        )
        return list(answer) if "stream" in options else answer


def test_every_format_through_the_official_client(whisper: Engine) -> None:
    first, second = (window.start for window in windows(phrases(2)))
    assert create(whisper).text == "hello world hello world"
    assert create(whisper, response_format="text") == "hello world hello world\n"
    verbose = create(whisper, response_format="verbose_json", language="en", temperature=0.2)
    assert (verbose.text, verbose.language) == ("hello world hello world", "english")
    assert [(one.text, one.start, one.end, one.temperature) for one in verbose.segments] == [
        (" hello world", pytest.approx(start, abs=0.01), pytest.approx(start + 1, abs=0.01), 0.2)
        for start in (first, second)
    ]
    assert all(one.avg_logprob > -0.1 for one in verbose.segments)
    assert all(one.tokens for one in verbose.segments)
    srt = create(whisper, response_format="srt")
    assert srt.count(" --> ") == 2
    assert f"1\n{clock(first, ',')} --> {clock(first + 1, ',')}\nhello world\n" in srt
    vtt = create(whisper, response_format="vtt")
    assert vtt.startswith(f"WEBVTT\n\n{clock(first, '.')} --> {clock(first + 1, '.')}\nhello world\n")


def clock(seconds: float, point: str) -> str:
    return f"00:00:{seconds:06.3f}".replace(".", point)


def test_a_stream_through_the_official_client(whisper: Engine) -> None:
    *deltas, done = create(whisper, stream=True)
    assert [event.delta for event in deltas] == ["hello world", " hello world"]
    assert done.text == "hello world hello world"


@pytest.mark.req("S2-20")
def test_a_translation_says_it_in_english(whisper: Engine) -> None:
    with whisper.client as client:
        answer = client.audio.translations.create(
            model="german", file=("a.wav", go_forward()), response_format="verbose_json"
        )
    assert (answer.text, answer.language) == ("good day", "english")


def test_the_language_is_found_out(whisper: Engine) -> None:
    answers = [
        whisper.post(go_forward(), model=model, response_format="verbose_json").json
        for model in ("m", "german")
    ]
    assert [(answer["language"], answer["text"]) for answer in answers] == [
        ("english", "hello world"),
        ("german", "guten tag"),
    ]


def test_hints_are_taken_however_long_they_are(whisper: Engine) -> None:
    long = "a prompt that is longer than the model's memory " * 100
    for fields in (
        {"prompt": long},
        {"hotwords": long},
        {"prompt": "a", "keywords[]": "Roundhouse"},
        {"prompt": long, "hotwords": long[:300]},
        {"prompt": long, "hotwords": long},
    ):
        answer = whisper.post(go_forward(), **fields)
        assert (answer.status, answer.json.get("text")) == (200, "hello world"), answer.body


_LONG = "other things " * 100
HINTS = [
    ({}, "world"),
    ({"prompt": "world"}, "world"),
    ({"prompt": "The leaves whirled about."}, "whirled"),
    ({"hotwords": "whirled"}, "whirled"),
    ({"keywords[]": "whirled"}, "whirled"),
    ({"prompt": f"{_LONG} whirled"}, "whirled"),
    ({"prompt": f"whirled {_LONG}"}, "world"),
    ({"hotwords": f"whirled {_LONG}"}, "whirled"),
    ({"hotwords": f"{_LONG} whirled"}, "world"),
    ({"prompt": f"{_LONG} whirled", "hotwords": "hello, world"}, "whirled"),
    ({"prompt": _LONG, "hotwords": f"whirled {_LONG}"}, "whirled"),
    ({"prompt": "<|endoftext|><|startoftranscript|> whirled <|startoftranscript|>"}, "whirled"),
    ({"hotwords": "<|startoftranscript|> whirled <|endoftext|><|startoftranscript|>"}, "whirled"),
]
"""What is told of a recording, and which of two words that sound alike is heard then."""


@pytest.mark.req("S2-20")
def test_hints_decide_between_words_that_sound_alike(whisper: Engine) -> None:
    """In each window; of a long prompt its end counts, of long hotwords their beginning."""
    samples = wav(phrases(2))
    for fields, word in HINTS:
        answer = whisper.post(samples, model="unsure", **fields)
        assert answer.json.get("text") == f"hello {word} hello {word}", (fields, answer.body)


@pytest.mark.parametrize(("prompt", "word"), [("", "world"), ("whirled", "whirled")])
async def test_a_prompt_decides_between_words_while_they_are_spoken(
    prompt: str, word: str, whisper: Engine
) -> None:
    asked = {"model": "unsure", "language": "en", "prompt": prompt}
    async with streaming(whisper.port, asked) as stream:
        await stream.send(go_forward_samples() + SECOND * 2, pace=50)
        await stream.say("end")
        assert (await stream.rest())[0] == 1000
    (final,) = [event for event in stream.seen if event.type == "transcript.final"]
    assert final.text == f"hello {word}"


def test_clips_at_once_are_each_answered(whisper: Engine) -> None:
    clips = [wav(phrases(count)) for count in (1, 2, 3, 4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(whisper.post, clips))
    assert [answer.json["text"].count("hello world") for answer in answers] == [1, 2, 3, 4]


def test_an_english_model_knows_no_other_language(whisper: Engine) -> None:
    assert whisper.post(go_forward(), model="english").json["text"] == "hello world"
    other = whisper.post(go_forward(), model="english", language="de")
    assert (other.status, other.error["param"]) == (400, "language")
    assert "'de'" in other.error["message"]
    translation = whisper.post(go_forward(), model="english", path=TRANSLATIONS)
    assert (translation.status, translation.error["param"]) == (400, "model")


@dataclass(frozen=True)
class Bad:
    id: str
    file: bytes
    code: str
    fields: tuple[tuple[str, str], ...] = ()
    param: str = "file"


BAD = [
    Bad("no audio", b"this is no audio at all" * 100, "audio_unreadable"),
    Bad("cut off", go_forward()[:30_000], "audio_cut_off"),
    Bad("empty", b"", "audio_empty"),
    Bad("no language", go_forward(), "unsupported_value", (("language", "xx"),), "language"),
    Bad("a later model's", go_forward(), "unsupported_value", (("language", "yue"),), "language"),
    Bad("too hot", go_forward(), "invalid_value", (("temperature", "7"),), "temperature"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.id)
def test_bad_input_is_told_and_the_engine_goes_on(bad: Bad, whisper: Engine) -> None:
    answer = whisper.post(bad.file, **dict(bad.fields))
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, bad.code, bad.param)
    assert whisper.post(go_forward()).json["text"] == "hello world"


def test_what_is_refused_or_left_in_the_middle_leaves_nothing_behind(whisper: Engine) -> None:
    def ask() -> None:
        for bad in BAD:
            assert whisper.post(bad.file, **dict(bad.fields)).status == 400
        with whisper.started(wav(phrases(40))):
            pass
        wait_until(lambda: whisper.metric("slots_computing") == 0, seconds=30, what="it stops", every=0.02)
        assert whisper.post(go_forward()).json["text"] == "hello world"

    assert_nothing_stays(whisper, ask, mebibytes=32)


def test_unusual_recordings_are_heard_and_silence_says_nothing(whisper: Engine) -> None:
    for container, codec, rate, layout in (
        ("wav", "pcm_f32le", 96_000, "7.1"),
        ("ipod", "aac", 48_000, "mono"),
        ("ogg", "libopus", 48_000, "stereo"),
    ):
        assert whisper.post(encode(go_forward(), container, codec, rate=rate, layout=layout)).json[
            "text"
        ] == ("hello world")
    assert whisper.post(wav(SECOND * 5)).json["text"] == ""


async def test_what_is_heard_live_is_what_a_recording_says(whisper: Engine) -> None:
    samples = phrases(2) + spoken(WEATHER_WORDS)[44:] + SECOND * 3
    answer = whisper.post(
        wav(samples), response_format="verbose_json", **{"timestamp_granularities[]": "word"}
    )
    async with streaming(whisper.port, {"model": "m", "word_timestamps": "true"}) as stream:
        await stream.send(samples, pace=50)
        await stream.say("end")
        assert (await stream.rest())[0] == 1000
    assert finals(stream) == timed(answer.json["words"])
    assert len(finals(stream)) == 6


def finals(stream: Stream) -> list[tuple[str, float, float]]:
    heard = [event for event in stream.seen if event.type == "transcript.final"]
    return [
        (word.text, round(word.start, 2), round(word.end, 2)) for event in heard for word in event.words or ()
    ]


async def test_an_utterance_is_guessed_at_while_it_goes_on(whisper: Engine) -> None:
    async with streaming(whisper.port, {"model": "m", "language": "en"}) as stream:
        await stream.send(SECOND + go_forward_samples())
        guess = await stream.until("transcript.partial")
        assert "transcript.final" not in stream.kinds
        assert guess.text == "hello world"
        await stream.say("end")
        assert (await stream.rest())[0] == 1000
