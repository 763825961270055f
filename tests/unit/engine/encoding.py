"""Encoded recordings made on the spot, so that what is decoded is what people's tools write."""

import functools
import io
import subprocess

import av
import numpy as np
from av.audio.resampler import AudioResampler

from tests.support.recordings import wav

RATE = 16_000
SECONDS = 4.0


def melody(seconds: float = SECONDS) -> bytes:
    """Mono s16 at 16 kHz with something to hear in each part."""
    at = np.arange(round(seconds * RATE))
    return (np.sin(at * 0.05 * (1 + at / at.size)) * 9000).astype("<i2").tobytes()


@functools.cache
def encoded(
    container: str, codec: str, *, rate: int = 48_000, layout: str = "mono", seekable: bool = True
) -> bytes:
    """The melody, as `encode` does."""
    return encode(wav(melody()), container, codec, rate=rate, layout=layout, seekable=seekable)


def encode(
    audio: bytes,
    container: str,
    codec: str,
    *,
    rate: int = 48_000,
    layout: str = "mono",
    seekable: bool = True,
) -> bytes:
    """A recording as PyAV writes it; not `seekable`, as a live recorder does that never knows the end."""
    out = io.BytesIO()
    sink = out if seekable else _Pipe(out)
    with av.open(io.BytesIO(audio), "r") as source, av.open(sink, "w", format=container) as target:
        stream = target.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        resampler = AudioResampler(format=stream.format, layout=layout, rate=rate)
        for frame in [*source.decode(audio=0), None]:
            for resampled in resampler.resample(frame):
                target.mux(stream.encode(resampled))
        target.mux(stream.encode(None))
    return out.getvalue()


@functools.cache
def sox(*arguments: str) -> bytes:
    """The melody as sox writes it, with its output options given."""
    command = ["sox", "-t", "wav", "-", *arguments, "-"]
    return subprocess.run(command, input=wav(melody()), capture_output=True, check=True).stdout


class _Pipe:
    def __init__(self, out: io.BytesIO) -> None:
        self._out = out

    def write(self, data: bytes) -> int:
        return self._out.write(data)
