"""The protocol that a speech engine implements, and the plain data that it is given.

One class, two methods. Everything around them (HTTP, uploads, decoding, windows, formats, admission,
cancellation, drain) is the SDK's. Standard library alone, so that a handler can be read and tested without
the server.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from roundhouse_engine.formats import Segment


class Isolation(StrEnum):
    """Where a handler runs: a thread of the server, or child processes of its own.

    A library that holds Python's global lock while it computes stops every other thread, health checks
    included: such a handler must run in processes.
    """

    THREAD = "thread"
    PROCESS = "process"


class Task(StrEnum):
    """What is made of the speech: its own words, or theirs in English."""

    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


class CancelStep(StrEnum):
    """How long a handler goes on after its request was cancelled, at most."""

    TOKEN = "token"  # noqa: S105 - a piece of text, no secret
    FRAME = "frame"
    WINDOW = "window"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model to serve: an entry of `ROUNDHOUSE_MODELS`.

    `name` is what requests say, `path` the directory that holds the weights (None where the image brings
    them), `source` where they came from (`{"type": "Builtin"}`), `variant` the resource that asked for it.
    """

    name: str
    path: Path | None = None
    source: Mapping[str, Any] = field(default_factory=lambda: {"type": "Builtin"})
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """What the client asked for, checked. `language` is a code from the declared ones; None: find out.

    `prompt` and `hotwords` (separated by commas) say what may come: a handler that cannot use them goes on
    without.
    """

    language: str | None = None
    prompt: str = ""
    hotwords: str = ""
    temperature: float = 0.0
    words: bool = False
    speakers: bool = False
    task: Task = Task.TRANSCRIBE


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of the recording that holds speech: mono, 16-bit little-endian, at the handler's sample rate.

    `start` is its place in the recording, in seconds: add it to every time within the window.
    """

    start: float
    samples: bytes
    sample_rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / 2 / self.sample_rate


class ModelError(Exception):
    """A model cannot be served by this engine; the message names the entry, the fault and the remedy."""


class Cancelled(Exception):  # noqa: N818 - no fault, so not an Error
    """The request was cancelled; raised by `Cancellation.check` and let through by handlers."""


class Cancellation:
    """Tells a computation that nobody waits for it any more."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raise `Cancelled` if the request is gone. Call it between steps of the computation."""
        if self._event.is_set():
            raise Cancelled


class Speech(ABC):
    """Turns speech into text. The server makes one instance a model (and, isolated, one a process)."""

    isolation: ClassVar[Isolation] = Isolation.THREAD
    thread_safe: ClassVar[bool] = False
    """Whether `transcribe` may run in several threads of one instance at once."""
    capacity: ClassVar[int] = 1
    """Requests computed at once, where `ROUNDHOUSE_CAPACITY` says nothing."""
    cancel_step: ClassVar[CancelStep] = CancelStep.WINDOW
    cancel_seconds: ClassVar[float] = 10.0
    """A process that still computes this long after its request was cancelled is killed and started anew."""
    sample_rate: ClassVar[int] = 16_000
    window_seconds: ClassVar[float] = 30.0
    """The longest window that `transcribe` gets."""
    languages: ClassVar[frozenset[str] | None] = None
    """Codes that the models understand; None: any, and the handler finds out which."""
    word_timestamps: ClassVar[bool] = False
    translation: ClassVar[bool] = False
    """Whether it can also write down in English what was said in another language."""
    diarization: ClassVar[bool] = False
    """Whether it can tell speakers apart, and says so in `Segment.speaker` where `options.speakers` asks."""

    @classmethod  # noqa: B027 - a hook, not a duty
    def accept(cls, model: ModelSpec) -> None:
        """Raise `ModelError` if this engine can never serve the model; called before anything is loaded."""

    @abstractmethod
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        """Load the weights, calling `progress` with the part done (0 to 1). Raises `ModelError`."""

    @abstractmethod
    def transcribe(
        self, windows: Iterator[Window], options: SpeechOptions, cancellation: Cancellation
    ) -> Iterable[Segment]:
        """Yield segments as they are found, times in seconds from the start of the recording."""

    def vram_bytes(self) -> int | None:
        """GPU memory that this instance holds, at its peak so far; None: it cannot tell, or needs none.

        Asked after loading and after each request.
        """
        return None

    def unload(self) -> None:  # noqa: B027 - a hook, not a duty
        """Free what would not be freed with the instance, a library's cache of GPU memory for instance.

        Called when nothing computes, before the instance is dropped. In threads only: a process just ends.
        """

    def windows(self, audio: Iterator[bytes], cancellation: Cancellation) -> Iterator[Window]:
        """Cut the audio (bounded blocks, mono s16 at `sample_rate`) into windows; silence is left out.

        The default finds speech by its energy. A handler with a better ear overrides this.
        """
        from roundhouse_engine.vad import EnergyDetector, cut  # noqa: PLC0415 - handlers import without numpy

        return cut(audio, self.sample_rate, EnergyDetector(), self.window_seconds, cancellation)
