"""Whisper by transformers over HTTP: repositories that say known words at known times, in every format."""

import contextlib
import json
import string
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from typing_extensions import override

from roundhouse_engine import (
    Cancellation,
    Cancelled,
    ModelError,
    ModelSpec,
    Segment,
    SpeechOptions,
    Task,
    Window,
)
from roundhouse_engine.errors import EngineError
from roundhouse_transformers.speech import TransformersTranscriptions
from tests.conformance.engine.running import Engine, form
from tests.conformance.engine.streaming import go_forward_samples
from tests.conformance.engine.test_faster_whisper import SECOND, TRANSLATIONS, clock, create, phrases, timed
from tests.conformance.engine.test_long_recordings import conversation, own_lateness, peak_mib
from tests.conformance.engine.test_transformers import serving
from tests.support.recordings import go_forward, wav
from tests.support.torch_base import prepare_torch
from tests.support.waiting import wait_until
from tests.support.whisper import Whisper
from tests.unit.engine.encoding import encode

# The client calls its own translations deprecated, because OpenAI's models are.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

RATE = 16_000
PICKLED = {"type": "HuggingFace", "allow": ["UnsafeFormats"]}
CLIP_SECONDS = len(go_forward_samples()) / 2 / RATE


@pytest.fixture(scope="session")
def making() -> ModuleType:
    prepare_torch()
    from tests.support import whisper_repository  # noqa: PLC0415 - torch loads only from here on

    return whisper_repository


