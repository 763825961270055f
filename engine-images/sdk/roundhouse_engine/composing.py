"""From a description to a file of music, told in events. The file is written behind the request it answers.

So its megabytes cross to the server's process without being copied through the socket between them.
"""

import os
import queue
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from roundhouse_engine.errors import EngineError, invalid, memory_is_short, no_memory_left
from roundhouse_engine.handler import Cancellation
from roundhouse_engine.large_json import loads
from roundhouse_engine.music import Composition, Music, MusicOptions
from roundhouse_engine.sound import encode
from roundhouse_engine.text_events import Composed, Composing

_STEP: Final = 0.01
"""Of the work, between two tellings of how far it is."""


def compose(handler: Music, file: BinaryIO, cancellation: Cancellation) -> Iterator[Composing | Composed]:
    """How far it is, again and again, and at last where in `file` the music lies."""
    file.seek(0)
    told = loads(file.read())
    options = MusicOptions(_duration(handler, told["duration_seconds"]), **told["options"])
    work = _Work(handler, told["prompt"], options, cancellation)
    yield from work.parts()
    made = work.result()
    samples = made.samples[:, : round(options.duration_seconds * made.sample_rate)]
    music = encode(samples, made.sample_rate, told["format"], cancellation.check)
    start = os.fstat(file.fileno()).st_size
    written = 0
    while written < len(music):
        written += os.pwrite(file.fileno(), music[written:], start + written)
    seconds = samples.shape[1] / made.sample_rate
    yield Composed(seconds, made.sample_rate, len(samples), made.tokens, start, len(music))


def _duration(handler: Music, wanted: float | None) -> float:
    limit = handler.limit_seconds()
    if wanted is None:
        return min(handler.default_seconds, limit)
    if wanted > limit:
        raise invalid(f"Duration {wanted:g}s exceeds model limit of {limit:g}s", param="duration")
    return wanted


class _Work:
    """The handler in a thread of its own, so that its calls of `progress` can be told as they come."""

    def __init__(
        self, handler: Music, prompt: str, options: MusicOptions, cancellation: Cancellation
    ) -> None:
        self._parts: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._told = 0.0
        self._found: Composition | BaseException | None = None
        arguments: Any = (handler, prompt, options, cancellation)
        threading.Thread(target=self._run, args=arguments, daemon=True, name="compose").start()

    def _run(self, handler: Music, prompt: str, options: MusicOptions, cancellation: Cancellation) -> None:
        try:
            self._found = handler.compose(prompt, options, self._tell, cancellation)
        except BaseException as error:  # noqa: BLE001 - raised again by `result`, where the request is
            self._found = error
        self._parts.put(None)

    def _tell(self, part: float) -> None:
        if part >= self._told + _STEP:
            self._told = part
            self._parts.put(part)

    def parts(self) -> Iterator[Composing]:
        while (part := self._parts.get()) is not None:
            yield Composing(min(part, 1.0))

    def result(self) -> Composition:
        """Raises what the handler did, and `EngineError` where memory was short."""
        found = self._found
        if isinstance(found, Composition):
            return found
        if isinstance(found, Exception) and not isinstance(found, EngineError) and memory_is_short(found):
            raise no_memory_left() from found
        assert isinstance(found, BaseException)  # noqa: S101 - a handler gives a `Composition`, or raises
        raise found
