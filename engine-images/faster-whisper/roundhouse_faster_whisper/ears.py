"""Hears where speech is: Silero's detector, which faster-whisper brings along, on a stream.

The library's own function wants the whole recording in memory; this one carries the detector's state from
block to block. It says the same however the stream is cut.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

import numpy as np
from faster_whisper.vad import get_vad_model
from numpy.typing import NDArray

RATE: Final = 16_000
_CHUNK: Final = 512
_CONTEXT: Final = 64
"""Samples of the chunk before that Silero wants to hear again."""
_SPEECH: Final = 0.5
_STILL_SPEECH: Final = 0.35
_STATE: Final = (1, 1, 128)


class Ears:
    """A detector of one stream; call it with every frame of the stream, in order."""

    def __init__(self) -> None:
        self._session = get_vad_model().session
        self._h = np.zeros(_STATE, np.float32)
        self._c = np.zeros(_STATE, np.float32)
        self._context = np.zeros(_CONTEXT, np.float32)
        self._rest = b""
        self._heard = 0
        self._asked = 0
        self._verdicts: deque[tuple[int, bool]] = deque()
        self._speech = False
        self._latest = False

    def __call__(self, frame: bytes) -> bool:
        """Whether the last chunk that ends within this frame, or before it, is speech."""
        self._asked += len(frame) // 2
        if self._heard < self._asked:
            self._listen(frame)
        while self._verdicts and self._verdicts[0][0] <= self._asked:
            self._latest = self._verdicts.popleft()[1]
        return self._latest

    def ahead(self, audio: Iterator[bytes]) -> Iterator[bytes]:
        """The blocks as they come, each heard as a whole first: a third of the time that its frames take."""
        for block in audio:
            self._listen(block)
            yield block

    def _listen(self, block: bytes) -> None:
        data = self._rest + block
        size = _CHUNK * 2
        whole = len(data) - len(data) % size
        self._rest = data[whole:]
        before = self._heard - (len(data) - len(block)) // 2
        self._heard += len(block) // 2
        if not whole:
            return
        for number, probability in enumerate(self._probabilities(samples(data[:whole])), 1):
            self._speech = probability >= (_STILL_SPEECH if self._speech else _SPEECH)
            self._verdicts.append((before + number * _CHUNK, self._speech))

    def _probabilities(self, heard: NDArray[np.float32]) -> list[float]:
        joined = np.concatenate([self._context, heard])
        self._context = joined[-_CONTEXT:]
        chunks = np.lib.stride_tricks.sliding_window_view(joined, _CONTEXT + _CHUNK)[::_CHUNK]
        inputs = {"input": np.ascontiguousarray(chunks), "h": self._h, "c": self._c}
        output, self._h, self._c = self._session.run(None, inputs)
        return [float(each) for each in np.ravel(output)]


def samples(data: bytes) -> NDArray[np.float32]:
    """16-bit samples as numbers from -1 to 1."""
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
