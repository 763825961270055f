"""What the header of a WAV says, and its samples where they can be read as they lie.

Bare samples of one channel are what most short phrases come as. FFmpeg looks through 64 KiB of them for other
codecs, which takes longer than all else; and each of its calls hands Python's lock to another thread, so that
eight phrases at once took ten times as long as one.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

import av
import numpy as np

UNKNOWN_LENGTH_FROM: Final = 0x7F000000
"""What a writer that cannot seek back puts where the length of the samples belongs, or more."""
_PCM: Final = 1
_PLAIN: Final = (_PCM, 3, 6, 7, 0xFFFE)
"""Codecs whose samples are integers, floats, A-law, mu-law, or what an extension of the header says."""
_SAMPLE_BYTES: Final = 2
RATES: Final = range(1_000, 4_000_000)
"""Samples a second; DSD has most. Of fewer, a few bytes are hours; of more, a resampler takes gigabytes."""
_CHUNKS: Final = 1_000
"""No recorder writes as many before its samples."""
_BLOCK_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Wav:
    """`data_at`: where in the file so many `data_bytes` of samples begin; None: the writer did not know."""

    codec: int
    channels: int
    rate: int
    byte_rate: int
    frame_bytes: int
    """Of all channels together, once."""
    sample_bits: int
    data_at: int
    data_bytes: int | None

    @property
    def seconds(self) -> float | None:
        """Of the samples that are announced; FFmpeg believes the file's size instead."""
        if self.data_bytes is None or not self.byte_rate:
            return None
        return self.data_bytes / self.byte_rate

    @property
    def contradiction(self) -> str | None:
        """What no plain samples can be of, in words; FFmpeg hears them as something else, or not at all."""
        if self.codec not in _PLAIN:
            return None
        if not self.channels:
            return "no channel"
        if self.sample_bits % 8 and self.frame_bytes != self.channels * -(-self.sample_bits // 8):
            return f"{self.sample_bits} bits a sample, and {self.frame_bytes} bytes for one of each channel"
        return None


def read_wav(file: BinaryIO) -> Wav | None:
    """None for other files, and where the samples are not announced.

    Raises `ValueError` at a header that does not end.
    """
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    described = (0, 0, 0, 0, 0, 0)
    for _ in range(_CHUNKS):
        if len(header := file.read(8)) < 8:
            return None
        tag, length = struct.unpack("<4sI", header)
        if tag == b"data":
            known = length if 0 < length < UNKNOWN_LENGTH_FROM else None
            return Wav(*described, file.tell(), known)
        skip = length + length % 2
        if tag == b"fmt " and length >= 16:
            fields = file.read(16)
            if len(fields) == 16:
                described = struct.unpack("<HHIIHH", fields)
            skip -= 16
        file.seek(skip, 1)
    raise ValueError(f"more than {_CHUNKS} chunks come before the samples")


def is_bare(file: BinaryIO, wav: Wav) -> bool:
    """Whether it is 16-bit samples of one channel from `data_at` up to its end, and nothing else."""
    if not wav.data_bytes or wav.rate not in RATES:
        return False
    described = (wav.codec, wav.channels, wav.sample_bits, wav.byte_rate)
    if described != (_PCM, 1, 8 * _SAMPLE_BYTES, wav.rate * _SAMPLE_BYTES):
        return False
    return wav.data_bytes % _SAMPLE_BYTES == 0 and wav.data_at + wav.data_bytes == file.seek(0, 2)


def blocks(file: BinaryIO, wav: Wav) -> Iterator[bytes]:
    """The samples, where they are bare."""
    file.seek(wav.data_at)
    while block := file.read(_BLOCK_BYTES):
        yield block


def as_frame(block: bytes, rate: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.frombuffer(block, "<i2")[None], format="s16", layout="mono")
    frame.sample_rate = rate
    return frame
