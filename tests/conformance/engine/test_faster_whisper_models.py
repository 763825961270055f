"""What faster-whisper says of a directory that it cannot serve, and how it divides its work into steps."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
from faster_whisper.audio import decode_audio
from numpy.typing import NDArray

from roundhouse_engine import Cancellation, Cancelled, ModelError, ModelSpec, SpeechOptions, Window
from roundhouse_engine.audio import decode
from roundhouse_engine.cores import within_quota
from roundhouse_engine.errors import EngineError
from roundhouse_faster_whisper.handler import FasterWhisper
from roundhouse_faster_whisper.hardware import choose_hardware
from roundhouse_faster_whisper.weights import open_model
from tests.conformance.engine.running import FASTER_WHISPER, running
from tests.conformance.engine.streaming import go_forward_samples
from tests.support.recordings import go_forward
from tests.support.whisper import Whisper, make_tokenizer, make_whisper
from tests.unit.engine.encoding import encode

RATE = 16_000
CPU = choose_hardware({"ROUNDHOUSE_DEVICE": "cpu"}, 1)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whisper(tmp_path_factory.mktemp("good"))


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def halve(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return spoil


def of_transformers(folder: Path) -> None:
    for name in ("model.bin", "vocabulary.json"):
        (folder / name).unlink()
    (folder / "model.safetensors").write_bytes(b"")


def scribble(folder: Path) -> None:
    (folder / "model.bin").write_bytes(b"x" * 999)


def of_another_kind(folder: Path) -> None:
    data = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(data.replace(b"WhisperSpec", b"SpeakerSpec"))


def forget_all_words(folder: Path) -> None:
    (folder / "vocabulary.json").write_text("[]")


def forget_a_mark(folder: Path) -> None:
    known = make_tokenizer(Whisper()).to_str()
    (folder / "tokenizer.json").write_text(known.replace("<|notimestamps|>", "<|yue|>"))


def as_lines(folder: Path) -> None:
    """As older converters write it."""
    words = json.loads((folder / "vocabulary.json").read_bytes())
    (folder / "vocabulary.json").unlink()
    (folder / "vocabulary.txt").write_text("\n".join(words))


def as_the_lines_of_another(folder: Path) -> None:
    as_lines(folder)
    lines = (folder / "vocabulary.txt").read_text()
    (folder / "vocabulary.txt").write_text(f"a word more\n{lines}")


@dataclass(frozen=True)
class Bad:
    id: str
    spoil: Callable[[Path], None]
    says: str


BAD = [
    Bad("no directory", shutil.rmtree, "is no directory"),
    Bad("no weights", remove("model.bin"), "model.bin is missing"),
    Bad("no tokenizer", remove("tokenizer.json"), "tokenizer.json is missing"),
    Bad("no vocabulary", remove("vocabulary.json"), "cannot be opened .*vocabulary"),
    Bad("an empty vocabulary", forget_all_words, r"vocabulary\.json' .* number for <.startoftranscript"),
    Bad("words of another", as_the_lines_of_another, r"vocabulary\.txt' and .*not of one Whisper model"),
    Bad("a tokenizer of another", forget_a_mark, r"vocabulary\.json' and .*number for <.notimestamps"),
    Bad("half of the weights", halve("model.bin"), "cannot be opened .*damaged"),
    Bad("half of the tokenizer", halve("tokenizer.json"), r"tokenizer\.json' cannot be read"),
    Bad("weights of transformers", of_transformers, "'model.safetensors', weights of another kind"),
    Bad("a model of another kind", of_another_kind, "no Whisper model"),
    Bad("no weights but their name", scribble, "damaged"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.id)
def test_a_directory_that_cannot_be_served_says_why(bad: Bad, good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    bad.spoil(folder)
    with pytest.raises(ModelError, match=bad.says):
        open_model(folder, CPU, lambda _: None)


def test_a_vocabulary_in_lines_is_read_as_well(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "model")
    as_lines(tmp_path / "model")
    assert open_model(tmp_path / "model", CPU, lambda _: None).model.is_multilingual


def test_sound_in_too_few_bands_is_told_before_anybody_asks(tmp_path: Path) -> None:
    """Without the file the library takes 80 bands, and fails with the first recording."""
    folder = make_whisper(tmp_path / "model", Whisper(mels=128))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="wants sound in 128 bands"):
        open_model(folder, CPU, lambda _: None)


def test_an_engine_without_a_path_or_with_a_bad_model_ends_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="this image brings no weights"):
        FasterWhisper.accept(ModelSpec("m"))
    models = f'[{{"name": "m", "path": "{tmp_path}", "source": {{"type": "HuggingFace"}}}}]'
    with running(FASTER_WHISPER, tmp_path, ROUNDHOUSE_MODELS=models, ROUNDHOUSE_DEVICE="cpu") as engine:
        assert engine.ended() == 1
        assert "model.bin, config.json, tokenizer.json is missing" in engine.logged.splitlines()[-1]


def test_progress_is_told_while_weights_are_read(good: Path) -> None:
    told: list[float] = []
    open_model(good, CPU, told.append)
    assert told == sorted(told)
    assert 0 < told[-1] <= 1


LIMITS = [
    (8, "", 8),
    (8, "max 100000", 8),
    (8, "200000 100000", 2),
    (8, "500 1000", 1),
    (2, "9000 100", 2),
]


@pytest.mark.parametrize(("seen", "quota", "cores"), LIMITS)
def test_threads_are_as_many_as_the_container_may_use(seen: int, quota: str, cores: int) -> None:
    assert within_quota(seen, quota) == cores


def test_hardware_that_is_not_here_is_told() -> None:
    chosen = choose_hardware({"ROUNDHOUSE_DEVICE": "cpu"}, 4)
    assert (chosen.device, chosen.compute_type) == ("cpu", "int8")
    told = {"ROUNDHOUSE_COMPUTE_TYPE": "FLOAT32", "ROUNDHOUSE_DEVICE": "CPU", "OMP_NUM_THREADS": "3"}
    chosen = choose_hardware(told, 4)
    assert (chosen.compute_type, chosen.threads) == ("float32", 3)
    with pytest.raises(ModelError, match="must be one of auto, cpu, cuda, not 'tpu'"):
        choose_hardware({"ROUNDHOUSE_DEVICE": "tpu"}, 1)
    with pytest.raises(ModelError, match="must be one of auto, int8, "):
        choose_hardware({"ROUNDHOUSE_COMPUTE_TYPE": "int3"}, 1)


@pytest.mark.parametrize(("gpus", "chosen"), [(0, ("cpu", "int8")), (1, ("cuda", "float16"))])
def test_what_it_computes_on_and_with_follows_from_what_is_there(
    gpus: int, chosen: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"cpu": {"int8", "float32"}, "cuda": {"int8", "float16", "float32"}}
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: gpus)
    monkeypatch.setattr(ctranslate2, "get_supported_compute_types", known.get)
    found = choose_hardware({}, 4)
    assert (found.device, found.compute_type) == chosen


def test_a_request_that_is_gone_begins_no_further_step(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_DEVICE", "cpu")
    engine = FasterWhisper()
    engine.load(ModelSpec("m", good), lambda _: None)
    cancellation = Cancellation()
    read = []

    def windows() -> Iterator[Window]:
        for number in range(3):
            read.append(number)
            yield Window(0.0, go_forward_samples(), RATE)

    segments = iter(engine.transcribe(windows(), SpeechOptions(), cancellation))
    next(segments)
    cancellation.cancel()
    with pytest.raises(Cancelled):
        next(segments)
    assert read == [0, 1]
    engine.unload()


class _Listening:
    """The model, and the features that it was given to encode."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.heard: list[NDArray[np.float32]] = []

    def encode(self, sound: Any, **told: object) -> Any:
        self.heard.append(np.array(sound)[0])
        return self._model.encode(sound, **told)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


