"""Roundhouse's engine SDK: write `load` and `transcribe`, get a server that a cluster can run.

With `utterance` it listens while people speak, too.

Importing it needs the standard library alone; the server comes with the extra `roundhouse-engine[server]`.
"""

from roundhouse_engine.formats import Segment, Word
from roundhouse_engine.realtime_speech import RealtimeSpeech, Utterance
from roundhouse_engine.speech import (
    Cancellation,
    Cancelled,
    CancelStep,
    Isolation,
    ModelError,
    ModelSpec,
    Speech,
    SpeechOptions,
    Task,
    Window,
)

__all__ = [
    "CancelStep",
    "Cancellation",
    "Cancelled",
    "Isolation",
    "ModelError",
    "ModelSpec",
    "RealtimeSpeech",
    "Segment",
    "Speech",
    "SpeechOptions",
    "Task",
    "Utterance",
    "Window",
    "Word",
    "serve",
]


def serve(handler: type[Speech]) -> None:
    """Run the engine as the environment says, until SIGTERM has drained it. Does not return."""
    from roundhouse_engine.server import main  # noqa: PLC0415 - the server's dependencies are an extra

    main(handler)
