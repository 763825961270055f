"""Whisper by faster-whisper: recordings in windows of at most half a minute, and speech while it is spoken.

The library's own way with a long recording is to hold all of it and its features, 3 GB an hour. Here it gets
one window at a time, cut where nobody speaks; each stands for itself, as in the library's batched pipeline.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, ClassVar, Final

from faster_whisper.vad import get_vad_model
from typing_extensions import override

from roundhouse_engine import (
    Cancellation,
    ModelError,
    ModelSpec,
    RealtimeSpeech,
    Segment,
    SpeechOptions,
    Task,
    Utterance,
    Window,
    Word,
)
from roundhouse_engine.ahead import ahead
from roundhouse_engine.errors import invalid
from roundhouse_engine.gpu_memory import Growth
from roundhouse_engine.languages import NAMES
from roundhouse_engine.memory import mapped
from roundhouse_engine.realtime_speech import Detector
from roundhouse_engine.rehearing import Rehearing
from roundhouse_engine.vad import cut
from roundhouse_faster_whisper.ears import RATE, Ears, samples
from roundhouse_faster_whisper.hardware import choose_hardware
from roundhouse_faster_whisper.steps import Steps
from roundhouse_faster_whisper.weights import open_model

_ENGLISH: Final = "en"
_BEAMS: Final = 5

# At 0, OpenAI's default, a window that comes out garbled is tried again with more freedom.
_TEMPERATURES: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

# A window costs the encoder as much as half a minute, however short it is: phrases go together.
_PAUSE_SECONDS: Final = 2.0
_SURE: Final = 0.5

# Whisper's own, such as <|endoftext|>: in a hint they would begin or end what it is to write.
_MARKS: Final = re.compile(r"<\|[^|]*\|>")


class FasterWhisper(RealtimeSpeech):
    thread_safe = True
    capacity = 4
    sessions = 4
    sample_rate = RATE
    window_seconds = 30.0
    languages: ClassVar[frozenset[str] | None] = frozenset(NAMES)
    word_timestamps = True
    translation = True

    @override
    @classmethod
    def accept(cls, model: ModelSpec) -> None:
        if model.path is None:
            raise ModelError(
                f"{model.name!r} has no path: this image brings no weights. Name a directory with a Whisper "
                "model in CTranslate2's format, such as a download of 'Systran/faster-whisper-base'."
            )

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        assert model.path is not None  # noqa: S101 - accepted
        capacity = int(os.environ.get("ROUNDHOUSE_CAPACITY", "") or self.capacity)
        self._name = model.name
        hardware = choose_hardware(os.environ, capacity)
        self._gpu = hardware.device == "cuda"
        before = Growth() if self._gpu else None
        with mapped():
            self._steps = Steps(open_model(model.path, hardware, progress), hardware.workers)
        get_vad_model()
        self._vram_bytes = before.bytes() if before else None

    @override
    def warm_up(self) -> None:
        """Of a GPU alone: a CPU's first window takes no longer than others, and of a large model a minute."""
        if self._gpu:
            second = Window(0.0, bytes(RATE * 2), RATE)
            for _ in self.listen(second, SpeechOptions(), Cancellation(), None, guess=True):
                pass

    @override
    def vram_bytes(self) -> int | None:
        """Of the weights: CTranslate2 does not tell what else it takes."""
        return self._vram_bytes

    @override
    def unload(self) -> None:
        self._steps.whisper.unload_model()

    @override
    def windows(self, audio: Iterator[bytes], cancellation: Cancellation) -> Iterator[Window]:
        ears = Ears()
        return cut(
            ears.ahead(audio), RATE, ears, self.window_seconds, cancellation, pause_seconds=_PAUSE_SECONDS
        )

    @override
    def transcribe(
        self, windows: Iterator[Window], options: SpeechOptions, cancellation: Cancellation
    ) -> Iterable[Segment]:
        """The first comes alone, and soon; the first whose language is plain decides for those after it."""
        self.check(options)
        language = options.language
        for window in windows:
            found = self.listen(window, options, cancellation, language)
            language = language or found.language
            yield from found
            if language is not None:
                break

        def hear(window: Window) -> list[Segment]:
            return list(self.listen(window, options, cancellation, language))

        for segments in ahead(hear, windows, self._steps.ahead):
            yield from segments

    @override
    def detector(self) -> Detector:
        return Ears()

    @override
    def utterance(self, options: SpeechOptions, *, interim: bool) -> Utterance:
        self.check(options)

        def hear(window: Window, cancellation: Cancellation, *, guess: bool = False) -> Heard:
            return self.listen(window, options, cancellation, options.language, guess=guess)

        return Rehearing(RATE, hear, partial(hear, guess=True), interim=interim)

    def check(self, options: SpeechOptions) -> None:
        """Raise `EngineError` for what this model, of all that the engine can serve, cannot do."""
        if self._steps.whisper.is_multilingual:
            self._check_language(options.language)
            return
        if options.language not in (None, _ENGLISH):
            raise invalid(
                f"The model {self._name!r} understands English alone, not {options.language!r}.",
                param="language",
                code="unsupported_value",
            )
        if options.task is Task.TRANSLATE:
            raise invalid(
                f"The model {self._name!r} understands English alone, and has nothing to translate.",
                param="model",
                code="unsupported_value",
            )

    def _check_language(self, code: str | None) -> None:
        """Models before large-v3 have no word for some; the library would leave it out of the prompt."""
        if code is not None and self._steps.model.hf_tokenizer.token_to_id(f"<|{code}|>") is None:
            raise invalid(
                f"The model {self._name!r} does not understand {code!r}.",
                param="language",
                code="unsupported_value",
            )

    def _prompt(self, prompt: str, hotwords: str) -> list[int] | None:
        """The end of the prompt that has room beside the hotwords: the library gives each all there is."""
        room = self._steps.model.max_length // 2 - 1 - len(self._tokens(hotwords))
        return self._tokens(prompt)[-room:] or None if room > 0 else None

    def _tokens(self, hint: str) -> list[int]:
        """As the library makes them."""
        tokenizer = self._steps.model.hf_tokenizer
        found: list[int] = tokenizer.encode(f" {hint}", add_special_tokens=False).ids if hint else []
        return found

    def listen(
        self,
        window: Window,
        options: SpeechOptions,
        cancellation: Cancellation,
        language: str | None,
        *,
        guess: bool = False,
    ) -> "Heard":
        """What is said in a window; a `guess` is made in one try and without times."""
        careful: dict[str, Any] = {
            "beam_size": _BEAMS,
            "temperature": options.temperature or _TEMPERATURES,
            "word_timestamps": options.words,
        }
        hasty: dict[str, Any] = {"beam_size": 1, "temperature": 0.0, "without_timestamps": True}
        prompt, hotwords = (_MARKS.sub(" ", hint).strip() for hint in (options.prompt, options.hotwords))
        found, about = self._steps.for_request(cancellation).transcribe(
            samples(window.samples),
            language=language,
            task=options.task.value,
            initial_prompt=self._prompt(prompt, hotwords),
            hotwords=hotwords or None,
            condition_on_previous_text=False,
            **(hasty if guess else careful),
        )
        return Heard(found, window, about.language, sure=about.language_probability >= _SURE)


class Heard(Iterable[Segment]):
    """The segments of a window, computed as they are read. `language` is None where it is not plain."""

    def __init__(self, found: Iterable[Any], window: Window, language: str, *, sure: bool) -> None:
        self._found = found
        self._window = window
        self._language = language
        self.language = language if sure else None

    @override
    def __iter__(self) -> Iterator[Segment]:
        start = self._window.start
        for each in self._found:
            yield Segment(
                start=start + each.start,
                end=start + each.end,
                text=each.text,
                words=tuple(
                    Word(word.word.strip(), start + word.start, start + word.end) for word in each.words or ()
                ),
                language=self._language,
                tokens=tuple(each.tokens),
                temperature=each.temperature,
                avg_logprob=each.avg_logprob,
                no_speech_prob=each.no_speech_prob,
            )
