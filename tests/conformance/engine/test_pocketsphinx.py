"""PocketSphinx over HTTP: the right words of people and of flite, in every format and from every encoding."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pocketsphinx import get_model_path

from roundhouse_engine import ModelError, ModelSpec
from roundhouse_pocketsphinx.handler import PocketSphinx, find_parts
from tests.conformance.engine.holding import assert_nothing_stays
from tests.conformance.engine.running import POCKETSPHINX, Engine, running
from tests.support.recordings import GO_FORWARD_WORDS, TEST_DATA, WEATHER_WORDS, go_forward, spoken, wav
from tests.unit.engine.encoding import encode


def recording(name: str) -> bytes:
    data = (TEST_DATA / name).read_bytes()
    return wav(data) if name.endswith(".raw") else data


@dataclass(frozen=True)
class Recording:
    name: str
    words: str


# Five people. Word for word what they say, so far as this model understands them at all.
PEOPLE = [
    Recording("goforward.raw", GO_FORWARD_WORDS),
    Recording("something.raw", "go somewhere and do something"),
    Recording("cards/001.wav", "ten of clubs"),
    Recording("cards/003.wav", "seven of clubs"),
    Recording("cards/004.wav", "five five"),
    Recording("cards/005.wav", "eight of spades four of clubs seven of hearts"),
    Recording(
        "librivox/sense_and_sensibility_01_austen_64kb-0930.wav",
        "he might even have been made amiable himself",
    ),
]

SENTENCES = [
    WEATHER_WORDS,
    "please open the window and close the door",
    "the train to london leaves at seven in the evening",
    "she read an interesting book about the history of science",
    "we will meet you at the station after lunch",
]


def text(engine: Engine, audio: bytes, **fields: str) -> str:
    answer = engine.post(audio, model="english", response_format="text", **fields)
    assert answer.status == 200, answer.body
    return answer.body.decode().strip()


def errors(said: str, heard: str) -> int:
    """Words to change, leave out or put in to make one of the other."""
    row = list(range(len(heard.split()) + 1))
    for at, word in enumerate(said.split(), start=1):
        above, row[0] = row[:], at
        for column, other in enumerate(heard.split(), start=1):
            row[column] = min(above[column] + 1, row[column - 1] + 1, above[column - 1] + (word != other))
    return row[-1]


@pytest.mark.parametrize("case", PEOPLE, ids=lambda case: case.name)
def test_people_are_understood_word_for_word(case: Recording, pocketsphinx: Engine) -> None:
    assert text(pocketsphinx, recording(case.name)) == case.words


@pytest.mark.parametrize("voice", ["slt", "rms"])
@pytest.mark.parametrize("sentence", SENTENCES)
def test_flites_voices_are_understood_word_for_word(sentence: str, voice: str, pocketsphinx: Engine) -> None:
    assert text(pocketsphinx, spoken(sentence, voice=voice)) == sentence


def test_a_read_book_is_understood_for_the_most_part(pocketsphinx: Engine) -> None:
    """Jane Austen, read by a volunteer; the model's best is two words of three."""
    lines = (TEST_DATA / "librivox/transcription").read_text().splitlines()
    wrong = words = 0
    for line in lines:
        match = re.fullmatch(r"<s> (.*?)\s*</s> \((.*)\)", line)
        assert match is not None
        said, name = match.groups()
        wrong += errors(said, text(pocketsphinx, recording(f"librivox/{name}.wav")))
        words += len(said.split())
    assert wrong / words < 0.35


def test_the_same_recording_gives_the_same_words_whatever_came_before(pocketsphinx: Engine) -> None:
    """One request's voice must not colour the next one's."""
    first = text(pocketsphinx, recording("cards/005.wav"))
    text(pocketsphinx, spoken(SENTENCES[0]))
    text(pocketsphinx, recording("librivox/sense_and_sensibility_01_austen_64kb-0870.wav"))
    assert text(pocketsphinx, recording("cards/005.wav")) == first


@pytest.mark.parametrize(
    ("container", "codec", "rate", "layout"),
    [
        ("wav", "pcm_s16le", 44_100, "stereo"),
        ("wav", "pcm_f32le", 96_000, "5.1"),
        ("flac", "flac", 48_000, "mono"),
        ("mp3", "libmp3lame", 44_100, "stereo"),
        ("ipod", "aac", 48_000, "mono"),
        ("ogg", "libopus", 48_000, "mono"),
        ("webm", "libopus", 48_000, "stereo"),
    ],
)
def test_every_encoding_of_a_recording_says_the_same(
    container: str, codec: str, rate: int, layout: str, pocketsphinx: Engine
) -> None:
    assert (
        text(pocketsphinx, encode(go_forward(), container, codec, rate=rate, layout=layout))
        == GO_FORWARD_WORDS
    )


def create(engine: Engine, **options: Any) -> Any:
    return engine.client.audio.transcriptions.create(model="english", file=("a.wav", go_forward()), **options)


def test_json_through_the_official_client(pocketsphinx: Engine) -> None:
    assert create(pocketsphinx).text == GO_FORWARD_WORDS


