"""A loaded model: hears recordings in batches, in two steps, and says words with their times.

NeMo's own `transcribe` makes a data loader for each call and cannot be stopped; here its parts are called one
after the other, on samples in memory. Requests that wait at the same time take a step together.
"""

import gc
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from roundhouse_engine import Cancellation, SpeechOptions, Task, Window, Word
from roundhouse_engine.errors import invalid, memory_is_short, no_memory_left
from roundhouse_engine.together import Together
from roundhouse_engine.torch_memory import vram_bytes
from roundhouse_nemo.heard import Heard, check_language
from roundhouse_nemo.restore import RATE
from roundhouse_nemo.settings import Settings

MOST: Final = 8
"""Windows in one batch."""
SHORTEST_SAMPLES: Final = RATE // 2
"""What is shorter is followed by silence: an encoder wants a few frames, and a loudness to level."""
_LONGEST_SECONDS: Final = 60
_LOOKS: Final = 20
_LOOK_AGAIN_SECONDS: Final = 0.1


class Hearing:
    """For all requests of a model. `frame_seconds`: how long one frame of the encoder's is."""

    pause_seconds: ClassVar[float] = 2.0
    """What ends a window. Each reads all weights: phrases go together, and their words' times part them."""

    def __init__(self, name: str, model: Any, settings: Settings) -> None:  # noqa: ANN401 - NeMo has no types
        self.name = name
        self.model = model
        self.device = model.device
        self.ahead = MOST if self.device.type == "cuda" else 1
        """Windows of one recording that are heard at a time."""
        self.frame_seconds = float(model.cfg.preprocessor.window_stride) * model.encoder.subsampling_factor
        self._language = settings.language
        self._dtype = _dtype(settings, self.device.type)
        self._turn = threading.Lock()
        self._stream_turn = threading.Lock()
        self._encode = Together[torch.Tensor, torch.Tensor](self._encode_all, most=MOST, at_once=1)
        self._decode = Together[torch.Tensor, Heard](self._decode_all, most=MOST, at_once=1)
        # Else the first long recording makes tables of places anew, while others read them.
        frames = int(_LONGEST_SECONDS / float(model.cfg.preprocessor.window_stride))
        if hasattr(model.encoder, "set_max_audio_length"):
            model.encoder.set_max_audio_length(frames)

    def check(self, options: SpeechOptions) -> None:
        """Raise `EngineError` for what the model cannot do."""
        check_language(self.name, self._language, options.language)
        if options.task is Task.TRANSLATE:
            raise invalid(
                f"The model {self.name!r} does not translate. Ask for its own language at "
                "/v1/audio/transcriptions.",
                param="model",
                code="unsupported_value",
            )

    def warm_up(self) -> None:
        """The first call takes longer than others."""
        self.hear(bytes(RATE * 2), SpeechOptions(), Cancellation())

    def hear(self, samples: bytes, options: SpeechOptions, cancellation: Cancellation) -> Heard:
        """What 16-bit samples say; raises `Cancelled`, and `EngineError` where memory is short."""
        del options  # which these models know nothing of
        return self.decode(self.encode(samples, cancellation), cancellation)

    def awaited(self, windows: Iterator[Window]) -> Iterator[Window]:
        """The windows; while one is cut those of others wait for it, to be encoded together."""
        while True:
            with self._encode.coming():
                window = next(windows, None)
            if window is None:
                return
            yield window

    def encode(self, samples: bytes, cancellation: Cancellation) -> torch.Tensor:
        """[frames, features]"""
        sound = as_sound(samples)
        # Of about one length, so that a word does not wait for half a minute that it is padded to.
        return self._encode(sound, len(sound).bit_length(), cancellation)

    def decode(self, encoded: torch.Tensor, cancellation: Cancellation) -> Heard:
        """`encoded` is of (frames, features)."""
        cancellation.check()
        return self._decode(encoded, len(encoded).bit_length(), cancellation)

    def vram_bytes(self) -> int | None:
        """The most GPU memory that it held at once; None on a CPU."""
        return vram_bytes(self.model, self.device.type)

    def free(self) -> None:
        """Give the memory back now. Not for an event loop: it looks through all objects there are."""
        there = weakref.ref(self.model)
        self.model = None
        for _ in range(_LOOKS):
            gc.collect()  # NeMo's parts hold each other, and nobody knows when Python would look for such
            if there() is None:
                break
            time.sleep(_LOOK_AGAIN_SECONDS)  # another thread looks just now, and Python lets one look at once
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # which torch would keep for the next model

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Around a step of a stream: the encoder's settings change within one."""
        with self._stream_turn, self.computing():
            yield

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Around all that computes with the model, in whatever thread."""
        try:
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, dtype=self._dtype, enabled=self._dtype is not torch.float32),
            ):
                yield
        except Exception as error:
            if memory_is_short(error):
                raise no_memory_left() from error
            raise

    def _encode_all(self, sounds: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        with self.computing():
            signal = pad_sequence(list(sounds), batch_first=True).to(self.device)
            lengths = torch.tensor([len(sound) for sound in sounds], device=self.device)
            features, lengths = self.model.preprocessor(input_signal=signal, length=lengths)
            encoded, lengths = self.model.encoder(audio_signal=features, length=lengths)
            return [each[:, :length].T for each, length in zip(encoded, lengths.tolist(), strict=True)]

    def _decode_all(self, parts: Sequence[torch.Tensor]) -> Sequence[Heard]:
        with self._turn, self.computing():
            encoded = pad_sequence(list(parts), batch_first=True).transpose(1, 2)
            lengths = torch.tensor([len(part) for part in parts], device=self.device)
            return [self._heard(each) for each in self.hypotheses(encoded, lengths)]

    def hypotheses(self, encoded: torch.Tensor, lengths: torch.Tensor) -> list[Any]:
        """NeMo's own, of (batch, features, frames)."""
        decoding = self.model.decoding
        if hasattr(self.model, "joint"):
            found: list[Any] = decoding.rnnt_decoder_predictions_tensor(
                encoder_output=encoded, encoded_lengths=lengths, return_hypotheses=True
            )
        else:
            found = decoding.ctc_decoder_predictions_tensor(
                self.model.decoder(encoder_output=encoded), decoder_lengths=lengths, return_hypotheses=True
            )
        return found

    def _heard(self, hypothesis: Any) -> Heard:  # noqa: ANN401
        said = hypothesis.timestamp.get("word", ()) if isinstance(hypothesis.timestamp, dict) else ()
        words: list[Word] = []
        at = 0.0
        for each in said:
            if text := str(each["word"]).strip():  # a blank may come alone
                start = max(float(each["start_offset"]) * self.frame_seconds, at)
                at = max(float(each["end_offset"]) * self.frame_seconds, start)
                words.append(Word(text, start, at))
        return Heard(" ".join(hypothesis.text.split()), tuple(words), language=self._language)


def as_sound(samples: bytes, shortest: int = SHORTEST_SAMPLES) -> torch.Tensor:
    """16-bit samples as numbers from -1 to 1, and silence up to the shortest length."""
    sound = np.zeros(max(len(samples) // 2, shortest), np.float32)
    sound[: len(samples) // 2] = np.frombuffer(samples, "<i2").astype(np.float32) / np.float32(32768)
    return torch.from_numpy(sound)


def _dtype(settings: Settings, device: str) -> torch.dtype:
    name = settings.dtype if settings.dtype != "auto" else ("bfloat16" if device == "cuda" else "float32")
    found: torch.dtype = getattr(torch, name)
    return found
