"""`python -m tests.bench.engines.libraries.faster_whisper MODEL PATH`: hears a file of 16 kHz mono samples.

As one recording, or as clips in the library's batched pipeline; a step is one window through the encoder.
Live, its own detector hears each piece, and once there is a second of speech what was said so far is guessed
at: the library has no other way, and those who make it listen do so.
"""

import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.engines.libraries import answer
from tests.bench.engines.speech import CLIP_SECONDS, CLIPS, RATE, pieces, spoken_live


def main(model: str, path: Path) -> None:
    import numpy as np  # noqa: PLC0415 - imports are part of the start
    from faster_whisper import BatchedInferencePipeline, WhisperModel  # noqa: PLC0415
    from faster_whisper.vad import get_speech_timestamps  # noqa: PLC0415

    from roundhouse_faster_whisper.hardware import choose_hardware  # noqa: PLC0415 - the same threads

    hardware = choose_hardware({"ROUNDHOUSE_DEVICE": "cpu"}, 1)
    whisper = WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=hardware.threads)
    samples = np.fromfile(path, "<i2").astype(np.float32) / 32768
    clips = [{"start": n * CLIP_SECONDS, "end": (n + 1) * CLIP_SECONDS} for n in range(CLIPS)]
    window = np.zeros((whisper.model.n_mels, 3000), np.float32)

    def call() -> str:
        return _text(whisper.transcribe(samples, language="en", vad_filter=True))

    def batch() -> str:
        pipeline = BatchedInferencePipeline(whisper)
        told: Any = {"clip_timestamps": clips, "batch_size": CLIPS, "without_timestamps": False}
        return _text(pipeline.transcribe(samples, language="en", **told))

    def step() -> None:
        whisper.encode(window)

    def live() -> float:
        heard = np.empty(0, np.float32)
        began = time.monotonic()
        for at, piece in pieces(spoken_live()):
            time.sleep(max(began + at - time.monotonic(), 0))
            heard = np.append(heard, np.frombuffer(piece, "<i2").astype(np.float32) / 32768)
            said = get_speech_timestamps(heard)
            if said and len(heard) - said[0]["start"] >= RATE and guess(heard[said[0]["start"] :]):
                return time.monotonic() - began
        raise AssertionError("nothing was heard")

    def guess(heard: Any) -> str:
        hasty: Any = {"beam_size": 1, "temperature": 0.0, "without_timestamps": True}
        return _text(whisper.transcribe(heard, language="en", condition_on_previous_text=False, **hasty))

    answer({"call": call, "batch": batch, "step": step, "live": live})


def _text(found: Any) -> str:
    return "".join(segment.text for segment in found[0])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
