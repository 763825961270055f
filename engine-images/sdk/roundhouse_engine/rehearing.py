"""Live speech by a model that knows recordings: heard anew from time to time, and at its end as a whole.

What an utterance seems to say so far is asked once a second, and less often where that takes long.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final

from typing_extensions import override

from roundhouse_engine.formats import Segment
from roundhouse_engine.handler import Cancellation
from roundhouse_engine.realtime_speech import Utterance
from roundhouse_engine.speech import Window

_GUESS_SECONDS: Final = 1.0
_GUESS_SHARE: Final = 0.5
"""Of the time, that may go into what an utterance seems to say so far."""

Hear = Callable[[Window, Cancellation], Iterable[Segment]]


class Rehearing(Utterance):
    """`hear` says what a window says; `guess` may do it in more haste, of the first part of the utterance."""

    def __init__(self, sample_rate: int, hear: Hear, guess: Hear | None = None, *, interim: bool) -> None:
        self._rate = sample_rate
        self._hear = hear
        self._guess = guess or hear
        self._interim = interim
        self._fed: list[bytes] = []
        self._unheard_seconds = 0.0
        self._wait_seconds = _GUESS_SECONDS

    @override
    def feed(self, samples: bytes, cancellation: Cancellation) -> str | None:
        if not self._interim:
            return None
        self._fed.append(samples)
        self._unheard_seconds += len(samples) / 2 / self._rate
        if self._unheard_seconds < self._wait_seconds:
            return None
        window = Window(0.0, b"".join(self._fed), self._rate)
        begun = time.monotonic()
        text = "".join(segment.text for segment in self._guess(window, cancellation))
        self._unheard_seconds = 0.0
        self._wait_seconds = max(_GUESS_SECONDS, (time.monotonic() - begun) / _GUESS_SHARE)
        return text

    @override
    def finish(self, window: Window, cancellation: Cancellation) -> Iterable[Segment]:
        self.drop()
        return self._hear(window, cancellation)

    @override
    def drop(self) -> None:
        self._fed.clear()
