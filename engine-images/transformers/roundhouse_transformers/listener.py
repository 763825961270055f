"""Listens: windows of speech to segments of text, by Whisper's rules for what was not heard well.

A window is decoded again with more freedom where it comes out garbled, is left out where nobody seems to
speak, and is read in several goes where the model breaks off in the middle of a sentence.
"""

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from transformers import WhisperForConditionalGeneration

from roundhouse_engine import Cancellation, Segment, SpeechOptions, Task, Window, Word
from roundhouse_engine.ahead import ahead
from roundhouse_engine.cores import available_cores
from roundhouse_engine.errors import EngineError, invalid, memory_is_short, no_memory_left
from roundhouse_engine.formats import compression_ratio
from roundhouse_engine.together import Together
from roundhouse_engine.torch_memory import vram_bytes
from roundhouse_transformers.alignment import Aligner
from roundhouse_transformers.convoy import Convoy
from roundhouse_transformers.decoding import LONGEST, Decoded, Decoder, Decoding
from roundhouse_transformers.dividing import Spoken, divide
from roundhouse_transformers.loading import load
from roundhouse_transformers.repository import Repository
from roundhouse_transformers.settings import Settings
from roundhouse_transformers.sounds import RATE, Sounds
from roundhouse_transformers.vocabulary import read_vocabulary
from roundhouse_transformers.words import spell

logger = logging.getLogger(__name__)

_MOST: Final = 8
"""Windows in one batch."""
_ENGLISH: Final = "en"
_SURE: Final = 0.5

# Whisper's own: at 0, OpenAI's default, what is garbled is tried again up to 1.
_TEMPERATURES: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_LEAST_LOGPROB: Final = -1.0
_MOST_REPETITION: Final = 2.4
_NO_SPEECH: Final = 0.6
_SHORTEST_REST_SECONDS: Final = 0.5
_SHORT_SECONDS: Final = 1.0
_MOST_SHORT_GOES: Final = 8
"""A model that goes astray may break off after each word of what nobody said: of goes that came no further
than `_SHORT_SECONDS` a window gets so many. All others bring it to its end."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is left of a window, encoded. `start` is its place in the recording, in seconds."""

    sound: torch.Tensor
    start: float
    seconds: float
    language: str | None


@dataclass(frozen=True, slots=True)
class Heard:
    """A part's text, and how far in it the model broke off: None where it came to the end."""

    segments: Sequence[Spoken]
    rest: float | None
    decoded: Decoded
    temperature: float


