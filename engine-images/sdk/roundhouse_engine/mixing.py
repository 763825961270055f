"""Makes one channel of many, so that nobody is lost who speaks on one of them alone.

Players mix by what channels stand for, and recorders of meetings do not say that: the fourth of six is the
deep rumble of cinemas to them, and is left out. Here all are added, and the sum is as loud as the loudest.
"""

import math
from collections.abc import Iterator
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float32]

# So much is weighed at a time, and the weights follow as slowly: syllables do not move them.
_STEP_SECONDS: Final = 0.1
_KEPT: Final = np.float32(math.exp(-1))
# Of two that are as loud as each other, the first remains the one that others are held against.
_LOUDER: Final = 4.0
_AGAINST: Final = -0.5


class Mixer:
    """For the frames of one stream of `rate` samples a second, in their order.

    What comes out is as loud as the loudest channel: the only one that sounds, or one of many that are alike.
    """

    def __init__(self, channels: int, rate: int) -> None:
        self._rate = rate
        self._step = max(round(rate * _STEP_SECONDS), 1)
        self._waiting: list[Sound] = []
        self._powers = np.zeros(channels, np.float32)
        self._along = np.zeros(channels, np.float32)
        self._total = np.zeros(1, np.float32)
        self._weights: Sound | None = None
        self._reference = 0

    def push(self, frame: av.AudioFrame) -> Iterator[av.AudioFrame]:
        """In whole steps, however long the frames are."""
        self._waiting.append(_floats(frame))
        there = sum(sound.shape[1] for sound in self._waiting)
        if there < self._step:
            return
        sound = np.concatenate(self._waiting, axis=1)
        whole = there - there % self._step
        self._waiting = [sound[:, whole:].copy()]
        for start in range(0, whole, self._step):
            yield self._mixed(sound[:, start : start + self._step])

    def flush(self) -> Iterator[av.AudioFrame]:
        """What is too short for a step of its own."""
        sounds, self._waiting = self._waiting, []
        if any(sound.shape[1] for sound in sounds):
            yield self._mixed(np.concatenate(sounds, axis=1))

    def _mixed(self, sound: Sound) -> av.AudioFrame:
        mixed = av.AudioFrame.from_ndarray(self._mix(sound)[None], format="fltp", layout="mono")
        mixed.sample_rate = self._rate
        return mixed

    def _mix(self, sound: Sound) -> Sound:
        """The weights move from those of before to those of now, so that nothing clicks."""
        weights = self._weigh(sound)
        before = weights if self._weights is None else self._weights
        self._weights = weights
        ramp = np.linspace(0, 1, sound.shape[1], dtype=np.float32)
        moved = np.einsum("c,cn,n->n", weights - before, sound, ramp)
        return np.asarray(np.einsum("c,cn->n", before, sound) + moved, np.float32)

    def _weigh(self, sound: Sound) -> Sound:
        """The same for all, but for the signs of those that swing against the loudest and would cancel it."""
        sound = sound - sound.mean(axis=1, keepdims=True)  # a current that stands is not to be heard
        self._powers = self._followed(self._powers, _mean_products(sound, sound))
        loudest = int(self._powers.argmax())
        if self._powers[loudest] > _LOUDER * self._powers[self._reference]:
            self._reference, self._along = loudest, np.zeros_like(self._along)
        reference = np.broadcast_to(sound[self._reference], sound.shape)
        self._along = self._followed(self._along, _mean_products(sound, reference))
        against = self._along < _AGAINST * np.sqrt(self._powers * self._powers[self._reference])
        signs = np.where(against, -1, 1).astype(np.float32)
        total = np.einsum("c,cn->n", signs, sound)[None]
        self._total = self._followed(self._total, _mean_products(total, total))
        if self._total[0] <= self._powers[loudest]:
            return signs
        return np.asarray(signs * np.sqrt(self._powers[loudest] / self._total[0]), np.float32)

    def _followed(self, before: Sound, now: Sound) -> Sound:
        return now if self._weights is None else _KEPT * before + (1 - _KEPT) * now


def _mean_products(one: Sound, other: Sound) -> Sound:
    """By channel. Not by BLAS, whose threads would turn for so little."""
    return np.asarray(np.einsum("cn,cn->c", one, other) / one.shape[1], np.float32)


def _floats(frame: av.AudioFrame) -> Sound:
    """By channel and sample, from -1 to 1."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype.kind == "f":
        sound = values.astype(np.float32, order="C")
        return sound if np.isfinite(sound).all() else np.nan_to_num(sound, posinf=0, neginf=0)
    half = float(2 ** (8 * values.dtype.itemsize - 1))
    middle = half if values.dtype.kind == "u" else 0.0
    return (values.astype(np.float32, order="C") - np.float32(middle)) / np.float32(half)
