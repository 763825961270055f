"""What Whisper by transformers is given to hear: what it would be in the library's own hands.

Models that say known words are deaf, and would say the same of noise.
"""

import io
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from faster_whisper.audio import decode_audio
from numpy.typing import NDArray
from typing_extensions import override

from roundhouse_engine import Cancellation, SpeechOptions, Window
from roundhouse_engine.audio import decode
from roundhouse_transformers.speech import TransformersTranscriptions
from tests.conformance.engine.listening import RATE, loaded
from tests.conformance.engine.running import Engine
from tests.conformance.engine.streaming import go_forward_samples
from tests.conformance.engine.test_transformers import serving
from tests.support.recordings import go_forward
from tests.unit.engine.encoding import encode

TOKENS = 8
PLAIN = 0.2
"""So much better than any other is a token that no rounding takes for another one."""


@pytest.fixture(scope="module")
def untaught(making: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = making.write_untaught(tmp_path_factory.mktemp("untaught") / "m")
    return path


@pytest.fixture(scope="module")
def engine(untaught: Path) -> Iterator[Engine]:
    with serving("transcriptions", untaught.parent, m=untaught) as engine:
        yield engine


def floats(samples: bytes, kind: str = "<i2") -> NDArray[np.float32]:
    return np.frombuffer(samples, kind).astype(np.float32) / np.float32(32768)


def by_the_library(path: Path, samples: NDArray[np.float32]) -> list[int]:
    """The likeliest tokens of a text without time stamps, as long as they are plainly the likeliest."""
    import torch  # noqa: PLC0415 - see `making`
    import transformers  # noqa: PLC0415

    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(path).eval()
    opening = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    written = tokenizer.convert_tokens_to_ids(opening)
    end, untimed = tokenizer.convert_tokens_to_ids("<|endoftext|>"), written[-1]
    features = transformers.WhisperFeatureExtractor()(samples, sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        for place in range(TOKENS):
            scores = model(**features, decoder_input_ids=torch.tensor([written])).logits[0, -1]
            scores[end + (place > 0) : untimed + 1] = -torch.inf
            best = scores.topk(2)
            if float(best.values[0] - best.values[1]) < PLAIN:
                break
            written.append(int(best.indices[0]))
    return [token for token in written[len(opening) :] if token < end]


@pytest.mark.req("S2-20")
def test_it_writes_of_a_recording_what_the_library_writes(engine: Engine, untaught: Path) -> None:
    samples = go_forward_samples()
    (window,) = TransformersTranscriptions().windows(iter([samples]), Cancellation())
    wanted = by_the_library(untaught, floats(window.samples))
    assert len(set(wanted)) > 2
    assert by_the_library(untaught, floats(window.samples, ">i2"))[:2] != wanted[:2], "it is not deaf"
    told = {"language": "en", "response_format": "verbose_json", "temperature": "0.0001"}
    for recording in (go_forward(), encode(go_forward(), "flac", "flac", rate=RATE)):
        answer = engine.post(recording, **told)
        assert answer.status == 200, answer.body
        found = [token for segment in answer.json["segments"] for token in segment["tokens"]]
        assert found[: len(wanted)] == wanted


@pytest.mark.parametrize(
    "written",
    [
        ("wav", "pcm_s16le", 16_000, "mono"),
        ("wav", "pcm_s16le", 8_000, "mono"),
        ("wav", "pcm_f32le", 96_000, "stereo"),
        ("ogg", "libopus", 48_000, "stereo"),
        ("mp3", "libmp3lame", 44_100, "stereo"),
    ],
    ids=lambda written: f"{written[1]} {written[2]} {written[3]}",
)
def test_the_encoder_hears_what_it_hears_in_the_librarys_hands(
    untaught: Path, written: tuple[str, str, int, str]
) -> None:
    """Which resamples by other filters, so what is heard is alike and not the same."""
    import transformers  # noqa: PLC0415 - see `making`

    container, codec, rate, layout = written
    recording = encode(go_forward(), container, codec, rate=rate, layout=layout)
    cancellation = Cancellation()
    heard: list[Any] = []
    with loaded(untaught) as whisper:
        together = whisper._listener._sounds._together
        encoded = together._compute

        def listening(sounds: Sequence[Any]) -> Any:
            heard.extend(sounds)
            return encoded(sounds)

        together._compute = listening
        windows = whisper.windows(decode(io.BytesIO(recording), RATE, 60, cancellation), cancellation)
        window = next(windows)
        list(whisper.transcribe(iter([window]), SpeechOptions(language="en", temperature=1e-4), cancellation))
    compared(window, heard[0].numpy(), decode_audio(io.BytesIO(recording), sampling_rate=RATE), transformers)


def test_a_gpu_is_warm_before_anybody_asks(untaught: Path) -> None:
    with loaded(untaught) as whisper:
        listener = whisper._listener
        parts = listener._loaded.model.model
        called: list[Any] = []
        for part in (parts.encoder, parts.decoder):
            part.register_forward_hook(lambda part, *_: called.append(part))
        whisper.warm_up()
        assert called == [], "a CPU gains nothing by it"
        listener._device = "cuda"  # of what it computes on it knows otherwise
        whisper.warm_up()
        assert {parts.encoder, parts.decoder} <= set(called)


def test_times_of_words_take_the_memory_of_one_head(untaught: Path) -> None:
    """Where a fine-tune names none, hundreds are asked."""
    import torch  # noqa: PLC0415 - see `making`
    from torch.utils._python_dispatch import TorchDispatchMode  # noqa: PLC0415

    class Held(TorchDispatchMode):  # type: ignore[misc]  # torch says nothing of it
        def __init__(self) -> None:
            super().__init__()
            self.tensors: list[weakref.ref[Any]] = []
            self.most = 0

        @override
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            made = found if isinstance(found, tuple | list) else [found]
            self.tensors += [weakref.ref(each) for each in made if isinstance(each, torch.Tensor)]
            alive = {id(each): each for ref in self.tensors if (each := ref()) is not None}.values()
            self.most = max(self.most, sum(each.nbytes for each in alive))
            return found

    found = []
    with loaded(untaught) as whisper:
        aligner = whisper._listener._aligner
        sound = torch.randn(1500, whisper._listener._loaded.model.config.d_model)
        heads = aligner._heads
        for aligner._heads in (heads, heads * 16):
            with Held() as held:
                times = aligner.times(sound, [1, 2, 3], list(range(40)), 30.0)
            found.append((times, held.most))
    assert found[0] == found[1]


def compared(
    window: Window, heard: NDArray[np.float32], sound: NDArray[np.float32], transformers: ModuleType
) -> None:
    start, length = round(window.start * RATE), len(window.samples) // 2
    extract = transformers.WhisperFeatureExtractor()
    (features,) = extract(sound[start : start + length], sampling_rate=RATE, return_tensors="np")[
        "input_features"
    ]
    frames = length // 160 - 1  # the last one reaches over the end
    wanted, heard = features[:, :frames], heard[:, :frames]
    assert np.corrcoef(heard.ravel(), wanted.ravel())[0, 1] > 0.99
    assert float(np.mean(np.abs(heard - wanted))) < 0.03
