"""A client's stream of bytes as the samples that an engine wants: one channel, 16 bit, at its own rate.

Imported only where an engine asks for it: numpy and a resampler take megabytes, and a moment.
"""

import numpy as np
import soxr

from roundhouse_api.enums import Encoding
from roundhouse_engine.encodings import DECODERS


class Inlet:
    """Pieces come as the network cuts them, so that one may end in the middle of a sample."""

    def __init__(self, encoding: Encoding, rate: int, wanted_rate: int) -> None:
        self._decode, self._width = DECODERS[encoding]
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
