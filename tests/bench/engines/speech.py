"""What is heard: a volunteer reading a book, cut to length."""

import wave
from collections.abc import Iterator
from typing import Final

from tests.support.recordings import TEST_DATA

RATE: Final = 16_000
CLIPS: Final = 8
CLIP_SECONDS: Final = 2.5
PIECE_SECONDS: Final = 0.1
SILENCE_SECONDS: Final = 1.0
LEAD_SECONDS: Final = 0.4
"""Of the silence before speech, that detectors add to it."""
WINDOW_SECONDS: Final = 30.0
"""The most that engines compute at once."""
_READ_SECONDS: Final = 10
_LIVE_SECONDS: Final = 3.0
_BOOK: Final = "librivox/sense_and_sensibility_01_austen_64kb-{}.wav"


def speech(seconds: float) -> bytes:
    """16-bit samples of two sentences, as often as it takes: nearly no pauses that could be left out."""
    samples = b""
    for number in ("0870", "0930"):
        with wave.open(str(TEST_DATA / _BOOK.format(number))) as recording:
            assert recording.getparams()[:3] == (1, 2, RATE), recording.getparams()
            samples += recording.readframes(recording.getnframes())
    read = _READ_SECONDS * RATE * 2
    assert len(samples) >= read, "the recordings are shorter than they were"
    wanted = round(seconds * RATE) * 2
    return (samples[:read] * (wanted // read + 1))[:wanted]


def spoken_live() -> bytes:
    """What is heard while it is spoken: silence first, in which detectors learn what none is."""
    return bytes(round(SILENCE_SECONDS * RATE) * 2) + speech(_LIVE_SECONDS)


def learnt_live() -> bytes:
    """The same of what a model of NeMo's has learnt that is made for streams."""
    return bytes(round(SILENCE_SECONDS * RATE) * 2) + (TEST_DATA / "goforward.raw").read_bytes()


def clips() -> list[bytes]:
    """As many as are sent at once, each with what a command takes to say."""
    size = round(CLIP_SECONDS * RATE) * 2
    samples = speech(CLIPS * CLIP_SECONDS)
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def pieces(samples: bytes) -> Iterator[tuple[float, bytes]]:
    """As a microphone gives them: each piece, and when it has been spoken, in seconds from the start."""
    size = round(PIECE_SECONDS * RATE) * 2
    for start in range(0, len(samples), size):
        yield (start + size) / RATE / 2, samples[start : start + size]
