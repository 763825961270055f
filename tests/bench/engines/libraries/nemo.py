"""`python -m tests.bench.engines.libraries.nemo MODEL PATH STREAM`: hears a file of 16 kHz mono samples.

A step is one window through the encoder. Live, what was said so far is transcribed anew with each second of
it; with the model STREAM, which is made for that, by the library's own step of a stream.
"""

import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.engines.libraries import answer
from tests.bench.engines.speech import (
    CLIPS,
    LEAD_SECONDS,
    RATE,
    WINDOW_SECONDS,
    learnt_live,
    pieces,
    spoken_live,
)

_HOP: int = RATE // 100
_REACH_FRAMES = 3
"""Of the last features, whose windows go on beyond the sound that is there."""


def main(model: Path, path: Path, stream: Path) -> None:
    import logging  # noqa: PLC0415 - imports are part of the start
    import os  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from nemo.collections.asr.models import ASRModel  # noqa: PLC0415

    logging.getLogger("nemo_logger").setLevel(logging.ERROR)
    from roundhouse_nemo.settings import read_settings  # noqa: PLC0415 - the same threads

    torch.set_num_threads(read_settings(os.environ).threads)
    listener, streamer = (
        ASRModel.restore_from(str(next(folder.glob("*.nemo"))), map_location="cpu").eval()
        for folder in (model, stream)
    )
    streamer.encoder.set_default_att_context_size([70, 1])  # as the engine is told: 160 ms
    samples = np.fromfile(path, "<i2").astype(np.float32) / 32768

    def call() -> str:
        (found,) = listener.transcribe([samples], batch_size=1, timestamps=True, verbose=False)
        return str(found.text)

    clips = np.split(samples, CLIPS)

    def batch() -> list[str]:
        found = listener.transcribe(clips, batch_size=CLIPS, timestamps=True, verbose=False)
        return [str(each.text) for each in found]

    window = np.resize(samples, round(WINDOW_SECONDS * RATE))

    def step() -> None:
        signal = torch.from_numpy(window)[None]
        with torch.inference_mode():
            features, count = listener.preprocessor(
                input_signal=signal, length=torch.tensor([signal.shape[1]])
            )
            listener.encoder(audio_signal=features, length=count)

    def live() -> float:
        return first_seconds(spoken_live(), _anew(listener))

    def streamed() -> float:
        with torch.inference_mode():
            return first_seconds(learnt_live(), _Streaming(streamer))

    answer({"call": call, "batch": batch, "step": step, "live": live, "stream": streamed})


def first_seconds(samples: bytes, hear: Any) -> float:
    """Until `hear` has words, which is called with all samples from shortly before the speech on."""
    import numpy as np  # noqa: PLC0415 - see `main`

    heard, lead = b"", round(LEAD_SECONDS * RATE) * 2
    began = time.monotonic()
    for at, piece in pieces(samples):
        time.sleep(max(began + at - time.monotonic(), 0))
        heard = heard + piece if any(heard) or any(piece) else (heard + piece)[-lead:]
        if any(heard) and hear(np.frombuffer(heard, "<i2").astype(np.float32) / 32768):
            return time.monotonic() - began
    raise AssertionError("nothing was heard")


def _anew(listener: Any) -> Any:
    def hear(heard: Any) -> bool:
        if len(heard) < RATE:
            return False
        (found,) = listener.transcribe([heard], batch_size=1, timestamps=False, verbose=False)
        return bool(found.text)

    return hear


class _Streaming:
    """The library's step over what is new, its buffer fed with the features that are final."""

    def __init__(self, streamer: Any) -> None:
        from nemo.collections.asr.parts.utils.streaming_utils import (  # noqa: PLC0415 - see `main`
            CacheAwareStreamingAudioBuffer,
        )

        self._streamer = streamer
        streamer.encoder.setup_streaming_params()
        self._config = streamer.encoder.streaming_cfg
        self._buffer = CacheAwareStreamingAudioBuffer(model=streamer)
        self._cache = streamer.encoder.get_initial_cache_state(batch_size=1)
        self._known = 0
        self._said: Any = None

    def __call__(self, heard: Any) -> bool:
        final = len(heard) // _HOP - _REACH_FRAMES
        if final > self._known:
            features, _ = self._buffer.preprocess_audio(heard)
            self._buffer.append_processed_signal(
                features[:, :, self._known : final], -1 if self._known == 0 else 0
            )
            self._known = final
        while self._known - self._buffer.buffer_idx >= self._config.chunk_size[self._buffer.step > 0]:
            self._step()
        return bool(self._said and self._said[0].text)

    def _step(self) -> None:
        first = self._buffer.step == 0
        piece, length = next(iter(self._buffer))
        _, _, *cache, self._said = self._streamer.conformer_stream_step(
            processed_signal=piece,
            processed_signal_length=length,
            cache_last_channel=self._cache[0],
            cache_last_time=self._cache[1],
            cache_last_channel_len=self._cache[2],
            keep_all_outputs=False,
            previous_hypotheses=self._said,
            drop_extra_pre_encoded=0 if first else self._config.drop_extra_pre_encoded,
        )
        self._cache = cache


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
