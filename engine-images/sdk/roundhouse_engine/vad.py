"""Where speech is: cuts a stream of audio into windows of speech, each short enough for its engine.

It decides where a window begins and ends; whether one 30 ms frame is speech is decided by a `Detector`, the
SDK's by energy or an engine's own. Holds one window in memory, never the recording.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from roundhouse_engine.handler import Cancellation
from roundhouse_engine.realtime_speech import Detector
from roundhouse_engine.speech import Window

FRAME_SECONDS: Final = 0.03
_BYTES: Final = 2

# A window opens when most of the last frames are speech, and takes in what came just before them: soft
# beginnings ("five") are heard late. It closes after a pause, and the longer it already is the shorter a
# pause will do, so that windows end between phrases and seldom reach the limit.
_ONSET_FRAMES: Final = 10
_ONSET_SPEECH: Final = 6
_LEAD_SECONDS: Final = 0.3
_PAUSE_SECONDS: Final = 0.8
_SHORT_PAUSE_SECONDS: Final = 0.25
_TAIL_SECONDS: Final = 0.3


# How far speech is to stand out of the background: as far as a third of what the loudest does.
_LEAST_DB: Final = 4.0
_MOST_DB: Final = 10.0
# How loud the loudest is guessed to be, and how fast that is forgotten until something was as loud: as speech
# is that stands out a little.
_GUESS_DB: Final = 70.0
_GUESS_FALLS_DB: Final = 20.0
_SPEECH_DB: Final = 12.0


class EnergyDetector:
    """Speech is what stands out of the background by 10 dB; less will do where nothing stands out by much.

    The background soon follows to what is quieter and rises 1.5 dB a second: a hum is learnt in a few
    seconds, and a speaker's pauses hold it down. What is loudest is forgotten slowly, so that a long silence
    makes no speech of a cough; but soon what was only guessed of it, so that soft recordings are heard. In
    loud noise more is taken for speech than is: a model hears that nothing is said, and what is left out here
    nobody hears.
    """

    def __init__(self) -> None:
        self._background = 60.0
        self._loudest = _GUESS_DB
        self._guessed = True

    def __call__(self, frame: bytes) -> bool:
        level = level_db(frame)
        below = self._background - level
        self._background = max(self._background + (-0.2 * below if below > 0 else 1.5 * FRAME_SECONDS), 10.0)
        self._loudest = self._loudest_after(level)
        margin = min(max((self._loudest - self._background) / 3, _LEAST_DB), _MOST_DB)
        return level > self._background + margin

    def _loudest_after(self, level: float) -> float:
        least = self._background + _SPEECH_DB
        fallen = self._loudest - (_GUESS_FALLS_DB if self._guessed else 0.25) * FRAME_SECONDS
        if self._guessed:
            self._guessed = max(level, least) < fallen
            return max(level, least, fallen)
        return max(level, fallen)


def level_db(frame: bytes) -> float:
    """Loudness of a frame: 0 for one step of the 16-bit range, 90 for all of it."""
    samples = np.frombuffer(frame, dtype="<i2").astype(np.float32)
    return 10 * math.log10(float(np.dot(samples, samples)) / max(len(samples), 1) + 1.0)


def cut(  # noqa: PLR0913 - the last is for the few engines that dislike short windows
    audio: Iterable[bytes],
    sample_rate: int,
    is_speech: Detector,
    longest_seconds: float,
    cancellation: Cancellation,
    *,
    pause_seconds: float = _PAUSE_SECONDS,
) -> Iterator[Window]:
    """Windows of speech of at most `longest_seconds`, in order and without overlap; none for silence.

    `pause_seconds` is the pause that ends a window which has just begun.
    """
    cutter = Cutter(sample_rate, longest_seconds, young_pause_seconds=pause_seconds)
    frame_bytes = cutter.frame_bytes
    for frame in frames(audio, frame_bytes):
        cancellation.check()
        speech = len(frame) == frame_bytes and is_speech(frame)
        yield from cutter.push(frame, speech=speech)
    yield from cutter.flush()


def frames(audio: Iterable[bytes], frame_bytes: int) -> Iterator[bytes]:
    """Blocks of any size as frames of one size; the last may be shorter."""
    rest = b""
    for block in audio:
        data = rest + block
        whole = len(data) - len(data) % frame_bytes
        for start in range(0, whole, frame_bytes):
            yield data[start : start + frame_bytes]
        rest = data[whole:]
    if rest:
        yield rest


class Cutter:
    """The window that is open, if one is, and the few frames before it.

    `pause_seconds` None: the rule above; with `by_hand` no pause ends a window, and the first frame opens it.
    """

    def __init__(
        self,
        sample_rate: int,
        longest_seconds: float,
        *,
        pause_seconds: float | None = None,
        young_pause_seconds: float = _PAUSE_SECONDS,
        by_hand: bool = False,
    ) -> None:
        self._rate = sample_rate
        self.frame_bytes = round(sample_rate * FRAME_SECONDS) * _BYTES
        self._pause_seconds = pause_seconds
        self._young_pause_seconds = young_pause_seconds
        self._by_hand = by_hand
        self._longest = max(int(longest_seconds / FRAME_SECONDS), 2 * _ONSET_FRAMES)
        self._lead: deque[tuple[bytes, bool]] = deque(maxlen=_ONSET_FRAMES + _frames(_LEAD_SECONDS))
        self._open: list[bytes] = []
        self._seen = 0
        self._first = 0
        self._quiet = 0

    @property
    def is_open(self) -> bool:
        return bool(self._open)

    @property
    def pending(self) -> bytes:
        """What the open window holds so far; nothing where none is open."""
        return b"".join(self._open)

    @property
    def start(self) -> float:
        """Where the open window begins, in seconds."""
        return self._first * self.frame_bytes / _BYTES / self._rate

    def push(self, frame: bytes, *, speech: bool) -> Iterator[Window]:
        self._seen += 1
        if not self._open:
            self._lead.append((frame, speech))
            if self._by_hand or self._heard() >= _ONSET_SPEECH:
                self._begin()
            return
        self._open.append(frame)
        self._quiet = 0 if speech else self._quiet + 1
        if self._quiet >= self._pause() and not self._by_hand:
            yield from self._take(len(self._open) - max(self._quiet - _frames(_TAIL_SECONDS), 0))
            self._close()
        elif len(self._open) >= self._longest:
            yield from self._take(self._softest())

    def flush(self) -> Iterator[Window]:
        """What is open at the end; also a last word too short to have opened a window."""
        if not self._open and sum(heard for _, heard in self._lead) >= _ONSET_SPEECH // 2:
            self._begin()
        if self._open:
            yield from self._take(len(self._open))
        self.clear()

    def clear(self) -> None:
        """Forget what is open, and what came before it."""
        self._open = []
        self._lead.clear()

    def _heard(self) -> int:
        return sum(heard for _, heard in list(self._lead)[-_ONSET_FRAMES:])

    def _begin(self) -> None:
        self._open = [kept for kept, _ in self._lead]
        self._first = self._seen - len(self._open)
        self._quiet = 0
        self._lead.clear()

    def _pause(self) -> int:
        if self._pause_seconds is not None:
            return max(_frames(self._pause_seconds), 1)
        part = min(len(self._open) / self._longest, 1.0)
        young = self._young_pause_seconds
        return _frames(young - part * (young - _SHORT_PAUSE_SECONDS))

    def _softest(self) -> int:
        """Where to cut speech without a pause: after the softest frame of the last third."""
        begin = 2 * len(self._open) // 3
        return (
            begin + 1 + min(range(len(self._open) - begin), key=lambda at: level_db(self._open[begin + at]))
        )

    def _take(self, count: int) -> Iterator[Window]:
        samples = b"".join(self._open[:count])
        start = self.start
        self._open = self._open[count:]
        self._first += count
        self._quiet = min(self._quiet, len(self._open))
        if samples:
            yield Window(start, samples, self._rate)

    def _close(self) -> None:
        # What was left out of the window is the lead of the next one.
        self._lead.extend((frame, False) for frame in self._open)
        self._open = []


def _frames(seconds: float) -> int:
    return round(seconds / FRAME_SECONDS)
