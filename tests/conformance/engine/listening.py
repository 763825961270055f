"""Whisper by transformers in this process, where a test looks at what no request tells."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from roundhouse_engine import Cancellation, ModelSpec, Segment, SpeechOptions, Window
from roundhouse_transformers.speech import TransformersTranscriptions
from tests.conformance.engine.streaming import go_forward_samples

RATE = 16_000
BEGINS = 3.0
"""Where in its recording the window is that is heard, in seconds."""
CLIP_SECONDS = len(go_forward_samples()) / 2 / RATE


@contextmanager
def loaded(path: Path, **source: Any) -> Iterator[TransformersTranscriptions]:
    """On one thread: two that wait for each other take long on a busy machine. Prepare torch before."""
    import torch  # noqa: PLC0415 - it is prepared first

    threads = torch.get_num_threads()
    engine = TransformersTranscriptions()
    engine.load(ModelSpec("m", path, source or {"type": "HuggingFace"}), lambda _: None)
    torch.set_num_threads(1)
    try:
        yield engine
    finally:
        torch.set_num_threads(threads)
        engine.unload()


def heard(
    engine: TransformersTranscriptions,
    options: SpeechOptions | None = None,
    *,
    times: int = 1,
    cancellation: Cancellation | None = None,
) -> list[Segment]:
    """One window, of a clip that is said so many times."""
    window = Window(BEGINS, go_forward_samples() * times, RATE)
    return list(engine.transcribe(iter([window]), options or SpeechOptions(), cancellation or Cancellation()))
