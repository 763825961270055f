"""The protocol that a speech engine implements, and the plain data that it is given.

One class, two methods. Everything around them (HTTP, uploads, decoding, windows, formats, admission,
cancellation, drain) is the SDK's. Standard library alone, so that a handler can be read and tested without
the server.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from roundhouse_engine.formats import Segment
from roundhouse_engine.handler import Cancellation, CancelStep, Handler


class Task(StrEnum):
    """What is made of the speech: its own words, or theirs in English."""

    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


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


class Speech(Handler):
    """Turns speech into text."""

    cancel_step: ClassVar[CancelStep] = CancelStep.WINDOW
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

    @abstractmethod
    def transcribe(
        self, windows: Iterator[Window], options: SpeechOptions, cancellation: Cancellation
    ) -> Iterable[Segment]:
        """Yield segments as they are found, times in seconds from the start of the recording."""

    def windows(self, audio: Iterator[bytes], cancellation: Cancellation) -> Iterator[Window]:
        """Cut the audio (bounded blocks, mono s16 at `sample_rate`) into windows; silence is left out.

        The default finds speech by its energy. A handler with a better ear overrides this.
        """
        from roundhouse_engine.vad import EnergyDetector, cut  # noqa: PLC0415 - handlers import without numpy

        return cut(audio, self.sample_rate, EnergyDetector(), self.window_seconds, cancellation)
