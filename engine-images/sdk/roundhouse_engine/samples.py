"""A stream's bytes as the samples that an engine wants: mono, 16 bit, at its own rate.

Pieces come as the network cuts them, so that one may end in the middle of a sample.
"""

from collections.abc import Callable
from typing import Final

import av
import numpy as np
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

_SAMPLE_BYTES: Final = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
ENCODINGS: Final = tuple(_SAMPLE_BYTES)


def sample_bytes(encoding: str) -> int:
    return _SAMPLE_BYTES[encoding]


class Inlet:
    """Converts one stream; `flush` gives what the resampler still holds."""

    def __init__(self, encoding: str, rate: int, wanted_rate: int) -> None:
        self._decode = _DECODERS[encoding]
        self._width = _SAMPLE_BYTES[encoding]
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


Samples = NDArray[np.int16]


def _from_s16(data: bytes) -> Samples:
    return np.frombuffer(data, "<i2")


def _from_f32(data: bytes) -> Samples:
    """Full scale is 1; what is louder is cut off, and what is no number is silence."""
    floats = np.nan_to_num(np.frombuffer(data, "<f4"), nan=0.0, posinf=1.0, neginf=-1.0)
    return np.asarray(np.round(np.clip(floats, -1.0, 1.0) * 32767.0), "<i2")


def _mulaw_table() -> Samples:
    """ITU-T G.711, mu-law: 8 bits with a sign, three of exponent and four of mantissa, all inverted."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4) & 7, (code & 15).astype(np.int32)
    magnitude = (((mantissa << 3) + 132) << exponent) - 132
    return np.where(code & 128, -magnitude, magnitude).astype("<i2")


def _alaw_table() -> Samples:
    """ITU-T G.711, A-law: every second bit inverted."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = ((code >> 4) & 7).astype(np.int32), (code & 15).astype(np.int32)
    low = (mantissa << 4) + 8
    magnitude = np.where(exponent == 0, low, (low + 256) << np.maximum(exponent - 1, 0))
    return np.where(code & 128, magnitude, -magnitude).astype("<i2")


def _from_table(table: Samples) -> Callable[[bytes], Samples]:
    return lambda data: table[np.frombuffer(data, np.uint8)]


_DECODERS: Final[dict[str, Callable[[bytes], Samples]]] = {
    "pcm_s16le": _from_s16,
    "pcm_f32le": _from_f32,
    "mulaw": _from_table(_mulaw_table()),
    "alaw": _from_table(_alaw_table()),
}