@pytest.mark.parametrize(
    "written",
    [
        ("wav", "pcm_s16le", 16_000, "mono"),
        ("wav", "pcm_f32le", 96_000, "stereo"),
        ("wav", "pcm_mulaw", 16_000, "mono"),
        ("ogg", "libopus", 48_000, "stereo"),
        ("mp3", "libmp3lame", 44_100, "stereo"),
    ],
)
def test_the_encoder_hears_what_it_hears_in_the_librarys_hands(
    good: Path, monkeypatch: pytest.MonkeyPatch, written: tuple[str, str, int, str]
) -> None:
    """The model of these tests is deaf, and would say the same of anything."""
    monkeypatch.setenv("ROUNDHOUSE_DEVICE", "cpu")
    engine = FasterWhisper()
    engine.load(ModelSpec("m", good), lambda _: None)
    engine._steps.whisper = spy = _Listening(engine._steps.whisper)
    container, codec, rate, layout = written
    recording = encode(go_forward(), container, codec, rate=rate, layout=layout)
    cancellation = Cancellation()
    (window,) = engine.windows(decode(io.BytesIO(recording), RATE, 60, cancellation), cancellation)
    assert list(engine.transcribe(iter([window]), SpeechOptions(), cancellation))
    start, length = round(window.start * RATE), len(window.samples) // 2
    sound = decode_audio(io.BytesIO(recording), sampling_rate=RATE)[start : start + length]
    wanted = engine._steps.model.feature_extractor(sound)
    frames = length // 160 - 1  # the last one reaches over the end
    heard = spy.heard[0][:, :frames]
    assert np.corrcoef(heard.ravel(), wanted[:, :frames].ravel())[0, 1] > 0.99
    assert float(np.mean(np.abs(heard - wanted[:, :frames]))) < 0.03
    engine.unload()


