"""Whisper by transformers, as the SDK sees it; what computes is imported when a model loads."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar, Final

from typing_extensions import override

from roundhouse_engine import Cancellation, ModelError, ModelSpec, Segment, Speech, SpeechOptions, Window
from roundhouse_engine.languages import NAMES
from roundhouse_transformers.repository import open_repository
from roundhouse_transformers.settings import read_settings

if TYPE_CHECKING:
    from roundhouse_transformers.listener import Listener

_TOKENIZERS: Final = ("tokenizer.json", "vocab.json")
"""Old fine-tunes have the parts of which the library makes the first."""
_PAUSE_SECONDS: Final = 2.0
"""A window costs the encoder as much as half a minute, however short it is: phrases go together."""


class TransformersTranscriptions(Speech):
    thread_safe = True
    capacity = 4
    window_seconds = 30.0
    languages: ClassVar[frozenset[str] | None] = frozenset(NAMES)
    word_timestamps = True
    translation = True
    imports = ("roundhouse_transformers.listener",)

    _listener: "Listener"

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        settings = read_settings(os.environ)
        repository = open_repository(model, progress, _TOKENIZERS)
        if (kind := repository.config.get("model_type")) != "whisper":
            raise ModelError(
                f"{model.name!r} is of the kind {kind!r}: of what transcribes, Whisper is served here."
            )
        from roundhouse_transformers.listener import Listener  # noqa: PLC0415 - see the package

        self._listener = Listener(repository, settings)

    @override
    def warm_up(self) -> None:
        self._listener.warm_up()

    @override
    def unload(self) -> None:
        del self._listener

    @override
    def vram_bytes(self) -> int | None:
        return self._listener.vram_bytes()

    @override
    def windows(self, audio: Iterator[bytes], cancellation: Cancellation) -> Iterator[Window]:
        from roundhouse_engine.vad import EnergyDetector, cut  # noqa: PLC0415 - see the package

        return cut(
            audio,
            self.sample_rate,
            EnergyDetector(),
            self.window_seconds,
            cancellation,
            pause_seconds=_PAUSE_SECONDS,
        )

    @override
    def transcribe(
        self, windows: Iterator[Window], options: SpeechOptions, cancellation: Cancellation
    ) -> Iterable[Segment]:
        return self._listener.transcribe(windows, options, cancellation)
