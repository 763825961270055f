"""A client's stream of bytes as the samples that an engine wants: one channel, 16 bit, at its own rate.

Imported only where an engine asks for it: numpy and a resampler take megabytes, and a moment.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray

from roundhouse_api.enums import Encoding

Samples = NDArray[np.int16]


class Inlet:
    """Pieces come as the network cuts them, so that one may end in the middle of a sample."""

    def __init__(self, encoding: Encoding, rate: int, wanted_rate: int) -> None:
        self._decode, self._width = _DECODERS[encoding]
        self._rest = b""
        same = rate == wanted_rate
        self._resampler = None if same else soxr.ResampleStream(rate, wanted_rate, 1, dtype="int16")

    def take(self, data: bytes) -> bytes:
        """What can be told by now; a resampler keeps some milliseconds."""
        data = self._rest + data
        whole = len(data) - len(data) % self._width
        self._rest = data[whole:]
        samples = self._decode(data[:whole])
        if self._resampler is None or not samples.size:
            return samples.tobytes()
        return bytes(self._resampler.resample_chunk(samples).tobytes())

    def rest(self) -> bytes:
        """What is left at the end of an utterance; another one may begin."""
        self._rest = b""
        if self._resampler is None:
            return b""
        left = self._resampler.resample_chunk(np.zeros(0, np.int16), last=True).tobytes()
        self._resampler.clear()
        return bytes(left)


def _from_s16(data: bytes) -> Samples:
    return np.frombuffer(data, "<i2")


def _from_f32(data: bytes) -> Samples:
    """Full scale is 1; what is louder is cut off, and what is no number is silence."""
    floats = np.nan_to_num(np.frombuffer(data, "<f4"), nan=0.0, posinf=1.0, neginf=-1.0)
    return np.asarray(np.round(np.clip(floats, -1.0, 1.0) * 32767.0), "<i2")


def _mulaw() -> Samples:
    """ITU-T G.711, mu-law: 8 bits with a sign, three of exponent and four of mantissa, all inverted."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4) & 7, (code & 15).astype(np.int32)
    magnitude = (((mantissa << 3) + 132) << exponent) - 132
    return np.where(code & 128, -magnitude, magnitude).astype("<i2")


def _alaw() -> Samples:
    """ITU-T G.711, A-law: every second bit inverted."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = ((code >> 4) & 7).astype(np.int32), (code & 15).astype(np.int32)
    low = (mantissa << 4) + 8
    magnitude = np.where(exponent == 0, low, (low + 256) << np.maximum(exponent - 1, 0))
    return np.where(code & 128, magnitude, -magnitude).astype("<i2")


def _by_table(table: Samples) -> Callable[[bytes], Samples]:
    return lambda data: table[np.frombuffer(data, np.uint8)]


_DECODERS: Final[Mapping[Encoding, tuple[Callable[[bytes], Samples], int]]] = {
    Encoding.PCM_S16LE: (_from_s16, 2),
    Encoding.PCM_F32LE: (_from_f32, 4),
    Encoding.MULAW: (_by_table(_mulaw()), 1),
    Encoding.ALAW: (_by_table(_alaw()), 1),
}
"""How a piece becomes samples, and how many bytes a sample has."""
