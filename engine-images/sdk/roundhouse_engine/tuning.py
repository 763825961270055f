"""Makes of decoded frames what engines hear: one channel of 16-bit samples at their rate."""

from collections.abc import Iterator

import av
from av.audio.resampler import AudioResampler

from roundhouse_engine.mixing import Mixer


class Tuner:
    """For the frames of one recording, whose format may change on the way, as in recorded radio."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._kind: tuple[object, ...] = ()
        self._mixer: Mixer | None = None
        self._resampler: AudioResampler | None = None

    def tune(self, frame: av.AudioFrame) -> Iterator[bytes]:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:
            yield from self.flush()
            self._kind = kind
            channels = frame.layout.nb_channels
            self._mixer = Mixer(channels, frame.sample_rate) if channels > 1 else None
        for mono in self._mixer.push(frame) if self._mixer else (frame,):
            yield from self._resample(mono)

    def flush(self) -> Iterator[bytes]:
        """What is still held back."""
        for mono in self._mixer.flush() if self._mixer else ():
            yield from self._resample(mono)
        resampler, self._resampler = self._resampler, None
        if resampler is not None:
            yield from map(_samples, resampler.resample(None))

    def _resample(self, mono: av.AudioFrame) -> Iterator[bytes]:
        if self._resampler is None:
            self._resampler = AudioResampler(format="s16", layout="mono", rate=self._rate)
        mono.pts = None  # where it stands is known already
        yield from map(_samples, self._resampler.resample(mono))


def _samples(frame: av.AudioFrame) -> bytes:
    # A plane is padded for alignment: its samples are the first bytes of it.
    return bytes(frame.planes[0])[: frame.samples * 2]
