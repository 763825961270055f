"""What an engine adds to `Speech` to listen while people speak.

The SDK owns the WebSocket, the audio's encoding and rate, the places for sessions, and where an utterance
begins and ends. The handler says what it hears in one. Standard library alone, as `speech`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from roundhouse_engine.formats import Segment
from roundhouse_engine.handler import Cancellation
from roundhouse_engine.speech import Speech, SpeechOptions, Window


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How the audio comes and what is told of it. `silence_seconds` None: as for recordings."""

    encoding: str = "pcm_s16le"
    sample_rate: int = 16_000
    interim_results: bool = True
    vad: bool = True
    silence_seconds: float | None = None


class Detector(Protocol):
    def __call__(self, frame: bytes) -> bool:
        """Whether 30 ms of mono s16 hold speech. Called once for each frame, in order."""


class Utterance(ABC):
    """One stretch of speech, fed while it is spoken."""

    @abstractmethod
    def feed(self, samples: bytes, cancellation: Cancellation) -> str | None:
        """Take the next piece: mono s16 at the handler's `sample_rate`, 90 to 240 ms, the first longer.

        What the utterance seems to say so far; None where nothing can be told yet, or nothing changed. Where
        that takes more than a step, ask `cancellation` between two of them.
        """

    @abstractmethod
    def finish(self, window: Window, cancellation: Cancellation) -> Iterable[Segment]:
        """What it says. The window is the utterance as it would be cut from a recording.

        It holds what was fed and a little more, less silence at its end. Times are of the whole session, as
        they are of a recording.
        """

    def drop(self) -> None:  # noqa: B027 - a hook, not a duty
        """It will not be finished, or not to its end: free what it holds."""


class RealtimeSpeech(Speech):
    """A speech engine that takes realtime sessions as well as recordings."""

    sessions: ClassVar[int] = 2
    """Sessions at once, where `ROUNDHOUSE_SESSIONS` says nothing; apart from `capacity`."""
    early: ClassVar[bool] = False
    """Whether an utterance is begun at the first frame that may be speech, and dropped where it is none.

    For decoders that are about as fast as people speak, and would have to catch up. What it is fed begins
    elsewhere than its window then: `finish` is to hear the window."""

    @abstractmethod
    def utterance(self, options: SpeechOptions, *, interim: bool) -> Utterance:
        """Begin one; without `interim` nobody wants to know what it seems to say so far.

        Of an isolated instance at most one is begun at a time; in threads, one for each session.
        """

    def detector(self) -> Detector:
        """Finds speech in a stream that begins; the default by its energy."""
        from roundhouse_engine.vad import EnergyDetector  # noqa: PLC0415 - handlers import without numpy

        return EnergyDetector()