@pytest.fixture(scope="module")
def repositories(making: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("whispers")
    german = Whisper(says=("guten", "tag"), language="de", mels=128)
    return {
        "m": making.write_whisper(folder / "m"),
        "german": making.write_whisper(folder / "german", german),
        "english": making.write_whisper(folder / "english", Whisper(multilingual=False)),
        "old": making.write_whisper(folder / "old", kind=making.Kind.OLD_FINE_TUNE),
        "bare": making.write_whisper(folder / "bare", kind=making.Kind.BARE),
    }


@pytest.fixture(scope="module")
def listener(repositories: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    served = {name: path for name, path in repositories.items() if name in {"m", "german", "english"}}
    with serving("transcriptions", tmp_path_factory.mktemp("listener"), **served) as engine:
        yield engine


@contextlib.contextmanager
def loaded(path: Path, **source: Any) -> Iterator[TransformersTranscriptions]:
    """In this process, on one thread: two that wait for each other take long on a busy machine."""
    import torch  # noqa: PLC0415 - see `making`

    threads = torch.get_num_threads()
    engine = TransformersTranscriptions()
    engine.load(ModelSpec("m", path, source or {"type": "HuggingFace"}), lambda _: None)
    torch.set_num_threads(1)
    yield engine
    torch.set_num_threads(threads)
    engine.unload()


def heard(
    engine: TransformersTranscriptions,
    options: SpeechOptions | None = None,
    *,
    cancellation: Cancellation | None = None,
) -> list[Segment]:
    window = Window(3.0, go_forward_samples(), RATE)
    return list(engine.transcribe(iter([window]), options or SpeechOptions(), cancellation or Cancellation()))


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

    def late() -> float:
        name = "event_loop_stall_seconds"
        return listener.metric(f"{name}_count") - listener.metric(f"{name}_bucket", le="0.05")

    late_before = late()
    told, lateness = [], []
    body, headers = form(conversation(4)[0], stream="true", language="en")
    with contextlib.closing(listener.connect(timeout=500)) as connection:
        begun = time.perf_counter()
        connection.request("POST", "/v1/audio/transcriptions", body, headers)
        for line in connection.getresponse():
            if b"transcript.text.delta" in line:
                told.append(time.perf_counter() - begun)
                lateness.append(own_lateness())
    assert len(told) == 16, "a window for each sentence"
    assert told[0] < told[-1] / 3, "the first words do not wait for the last"
    assert peak_mib(listener.process.pid) - before < 60
    assert late() - late_before <= 1 or max(lateness) > 0.05


def test_a_client_that_leaves_frees_the_place(listener: Engine) -> None:
    with listener.started(conversation(10)[0], language="en"):
        pass
    wait_until(lambda: listener.metric("slots_computing") == 0, seconds=30, what="nothing is computed")


def test_who_is_gone_gets_no_further_token(making: ModuleType, tmp_path: Path) -> None:
    class Leaving(Cancellation):
        """A client that leaves while the fifth token is computed."""

        looks = 0

        @property
        @override
        def cancelled(self) -> bool:
            self.looks += 1
            if self.looks > 5:
                self.cancel()
            return super().cancelled

    says = tuple(map("".join, pairwise(string.ascii_lowercase)))  # nothing that seems garbled
    with loaded(making.write_whisper(tmp_path / "m", Whisper(says=says, width=128))) as engine:
        passes = 0

        def count(*_: object) -> None:
            nonlocal passes
            passes += 1

        (text,) = heard(engine, SpeechOptions(language="en"))
        assert len(text.text.split()) == 25
        engine._listener._loaded.model.model.decoder.register_forward_hook(count)
        leaving = Leaving()
        with pytest.raises(Cancelled):
            heard(engine, SpeechOptions(language="en"), cancellation=leaving)
        assert 1 < passes < 8, "of 27 that the answer takes"


@pytest.mark.parametrize("name", ["old", "bare"])
def test_an_old_fine_tune_is_read_by_its_tokenizer(
    name: str, repositories: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """As those of jethrowang and Ivydata are published: what forces a language upon all is not looked at."""
    with loaded(repositories[name], **PICKLED) as engine:
        assert "segments end where a pause is" in caplog.text
        assert "times of words are taken from all heads" in caplog.text
        (segment,) = heard(engine, SpeechOptions(words=True))
    assert (segment.text, segment.language) == (" hello world", "en")
    assert segment.start == 3.0
    assert segment.end == pytest.approx(3.0 + CLIP_SECONDS)
    assert [word.text for word in segment.words] == ["hello", "world"]
    assert all(3 <= word.start <= word.end <= segment.end for word in segment.words)


def test_segments_are_the_models_where_that_is_asked_for(
    repositories: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_SEGMENTS", "model")
    with loaded(repositories["bare"]) as engine:
        assert [(each.start, each.end) for each in heard(engine)] == [(3.0, 4.0)]


def test_where_the_model_breaks_off_it_is_asked_again(making: ModuleType, tmp_path: Path) -> None:
    """It writes times up to 1.5 s, of which the last begins a sentence that it does not write."""
    with loaded(making.write_whisper(tmp_path / "m", Whisper(breaks_off=True))) as engine:
        found = heard(engine, SpeechOptions(words=True))
    assert [(each.start, each.end) for each in found] == [(3.0, 4.0), (4.5, 5.5)]
    assert [word.start for each in found for word in each.words] == [3.0, 3.5, 4.5, 5.0]


def test_where_nobody_speaks_nothing_is_made_up(
    making: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whisper's own rule: what the model is unsure of, and takes for no speech. Else it tries up to 1.0."""
    from roundhouse_transformers import decoding  # noqa: PLC0415 - see `making`

    monkeypatch.setattr(decoding, "LONGEST", 12)  # such models find no end
    with loaded(making.write_whisper(tmp_path / "m", Whisper(speech=False, sure=0.5))) as engine:
        assert heard(engine, SpeechOptions(language="en")) == []
    with loaded(making.write_whisper(tmp_path / "n", Whisper(sure=0.5))) as engine:
        found = heard(engine, SpeechOptions(language="en"))
        assert {each.temperature for each in found} == {1.0}
        assert heard(engine, SpeechOptions(language="en")) == found, "by the same chance"


def test_what_it_writes_is_what_the_library_writes(
    making: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With random weights, and one matrix for the words read and written, as all published models have it."""
    import torch  # noqa: PLC0415 - see `making`
    import transformers  # noqa: PLC0415

    from roundhouse_transformers import decoding  # noqa: PLC0415

    monkeypatch.setattr(decoding, "LONGEST", 40)
    path = making.write_whisper(tmp_path / "m")
    config = transformers.WhisperConfig.from_pretrained(path, tie_word_embeddings=True, init_std=0.3)
    torch.manual_seed(3)
    model = transformers.WhisperForConditionalGeneration(config).eval()
    model.generation_config = transformers.GenerationConfig.from_pretrained(path)
    model.save_pretrained(path)
    samples = np.frombuffer(go_forward_samples(), "<i2").astype(np.float32) / 32768
    with loaded(path) as engine:
        listener = engine._listener
        known = listener._vocabulary
        opening = tuple(known.opening("en", "transcribe", timed=True))
        heard = listener._sound(samples, Cancellation())
        asked = decoding.Decoding(heard, opening, 0.0, timed=True, cancellation=Cancellation())
        (found,) = listener._decoder.decode([asked])
    model.generation_config.suppress_tokens = list(known.suppressed)
    sound = transformers.WhisperFeatureExtractor()(samples, sampling_rate=RATE, return_tensors="pt")
    told = {"language": "en", "task": "transcribe", "return_timestamps": True, "max_new_tokens": 40}
    one = {"num_beams": 1, "do_sample": False, "force_unique_generate_call": True}
    wanted = model.generate(sound["input_features"], **one, **told)[0].tolist()
    assert len(set(wanted)) > 10
    assert [*opening, *found.tokens] == wanted


@dataclass(frozen=True)
class Bad:
    id: str
    spoil: Callable[[Path], None]
    says: str


def changed(name: str, **fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return change


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


BAD = [
    Bad("pickled", pickled, "pickled weights alone"),
    Bad("no tokenizer", lambda folder: (folder / "tokenizer.json").unlink(), "holds no tokenizer.json"),
    Bad("another kind", changed("config.json", model_type="wav2vec2"), "of the kind 'wav2vec2'"),
    Bad("too few tokens", changed("config.json", vocab_size=500), "cannot be loaded"),
    Bad("other bands", changed("preprocessor_config.json", feature_size=128), "wants sound in 80 bands"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.id)
def test_a_repository_that_cannot_be_served_says_why(bad: Bad, making: ModuleType, tmp_path: Path) -> None:
    bad.spoil(making.write_whisper(tmp_path))
    with pytest.raises(ModelError, match=bad.says):
        TransformersTranscriptions().load(ModelSpec("m", tmp_path), lambda _: None)


def test_a_language_that_the_model_has_no_token_for_is_refused(making: ModuleType, tmp_path: Path) -> None:
    """large-v3 brought Cantonese: those before it know none."""
    with loaded(making.write_whisper(tmp_path)) as engine, pytest.raises(EngineError, match="not 'yue'"):
        heard(engine, SpeechOptions(language="yue", task=Task.TRANSCRIBE))


def test_what_is_no_number_is_told_before_anything_is_drawn_of_it(making: ModuleType, tmp_path: Path) -> None:
    with loaded(making.write_whisper(tmp_path)) as engine:
        weight = engine._listener._loaded.model.model.decoder.layer_norm.weight
        weight.data.fill_(float("nan"))
        with pytest.raises(EngineError, match="computes what is no number"):
            heard(engine, SpeechOptions(language="en", temperature=1.0))


def test_windows_that_wait_together_are_decoded_together(making: ModuleType, tmp_path: Path) -> None:
    """The first one is held back until the three others wait: they are one batch."""
    with loaded(making.write_whisper(tmp_path)) as engine:
        decode, decoder = engine._listener._decode, engine._listener._decoder
        sizes: list[int] = []

        def held(decodings: Any) -> Any:
            if not sizes:
                wait_until(lambda: decode.waiting == 3, seconds=60, what="three wait", every=0.01)
            sizes.append(len(decodings))
            return decoder.decode(decodings)

        decode._compute, decode._at_once = held, 1
        texts: list[str] = []
        asking = [
            threading.Thread(target=lambda: texts.extend(each.text for each in heard(engine)))
            for _ in range(4)
        ]
        for each in asking:
            each.start()
        for each in asking:
            each.join(120)
    assert (sizes, texts) == ([1, 3], [" hello world"] * 4)


@pytest.mark.parametrize("seed", range(3))
def test_the_path_through_a_table_is_the_cheapest(making: ModuleType, seed: int) -> None:
    from transformers.models.whisper.generation_whisper import _dynamic_time_warping  # noqa: PLC0415 - see `making`

    from roundhouse_transformers.alignment import first_columns  # noqa: PLC0415

    table = np.random.default_rng(seed).random((7, 40))
    rows, columns = _dynamic_time_warping(table)
    assert first_columns(table) == [int(columns[rows == row].min()) for row in range(7)]
