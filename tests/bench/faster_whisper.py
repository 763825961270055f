"""faster-whisper as anyone would call it: what the engine over HTTP is held against.

`python -m tests.bench.faster_whisper MODEL PATH`: says `ready`, then transcribes the file of 16 kHz mono
samples for each line that it reads, as one recording or, for the line `batch`, as so many clips in the
library's batched pipeline; answers with the seconds that took and the words.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any, Final

CLIPS: Final = 8
CLIP_SECONDS: Final = 2.5


def _serve(model: str, path: Path) -> None:
    import numpy as np  # noqa: PLC0415 - imports are part of the start
    from faster_whisper import BatchedInferencePipeline, WhisperModel  # noqa: PLC0415

    from roundhouse_faster_whisper.hardware import choose_hardware  # noqa: PLC0415 - the same threads

    hardware = choose_hardware({"ROUNDHOUSE_DEVICE": "cpu"}, 1)
    whisper = WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=hardware.threads)
    samples = np.fromfile(path, "<i2").astype(np.float32) / 32768
    clips = [{"start": n * CLIP_SECONDS, "end": (n + 1) * CLIP_SECONDS} for n in range(CLIPS)]
    print("ready", flush=True)
    for order in sys.stdin:
        began = time.monotonic()
        found: Any
        if order.strip() == "batch":
            found, _ = BatchedInferencePipeline(whisper).transcribe(
                samples, language="en", clip_timestamps=clips, batch_size=CLIPS, without_timestamps=False
            )
        else:
            found, _ = whisper.transcribe(samples, language="en", vad_filter=True)
        text = "".join(segment.text for segment in found)
        print(json.dumps([time.monotonic() - began, text]), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]))
