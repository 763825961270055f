"""A stream's bytes as the samples that an engine wants: mono, 16 bit, at its own rate.

Pieces come as the network cuts them, so that one may end in the middle of a sample.
"""

from typing import Final

import av
from av.audio.resampler import AudioResampler

from roundhouse_engine.encodings import DECODERS

ENCODINGS: Final = tuple(DECODERS)


def sample_bytes(encoding: str) -> int:
    return DECODERS[encoding][1]


class Inlet:
    """Converts one stream; `flush` gives what the resampler still holds."""

    def __init__(self, encoding: str, rate: int, wanted_rate: int) -> None:
        self._decode, self._width = DECODERS[encoding]
        self._rate = rate
        self._rest = b""
        self._resampler = (
            None if rate == wanted_rate else AudioResampler(format="s16", layout="mono", rate=wanted_rate)
        )

    def take(self, data: bytes) -> bytes:
        data = self._rest + data
        whole = len(data) - len(data) % self._width
        self._rest = data[whole:]
        samples = self._decode(data[:whole])
        if self._resampler is None or not samples.size:
            return samples.tobytes()
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = self._rate
        return b"".join(map(_bytes, self._resampler.resample(frame)))

    def flush(self) -> bytes:
        return b"" if self._resampler is None else b"".join(map(_bytes, self._resampler.resample(None)))


def _bytes(frame: av.AudioFrame) -> bytes:
    return bytes(frame.planes[0])[: frame.samples * 2]
