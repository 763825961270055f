"""NeMo's models for recordings and for speech while it is spoken, as the SDK sees them."""

import os
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
from roundhouse_engine.ahead import ahead
from roundhouse_engine.rehearing import Rehearing
from roundhouse_engine.vad import EnergyDetector, cut
from roundhouse_nemo.archive import find, open_archive
from roundhouse_nemo.settings import read_settings

if TYPE_CHECKING:
    from roundhouse_nemo.hearing import Hearing
    from roundhouse_nemo.stream import Live

_RATE: Final = 16_000


class Nemo(RealtimeSpeech):
    imports = tuple(f"roundhouse_nemo.{module}" for module in ("canary", "hearing", "restore", "stream"))
    thread_safe = True
    capacity = 4
    sessions = 4
    sample_rate = _RATE
    window_seconds = 30.0
    word_timestamps = True
    translation = True
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
            from roundhouse_nemo.canary import Canary  # noqa: PLC0415 - see the package
            from roundhouse_nemo.hearing import Hearing  # noqa: PLC0415
            from roundhouse_nemo.restore import restore  # noqa: PLC0415
            from roundhouse_nemo.stream import live_of  # noqa: PLC0415

            progress(0.5)
            kind = Canary if archive.decodes_by == "aed" else Hearing
            self._hearing = kind(model.name, restore(model.name, archive, settings, progress), settings)
        self._live = live_of(model.name, self._hearing, settings.latency_ms)

    @override
    def warm_up(self) -> None:
        self._hearing.warm_up()

    @override
    def unload(self) -> None:
        hearing = self._hearing
        del self._hearing, self._live
        hearing.free()

    @override
    def vram_bytes(self) -> int | None:
        return self._hearing.vram_bytes()

    @override
    def windows(self, audio: Iterator[bytes], cancellation: Cancellation) -> Iterator[Window]:
        return cut(
            audio,
            _RATE,
            EnergyDetector(),
            self.window_seconds,
            cancellation,
            pause_seconds=self._hearing.pause_seconds,
        )

    @override
    def transcribe(
        self, windows: Iterator[Window], options: SpeechOptions, cancellation: Cancellation
    ) -> Iterable[Segment]:
        hearing = self._hearing
        hearing.check(options)

        def hear(window: Window) -> list[Segment]:
            return list(self.listen(window, options, cancellation))

        for segments in ahead(hear, hearing.awaited(windows), hearing.ahead):
            yield from segments

    @override
    def utterance(self, options: SpeechOptions, *, interim: bool) -> Utterance:
        self._hearing.check(options)
        if self._live is None:
            return Rehearing(
                _RATE, lambda window, cancel: self.listen(window, options, cancel), interim=interim
            )
        from roundhouse_nemo.stream import Streamed  # noqa: PLC0415 - loaded with the model

        return Streamed(self._live, options, interim=interim)

    def listen(self, window: Window, options: SpeechOptions, cancellation: Cancellation) -> Iterator[Segment]:
        heard = self._hearing.hear(window.samples, options, cancellation)
        return heard.segments(window.start, words=options.words)
