"""Roundhouse's engine SDK: write `load` and what the model does, get a server that a cluster can run.

`Speech` transcribes recordings and, as `RealtimeSpeech`, listens while people speak; `Chat`, `Embedding` and
`Rerank` work on texts, and `Music` makes music of them.

Importing it needs the standard library alone; the server comes with the extra `roundhouse-engine[server]`.
"""

from roundhouse_engine.formats import Segment, Word
from roundhouse_engine.handler import (
    Cancellation,
    Cancelled,
    CancelStep,
    Handler,
    Isolation,
    ModelError,
    ModelSpec,
)
from roundhouse_engine.music import Composition, Music, MusicOptions
from roundhouse_engine.realtime_speech import RealtimeSpeech, Utterance
from roundhouse_engine.speech import Speech, SpeechOptions, Task, Window
from roundhouse_engine.text import (
    Chat,
    Conversation,
    Embedding,
    Finish,
    FinishReason,
    Piece,
    Prompted,
    Rerank,
    TextOptions,
    ToolCall,
)

__all__ = [
    "CancelStep",
    "Cancellation",
    "Cancelled",
    "Chat",
    "Composition",
    "Conversation",
    "Embedding",
    "Finish",
    "FinishReason",
    "Handler",
    "Isolation",
    "ModelError",
    "ModelSpec",
    "Music",
    "MusicOptions",
    "Piece",
    "Prompted",
    "RealtimeSpeech",
    "Rerank",
    "Segment",
    "Speech",
    "SpeechOptions",
    "Task",
    "TextOptions",
    "ToolCall",
    "Utterance",
    "Window",
    "Word",
    "serve",
]


def serve(handler: type[Handler]) -> None:
    """Run the engine as the environment says, until SIGTERM has drained it. Does not return.

    A handler in processes is found by importing this call's file anew: there raises `HandlerError`.
    """
    from roundhouse_engine.authoring import check_process  # noqa: PLC0415 - who only imports it needs less

    check_process(handler)
    from roundhouse_engine.server import main  # noqa: PLC0415 - the server's dependencies are an extra

    main(handler)