class Listener:
    """Several threads may listen at once."""

    def __init__(self, repository: Repository, settings: Settings) -> None:
        self._name = repository.name
        self._loaded = load(repository, settings, WhisperForConditionalGeneration)
        model, self._device = self._loaded.model, self._loaded.device
        self._backend = self._loaded.tokenizer.backend_tokenizer
        self._vocabulary = read_vocabulary(repository, self._backend)
        self._timed = self._vocabulary.timed if settings.segments == "auto" else settings.segments == "model"
        self._aligner = Aligner(model, self._vocabulary)
        self._decoder = Decoder(model, self._vocabulary, self._device)
        gpu = self._device == "cuda"
        at_once = 1 if gpu else max(available_cores() // torch.get_num_threads(), 1)
        # A CPU encodes one after the other sooner than all at once; decoding waits for the weights' way.
        self._sounds = Sounds(repository, self._loaded, most=_MOST if gpu else 1, at_once=at_once)
        self._decode = Together[Decoding, Decoded](self._decoder.decode, most=_MOST, at_once=at_once)
        self._convoy = Convoy(_MOST)
        self.ahead = _MOST if gpu else 1
        """Windows of one recording that are heard at a time."""

    def vram_bytes(self) -> int | None:
        return vram_bytes(self._loaded.model, self._device)

    def warm_up(self) -> None:
        """Of a GPU alone: a CPU's first window takes no longer than others, and of a large model a minute."""
        if self._device == "cuda":
            second = Window(0.0, bytes(RATE * 2), RATE)
            for _ in self.transcribe(iter((second,)), SpeechOptions(temperature=1.0), Cancellation()):
                pass

    def check(self, options: SpeechOptions) -> None:
        """Raise `EngineError` for what this model, of all that the engine can serve, cannot do."""
        known = self._vocabulary.languages
        if options.language is not None and options.language not in (known or (_ENGLISH,)):
            understands = f"{len(known)} languages" if known else "English alone"
            raise invalid(
                f"The model {self._name!r} understands {understands}, not {options.language!r}.",
                param="language",
                code="unsupported_value",
            )
        if options.task is Task.TRANSLATE and not known:
            raise invalid(
                f"The model {self._name!r} understands English alone, and has nothing to translate.",
                param="model",
                code="unsupported_value",
            )

    def transcribe(
        self, windows: Iterator[Window], options: SpeechOptions, cancellation: Cancellation
    ) -> Iterator[Segment]:
        """The first window whose language is plain decides for those after it."""
        self.check(options)
        language = options.language or self._vocabulary.language
        told = self._told_before(options)
        for window in windows:
            language = yield from self._window(window, language, told, options, cancellation)
            if language is not None and self.ahead > 1:
                break

        def hear(window: Window) -> list[Segment]:
            return list(self._window(window, language, told, options, cancellation))

        for segments in ahead(hear, windows, self.ahead):
            yield from segments

    def _window(
        self,
        window: Window,
        language: str | None,
        told: Sequence[int],
        options: SpeechOptions,
        cancellation: Cancellation,
    ) -> Generator[Segment, None, str | None]:
        """Its segments, and the language once that is plain."""
        start, short = window.start, 0
        left = np.frombuffer(window.samples, "<i2").astype(np.float32) / np.float32(32768)
        while True:
            with _short_memory_told():
                with self._convoy.coming():
                    sound = self._sounds.encode(left, cancellation)
                    here, sure = self._language(sound, language, cancellation)
                self._convoy.complete(cancellation)
                part = Part(sound, start, len(left) / RATE, here)
                heard = self._hear(part, told, options, cancellation)
                found = self._segments(part, heard, options, cancellation)
            language = language or (here if sure else None)
            yield from found
            if heard.rest is None or part.seconds - heard.rest < _SHORTEST_REST_SECONDS:
                return language
            short += heard.rest < _SHORT_SECONDS
            if short == _MOST_SHORT_GOES:
                self._tell_left_out(start + heard.rest, part.seconds - heard.rest)
                return language
            start, left = start + heard.rest, left[round(heard.rest * RATE) :]

    def _tell_left_out(self, start: float, seconds: float) -> None:
        logger.warning(
            "the model broke off %d times within %.1f s: the last %.1f s of a window, from %.1f s of the "
            "recording on, are left out",
            _MOST_SHORT_GOES,
            _SHORT_SECONDS,
            seconds,
            start,
            extra={"model": self._name},
        )

    def _told_before(self, options: SpeechOptions) -> list[int]:
        """Hints as if they had been said before: the beginning of the hotwords, the end of the prompt."""
        most = LONGEST - 2
        hotwords, prompt = (self._tokens(text) for text in (options.hotwords, options.prompt))
        hotwords = hotwords[: most // 2]
        told = [*hotwords, *prompt[max(len(prompt) - most + len(hotwords), 0) :]]
        return [self._vocabulary.previous, *told] if told else []

    def _tokens(self, text: str) -> list[int]:
        if not text.strip():
            return []
        ids: list[int] = self._backend.encode(f" {text.strip()}", add_special_tokens=False).ids
        return [each for each in ids if each < self._vocabulary.end]

    def _language(
        self, sound: torch.Tensor, known: str | None, cancellation: Cancellation
    ) -> tuple[str | None, bool]:
        """The code, and whether it is plain."""
        if known is not None or not self._vocabulary.languages:
            return known or _ENGLISH, True
        cancellation.check()
        code, chance = self._decoder.language(sound)
        return code, chance >= _SURE

    def _hear(
        self, part: Part, told: Sequence[int], options: SpeechOptions, cancellation: Cancellation
    ) -> Heard:
        opening = self._vocabulary.opening(part.language, options.task.value, timed=self._timed)
        asked = Decoding(part.sound, (*told, *opening), 0.0, self._timed, cancellation)
        temperatures = (options.temperature,) if options.temperature else _TEMPERATURES
        for temperature in temperatures:
            asked = replace(asked, temperature=temperature)
            decoded = self._decode(asked, asked.key, cancellation)
            cancellation.check()
            unsure = decoded.avg_logprob < _LEAST_LOGPROB
            if unsure and decoded.no_speech_prob > _NO_SPEECH:
                return Heard((), None, decoded, temperature)
            if not unsure and compression_ratio(self._text(decoded.tokens)) <= _MOST_REPETITION:
                break
        tokens = decoded.tokens
        if not self._timed:  # it may write times all the same
            tokens = tuple(token for token in tokens if token < self._vocabulary.end)
        segments, rest = divide(tokens, part.seconds, self._vocabulary.seconds, whole=decoded.whole)
        if rest is None and not decoded.whole:
            logger.warning(
                "an answer was cut at %d tokens, with no time stamp to go on from: a window, from %.1f s of "
                "the recording on, may lack its end",
                len(decoded.tokens),
                part.start,
                extra={"model": self._name},
            )
        return Heard(segments, rest, decoded, temperature)

    def _segments(
        self, part: Part, heard: Heard, options: SpeechOptions, cancellation: Cancellation
    ) -> list[Segment]:
        words = self._words(part, heard, options, cancellation) if options.words and heard.segments else {}
        return [
            Segment(
                start=part.start + spoken.start,
                end=part.start + spoken.end,
                text=self._text(spoken.tokens),
                words=words.get(number, ()),
                language=part.language,
                tokens=spoken.tokens,
                temperature=heard.temperature,
                avg_logprob=heard.decoded.avg_logprob,
                no_speech_prob=heard.decoded.no_speech_prob,
            )
            for number, spoken in enumerate(heard.segments)
            if self._text(spoken.tokens).strip()
        ]

    def _words(
        self, part: Part, heard: Heard, options: SpeechOptions, cancellation: Cancellation
    ) -> dict[int, tuple[Word, ...]]:
        """Of each segment, by its number."""
        cancellation.check()
        opening = self._vocabulary.opening(part.language, options.task.value, timed=False)
        text = [token for spoken in heard.segments for token in spoken.tokens]
        times = self._aligner.times(part.sound, opening, text, part.seconds)
        language = _ENGLISH if options.task is Task.TRANSLATE else part.language
        places = np.cumsum([0, *(len(spoken.tokens) for spoken in heard.segments)]).tolist()
        return {
            number: tuple(
                Word(
                    word.text.strip(),
                    part.start + times[word.first + first],
                    part.start + times[word.end + first],
                )
                for word in spell(text[first:end], self._text, language)
            )
            for number, (first, end) in enumerate(pairwise(places))
        }

    def _text(self, tokens: Sequence[int]) -> str:
        known = [token for token in tokens if token < self._vocabulary.end]
        return str(self._backend.decode(known, skip_special_tokens=False))


@contextmanager
def _short_memory_told() -> Iterator[None]:
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        if memory_is_short(error):
            raise no_memory_left() from error
        raise
