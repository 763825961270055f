"""From a description to a file of music, told in events. The file is written behind the request it answers.

So its megabytes cross to the server's process without being copied through the socket between them.
"""

import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO, Final

from roundhouse_engine.authoring import at_fault, kind_of, part_done
from roundhouse_engine.errors import EngineError, invalid, memory_is_short, no_memory_left
from roundhouse_engine.handler import Cancellation
from roundhouse_engine.large_json import loads
from roundhouse_engine.music import Composition, Music, MusicOptions
from roundhouse_engine.sound import encode
from roundhouse_engine.text_events import Composed, Composing

_AXES: Final = 2
_CHANNELS: Final = (1, 2)
_LOWEST, _HIGHEST = 8_000, 192_000
"""Samples of a channel a second."""
_STEP: Final = 0.01
"""Of the work, between two tellings of how far it is."""


def compose(handler: Music, file: BinaryIO, cancellation: Cancellation) -> Iterator[Composing | Composed]:
    """How far it is, again and again, and at last where in `file` the music lies."""
    file.seek(0)
    told = loads(file.read())
    options = MusicOptions(_duration(handler, told["duration_seconds"]), **told["options"])
    work = _Work(handler, told["prompt"], options, cancellation)
    yield from work.parts()
    made = _checked(handler, work.result())
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


def _checked(handler: Music, made: Any) -> Composition:  # noqa: ANN401 - whatever an author gave
    """Raises `EngineError` for what is no music of one or two channels."""
    if not isinstance(made, Composition):
        raise at_fault(handler, "compose", f"gave {kind_of(made)}, where a Composition is wanted")
    shape: tuple[int, ...] = getattr(made.samples, "shape", ())
    if len(shape) != _AXES or shape[0] not in _CHANNELS:
        wanted = "where an array of [channels, samples] with one or two channels is wanted"
        raise at_fault(handler, "compose", f"gave samples as {kind_of(made.samples)}, {wanted}")
    rate: Any = made.sample_rate
    if isinstance(rate, str) or not _LOWEST <= rate <= _HIGHEST:
        wanted = f"where a rate from {_LOWEST} to {_HIGHEST} Hz is wanted"
        raise at_fault(handler, "compose", f"gave a sample_rate of {rate!r:.60}, {wanted}")
    return replace(made, sample_rate=int(made.sample_rate), tokens=int(made.tokens))


class _Work:
    """The handler in a thread of its own, so that its calls of `progress` can be told as they come."""

    def __init__(
        self, handler: Music, prompt: str, options: MusicOptions, cancellation: Cancellation
    ) -> None:
        self._handler = handler
        self._parts: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._told = 0.0
        self._found: Any = None
        self._raised: BaseException | None = None
        arguments: Any = (prompt, options, cancellation)
        threading.Thread(target=self._run, args=arguments, daemon=True, name="compose").start()

    def _run(self, prompt: str, options: MusicOptions, cancellation: Cancellation) -> None:
        try:
            self._found = self._handler.compose(prompt, options, self._tell, cancellation)
        except BaseException as error:  # noqa: BLE001 - raised again by `result`, where the request is
            self._raised = error
        self._parts.put(None)

    def _tell(self, told: float) -> None:
        part = part_done(self._handler, "compose", told)
        if part >= self._told + _STEP:
            self._told = part
            self._parts.put(part)

    def parts(self) -> Iterator[Composing]:
        while (part := self._parts.get()) is not None:
            yield Composing(part)

    def result(self) -> Any:  # noqa: ANN401 - whatever an author gave
        """Raises what the handler did, and `EngineError` where memory was short."""
        error, self._raised = self._raised, None
        if error is None:
            return self._found
        try:
            if isinstance(error, Exception) and not isinstance(error, EngineError) and memory_is_short(error):
                raise no_memory_left() from error
            raise error
        finally:
            # Its frames hold this work, and all that the handler computed with: in a circle that would stay
            # until Python looks for some, which counts objects and not megabytes.
            del error