def test_verbose_json_through_the_official_client(pocketsphinx: Engine) -> None:
    found = create(
        pocketsphinx,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        language="en",
        prompt="a robot",
        temperature=0.2,
    )
    assert (found.text, found.language) == (GO_FORWARD_WORDS, "english")
    assert found.duration == pytest.approx(2.786, abs=0.001)
    assert [word.word for word in found.words] == GO_FORWARD_WORDS.split()
    times = [time for word in found.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert 0.3 < times[0] < 0.6
    assert 1.9 < times[-1] < 2.3
    (segment,) = found.segments
    assert segment.text == f" {GO_FORWARD_WORDS}"
    assert (segment.start, segment.end) == (times[0], times[-1])
    assert found.usage.seconds == 3


def test_words_alone_through_the_official_client(pocketsphinx: Engine) -> None:
    found = create(pocketsphinx, response_format="verbose_json", timestamp_granularities=["word"])
    assert found.segments is None
    assert len(found.words) == 4


def test_captions_and_text_through_the_official_client(pocketsphinx: Engine) -> None:
    clock = r"00:00:0\d{0}\d\d\d"
    assert create(pocketsphinx, response_format="text") == f"{GO_FORWARD_WORDS}\n"
    srt = create(pocketsphinx, response_format="srt")
    assert re.fullmatch(rf"1\n{clock.format(',')} --> {clock.format(',')}\n{GO_FORWARD_WORDS}\n\n", srt)
    vtt = create(pocketsphinx, response_format="vtt")
    assert re.fullmatch(
        rf"WEBVTT\n\n{clock.format('[.]')} --> {clock.format('[.]')}\n{GO_FORWARD_WORDS}\n\n", vtt
    )


def test_a_stream_through_the_official_client(pocketsphinx: Engine) -> None:
    *deltas, done = create(pocketsphinx, stream=True)
    assert "".join(event.delta for event in deltas) == done.text == GO_FORWARD_WORDS


def test_words_of_a_later_utterance_have_its_time(pocketsphinx: Engine) -> None:
    samples = (TEST_DATA / "goforward.raw").read_bytes()
    audio = wav(samples + bytes(2 * 16_000 * 10) + samples)
    answer = pocketsphinx.post(
        audio, model="english", response_format="verbose_json", **{"timestamp_granularities[]": "word"}
    )
    words = answer.json["words"]
    assert [word["word"] for word in words] == GO_FORWARD_WORDS.split() * 2
    shift = len(samples) / 2 / 16_000 + 10
    for early, late in zip(words[:4], words[4:], strict=True):
        assert late["start"] - early["start"] == pytest.approx(shift, abs=0.05)


@pytest.mark.parametrize("seconds", [0.02, 5])
def test_silence_has_no_words(seconds: float, pocketsphinx: Engine) -> None:
    assert text(pocketsphinx, wav(bytes(2 * round(16_000 * seconds)))) == ""


@pytest.mark.parametrize("language", ["en", "EN", "en-GB", "English"])
def test_english_by_any_of_its_names(language: str, pocketsphinx: Engine) -> None:
    assert text(pocketsphinx, go_forward(), language=language) == GO_FORWARD_WORDS


@pytest.mark.parametrize(("language", "says"), [("de", "german"), ("zz", "ISO 639-1")])
def test_another_language_is_refused(language: str, says: str, pocketsphinx: Engine) -> None:
    answer = pocketsphinx.post(go_forward(), model="english", language=language)
    assert (answer.status, answer.error["param"], answer.error["code"]) == (
        400,
        "language",
        "unsupported_value",
    )
    assert says in answer.error["message"]


def test_what_is_refused_leaves_nothing_behind(pocketsphinx: Engine) -> None:
    def ask() -> None:
        for file, fields in (
            (b"no audio" * 9, {}),
            (go_forward()[:30_000], {}),
            (go_forward(), {"language": "de"}),
        ):
            assert pocketsphinx.post(file, model="english", **fields).status == 400
        assert text(pocketsphinx, go_forward()) == GO_FORWARD_WORDS

    assert_nothing_stays(pocketsphinx, ask, mebibytes=32)


def test_a_model_that_lies_at_a_path_hears_as_the_one_that_is_brought_along(tmp_path: Path) -> None:
    model = {"name": "english", "path": get_model_path("en-us"), "source": {"type": "HuggingFace"}}
    with running(POCKETSPHINX, tmp_path, ROUNDHOUSE_MODELS=json.dumps([model])) as engine:
        engine.until_ready()
        assert text(engine, recording("goforward.raw")) == GO_FORWARD_WORDS


def test_a_path_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "mdef").write_text("")
    with pytest.raises(
        ModelError, match=r"\*\.lm, \*\.lm\.bin or \*\.lm\.dmp, \*\.dict or \*\.dic is missing"
    ):
        find_parts(tmp_path)


def test_a_model_that_was_made_for_telephones_is_refused(tmp_path: Path) -> None:
    """It would mishear whatever is said."""
    brought = Path(get_model_path("en-us"))
    parts = find_parts(brought)
    for name in (parts.language.name, parts.dictionary.name):
        (tmp_path / name).symlink_to(brought / name)
    acoustic = tmp_path / "telephone"
    acoustic.mkdir()
    for file in parts.acoustic.iterdir():
        (acoustic / file.name).symlink_to(file)
    settings = (acoustic / "feat.params").read_text().replace("-upperf 6800", "-upperf 3500")
    (acoustic / "feat.params").unlink()
    (acoustic / "feat.params").write_text(settings + "-samprate 8000\n")
    with pytest.raises(ModelError, match="made for sound of 8000 samples a second; this engine has 16000"):
        PocketSphinx().load(ModelSpec("english", tmp_path), lambda _: None)