def test_a_gpu_is_warm_before_anybody_asks(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_DEVICE", "cpu")
    engine = FasterWhisper()
    engine.load(ModelSpec("m", good), lambda _: None)
    engine._steps.whisper = spy = _Listening(engine._steps.whisper)
    engine.warm_up()
    assert spy.heard == [], "a CPU gains nothing by it"
    engine._gpu = True
    engine.warm_up()
    assert spy.heard
    engine.unload()


@pytest.mark.parametrize("step", ["encode", "generate", "align"])
def test_a_gpu_that_has_no_memory_left_fails_the_request_alone(
    good: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_DEVICE", "cpu")
    engine = FasterWhisper()
    engine.load(ModelSpec("m", good), lambda _: None)
    whole, options = engine._steps.whisper, SpeechOptions(words=True)
    window = Window(0.0, go_forward_samples(), RATE)
    engine._steps.whisper = _Short(whole, step)
    with pytest.raises(EngineError) as refusal:
        list(engine.transcribe(iter([window]), options, Cancellation()))
    assert (refusal.value.problem.status, refusal.value.problem.code) == (503, "out_of_memory")
    engine._steps.whisper = whole
    assert list(engine.transcribe(iter([window]), options, Cancellation()))
    engine.unload()


class _Short:
    """The model, where one step finds no memory, in CTranslate2's words."""

    def __init__(self, model: Any, step: str) -> None:
        self._model = model
        self._step = step

    def __getattr__(self, name: str) -> Any:
        if name != self._step:
            return getattr(self._model, name)

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("CUDA failed with error out of memory")

        return fail


def test_windows_side_by_side_as_on_a_gpu_say_the_same_in_order(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_DEVICE", "cpu")
    engine = FasterWhisper()
    engine.load(ModelSpec("m", good), lambda _: None)
    assert engine._steps.ahead == 1, "a CPU has no more to give"
    found = []
    for engine._steps.ahead in (1, 3):
        windows = (Window(10.0 * number, go_forward_samples(), RATE) for number in range(7))
        found.append(list(engine.transcribe(windows, SpeechOptions(words=True), Cancellation())))
    assert found[0] == found[1]
    assert [segment.start for segment in found[0]] == sorted(segment.start for segment in found[0])
    assert {segment.start // 10 for segment in found[0]} == set(range(7))
    engine.unload()
