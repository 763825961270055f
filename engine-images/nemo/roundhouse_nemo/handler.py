"""NeMo's models for recordings and for speech while it is spoken, as the SDK sees them."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar, Final

from typing_extensions import override

from roundhouse_engine import (
    Cancellation,
    ModelSpec,
    RealtimeSpeech,
    Segment,
    SpeechOptions,
    Utterance,
    Window,
)
from roundhouse_nemo.archive import find, open_archive
from roundhouse_nemo.settings import read_settings

if TYPE_CHECKING:
    from roundhouse_nemo.hearing import Hearing
    from roundhouse_nemo.stream import Live

_RATE: Final = 16_000
_GUESS_SECONDS: Final = 1.0
_GUESS_SHARE: Final = 0.5
"""Of the time, that may go into what an utterance seems to say so far."""


class Nemo(RealtimeSpeech):
    imports = ("roundhouse_nemo.hearing", "roundhouse_nemo.restore", "roundhouse_nemo.stream")
    thread_safe = True
    capacity = 4
    sessions = 4
    sample_rate = _RATE
    window_seconds = 30.0
    word_timestamps = True
    languages: ClassVar[frozenset[str] | None] = None

    _hearing: "Hearing"
    _live: "Live | None"
    """Where the model is made for streams."""

    @override
    @classmethod
    def accept(cls, model: ModelSpec) -> None:
        if model.path is None:
            find(model)

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        settings = read_settings(os.environ)
        with open_archive(model) as archive:
            progress(0.05)
            from roundhouse_nemo.hearing import Hearing  # noqa: PLC0415 - see the package
            from roundhouse_nemo.restore import restore  # noqa: PLC0415
            from roundhouse_nemo.stream import live_of  # noqa: PLC0415

            progress(0.5)
            self._hearing = Hearing(restore(model.name, archive, settings, progress), settings)
        self._live = live_of(model.name, self._hearing, settings.latency_ms)
        self._hearing.hear(bytes(_RATE * 2), Cancellation())  # the first call takes longer than others

    @override
    def unload(self) -> None:
        hearing = self._hearing
        del self._hearing, self._live
        hearing.free()

    @override
    def vram_bytes(self) -> int | None:
        return self._hearing.vram_bytes()

    @override
    def transcribe(
        self, windows: Iterator[Window], options: SpeechOptions, cancellation: Cancellation
    ) -> Iterable[Segment]:
        for window in windows:
            yield from self.listen(window, options, cancellation)

    @override
    def utterance(self, options: SpeechOptions, *, interim: bool) -> Utterance:
        if self._live is None:
            return Buffered(self, options, interim=interim)
        from roundhouse_nemo.stream import Streamed  # noqa: PLC0415 - loaded with the model

        return Streamed(self._live, options, interim=interim)

    def listen(self, window: Window, options: SpeechOptions, cancellation: Cancellation) -> Iterator[Segment]:
        heard = self._hearing.hear(window.samples, cancellation)
        return heard.segments(window.start, words=options.words)


class Buffered(Utterance):
    """An utterance for a model that wants to hear all of it: heard anew from time to time, and at its end."""

    def __init__(self, engine: Nemo, options: SpeechOptions, *, interim: bool) -> None:
        self._engine = engine
        self._options = options
        self._interim = interim
        self._fed: list[bytes] = []
        self._unheard_seconds = 0.0
        self._wait_seconds = _GUESS_SECONDS
        self._cancellation = Cancellation()

    @override
    def feed(self, samples: bytes) -> str | None:
        if not self._interim:
            return None
        self._fed.append(samples)
        self._unheard_seconds += len(samples) / 2 / _RATE
        if self._unheard_seconds < self._wait_seconds:
            return None
        begun = time.monotonic()
        window = Window(0.0, b"".join(self._fed), _RATE)
        heard = self._engine.listen(window, self._options, self._cancellation)
        text = "".join(segment.text for segment in heard)
        self._unheard_seconds = 0.0
        self._wait_seconds = max(_GUESS_SECONDS, (time.monotonic() - begun) / _GUESS_SHARE)
        return text

    @override
    def finish(self, window: Window, cancellation: Cancellation) -> Iterable[Segment]:
        self.drop()
        return self._engine.listen(window, self._options, cancellation)

    @override
    def drop(self) -> None:
        self._fed.clear()
