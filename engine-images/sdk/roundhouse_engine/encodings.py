"""How the bytes of each encoding of a stream become samples of 16 bit; where pieces end is left to others."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

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


DECODERS: Final[Mapping[str, tuple[Callable[[bytes], Samples], int]]] = {
    "pcm_s16le": (_from_s16, 2),
    "pcm_f32le": (_from_f32, 4),
    "mulaw": (_from_table(_mulaw_table()), 1),
    "alaw": (_from_table(_alaw_table()), 1),
}
"""By name: how a piece becomes samples, and how many bytes a sample has."""
