"""Divides the library's work into steps: requests take them together, and one whose client left takes none.

The library computes for one recording at a time. Between it and CTranslate2 stands what is here: encodings
and decodings that are asked for at the same time become one call, which a GPU does in the time of one.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel

from roundhouse_engine import Cancellation
from roundhouse_engine.errors import memory_is_short, no_memory_left
from roundhouse_engine.together import Together
from roundhouse_faster_whisper.weights import BEGIN

MOST: Final = 8
"""Windows in one batch."""

Storage = ctranslate2.StorageView


@dataclass(frozen=True, slots=True)
class Decoding:
    """What the library asks of `generate`, for one window."""

    encoded: Any
    prompt: Sequence[int]
    options: dict[str, Any]


class Steps:
    """CTranslate2's Whisper for all requests; `at_once` calls of it compute side by side."""

    def __init__(self, model: WhisperModel, at_once: int) -> None:
        self.model = model
        self.whisper = model.model
        self.begin = model.hf_tokenizer.token_to_id(BEGIN)
        # numpy, by which windows are joined, knows no bfloat16.
        most = 1 if "bfloat16" in self.whisper.compute_type else MOST
        # A CPU encodes one after the other a third quicker than all at once, which its caches do not hold.
        encoded = most if self.whisper.device == "cuda" else 1
        self.encode = Together[Any, Any](self._encode, most=encoded, at_once=at_once)
        self.decode = Together[Decoding, Any](self._decode, most=most, at_once=at_once)
        self.ahead = encoded
        """Windows of one recording at a time."""

    def for_request(self, cancellation: Cancellation) -> WhisperModel:
        """The library's model, with the same weights, whose steps are the request's."""
        mine = copy.copy(self.model)
        mine.model = _Own(self, cancellation)
        return mine

    def _encode(self, sounds: Sequence[Any]) -> Sequence[Any]:
        """On a GPU, too, the result is in the main memory, where windows part and meet again."""
        if len(sounds) == 1:
            return [self.whisper.encode(sounds[0], to_cpu=True)]
        encoded = np.asarray(self.whisper.encode(_joined(sounds), to_cpu=True))
        return [Storage.from_array(np.ascontiguousarray(each[None])) for each in encoded]

    def _decode(self, decodings: Sequence[Decoding]) -> Sequence[Any]:
        encoded = [each.encoded for each in decodings]
        prompts = [list(each.prompt) for each in decodings]
        joined = encoded[0] if len(encoded) == 1 else _joined(encoded)
        found: Sequence[Any] = self.whisper.generate(joined, prompts, **decodings[0].options)
        return found


class _Own:
    """One request's steps, with the names by which the library calls them."""

    def __init__(self, steps: Steps, cancellation: Cancellation) -> None:
        self._steps = steps
        self._cancellation = cancellation

    def encode(self, sound: Any, **_: object) -> Any:  # noqa: ANN401 - the library's own types are unknown
        with self._step():
            return self._steps.encode(sound, tuple(sound.shape), self._cancellation)

    def generate(self, encoded: Any, prompts: list[list[int]], **options: Any) -> list[Any]:  # noqa: ANN401
        (prompt,) = prompts
        # Of a batch, prompts are as long as each other, and what is said begins at the same place of each.
        key = (len(prompt), prompt.index(self._steps.begin), repr(sorted(options.items())))
        with self._step():
            return [self._steps.decode(Decoding(encoded, prompt, options), key, self._cancellation)]

    def detect_language(self, *args: Any) -> Any:  # noqa: ANN401
        with self._step():
            return self._steps.whisper.detect_language(*args)

    def align(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        with self._step():
            return self._steps.whisper.align(*args, **options)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._steps.whisper, name)

    @contextmanager
    def _step(self) -> Iterator[None]:
        self._cancellation.check()
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if memory_is_short(error):
                raise no_memory_left() from error
            raise


def _joined(parts: Sequence[Any]) -> Any:  # noqa: ANN401
    return Storage.from_array(np.concatenate([np.asarray(each) for each in parts]))
