"""Loads handlers and computes with them, told in events; what is in the middle each kind of work has itself.

The same code runs in a thread of the server and in a child process. It knows nothing of HTTP.
"""

import contextlib
import importlib
import logging
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import BinaryIO, TypeVar

from roundhouse_engine.accelerator import ACCELERATOR
from roundhouse_engine.authoring import part_done
from roundhouse_engine.errors import EngineError, failed, memory_is_short, no_memory_left
from roundhouse_engine.events import (
    Ask,
    Done,
    Event,
    Failed,
    Loaded,
    LoadFailed,
    Loading,
    Memory,
    Stopped,
    Work,
    ends,
)
from roundhouse_engine.handler import Cancellation, Cancelled, Handler, ModelError, ModelSpec
from roundhouse_engine.memory import resident_bytes, trim
from roundhouse_engine.music import Music
from roundhouse_engine.speech import Speech
from roundhouse_engine.text import Batched, Chat
from roundhouse_engine.writing import write

logger = logging.getLogger(__name__)

H = TypeVar("H", bound=Handler)


def load(
    handler: type[H],
    models: tuple[ModelSpec, ...],
    tell: Callable[[Event], None],
    *,
    shared: bool = False,
) -> dict[str, H]:
    """An instance for each model, loaded, telling of progress; empty after it told `LoadFailed`.

    `shared`: the process is not the models' alone, so that what it holds already is not theirs.
    """
    begun = time.monotonic()
    try:
        for module in handler.imports:
            importlib.import_module(module)
    # A library that exits, or panics in another language, would end the thread and tell nobody.
    except BaseException as error:
        logger.exception("engine cannot be imported", extra={"handler": handler.__name__})
        said = f"{handler.__name__} cannot be imported: {type(error).__name__}: {_one_line(error)}"
        tell(LoadFailed(said))
        return {}
    before_bytes = _own_bytes(handler) if shared else 0
    instances = {}
    for model in models:
        tell(Loading(model.name, 0.0))
        read = False
        try:
            instance = handler()
            instance.load(model, partial(_loading, instance, model.name, tell))
            read = True
            instance.warm_up()
        except ModelError as error:
            ACCELERATOR.note(error)
            tell(LoadFailed(_one_line(error)))
            return {}
        except BaseException as error:
            logger.exception("model failed to load", extra={"model": model.name})
            ACCELERATOR.note(error)
            tell(LoadFailed(_unforeseen(model, error, read)))
            return {}
        tell(Loading(model.name, 1.0))
        for event in _memory(instance, model.name):
            tell(event)
        instances[model.name] = instance
    trim()
    seconds = time.monotonic() - begun
    logger.info("models loaded", extra={"models": list(instances), "seconds": round(seconds, 3)})
    tell(Loaded(seconds, max(_own_bytes(handler) - before_bytes, 0)))
    return instances


def _own_bytes(handler: type[Handler]) -> int:
    """What the process holds but for what requests have put on the shelf, also while models are loaded."""
    if handler.shelf is None:
        return resident_bytes()
    with handler.shelf.still() as shelf_bytes:
        return resident_bytes() - shelf_bytes


def _loading(handler: Handler, model: str, tell: Callable[[Event], None], part: float) -> None:
    try:
        tell(Loading(model, part_done(handler, "load", part)))
    except EngineError as error:
        raise ModelError(str(error)) from error


def _unforeseen(model: ModelSpec, error: BaseException, read: bool) -> str:
    """What, where and what to do, where the handler has no words of its own. `read`: it was warming up."""
    what = f"{model.name!r} cannot be loaded" + (f" from {str(model.path)!r}" if model.path else "")
    if memory_is_short(error):
        return f"{what}: there is not enough memory. Give the engine more, or serve a smaller model."
    told = f"{type(error).__name__}: {_one_line(error)}. "
    if read:
        return f"{model.name!r} was read, and its first work failed: {told}Above is where it happened."
    return (
        f"{what}: {told}Its files may be damaged, or of a kind "
        "that this engine does not serve: fetch them again, or others. Above is where it happened."
    )


def _one_line(error: BaseException) -> str:
    """A log's last line is all that many see of it."""
    return " ".join(str(error).split())


def compute(handler: Handler, file: BinaryIO, ask: Work, cancellation: Cancellation) -> Iterator[Event]:
    """The events of one request; the last is `Done`, `Failed` or `Stopped`, whatever happens."""
    with contextlib.closing(_whole(handler, file, ask, cancellation)) as events:
        while True:
            try:
                event = next(events)
            # A library that exits, or panics in another language, ends the request and not the engine.
            except BaseException as error:  # noqa: BLE001 - told and logged by `_end`
                event = _end(error, ask.model)
            yield event  # apart from what is caught: whoever listens no more ends this here
            if ends(event):
                return


def _whole(
    handler: Handler, file: BinaryIO, ask: Work, cancellation: Cancellation
) -> Generator[Event, None, None]:
    begun = time.monotonic()
    yield from _middle(handler, file, ask, cancellation)
    cancellation.check()
    yield from _memory(handler, ask.model)
    yield Done(time.monotonic() - begun)


def _end(error: BaseException, model: str) -> Failed | Stopped:
    """What whoever waits is told of the error."""
    if isinstance(error, Cancelled):
        return Stopped()
    ACCELERATOR.note(error)
    if isinstance(error, EngineError):
        return Failed(error.problem)
    logger.error("request failed", extra={"model": model}, exc_info=error)
    told = f"The engine failed while it computed ({type(error).__name__})."
    return Failed((no_memory_left() if memory_is_short(error) else failed(told)).problem)


def prepare(handler: type[Handler]) -> None:
    """Import what the kind of work needs, and no other: an engine of texts has no decoder of audio.

    Before anything is loaded, because no first request shall wait for it, and in the process's first thread.
    """
    for kind, module in ((Speech, "recording"), (Batched, "batch"), (Music, "composing")):
        if issubclass(handler, kind):
            importlib.import_module(f"roundhouse_engine.{module}")


def _middle(handler: Handler, file: BinaryIO, ask: Work, cancellation: Cancellation) -> Iterator[Event]:
    """Each route asks its own kind of handler."""
    if isinstance(ask, Ask):
        from roundhouse_engine.recording import transcribe  # noqa: PLC0415 - see `prepare`

        assert isinstance(handler, Speech)  # noqa: S101
        return transcribe(handler, file, ask, cancellation)
    if isinstance(handler, Chat):
        return write(handler, file, ask, cancellation)
    if isinstance(handler, Music):
        from roundhouse_engine.composing import compose  # noqa: PLC0415 - see `prepare`

        return compose(handler, file, cancellation)
    from roundhouse_engine.batch import compute_batch  # noqa: PLC0415 - see `prepare`

    assert isinstance(handler, Batched)  # noqa: S101
    return compute_batch(handler, file, ask, cancellation)


def _memory(handler: Handler, model: str) -> Iterator[Memory]:
    """What the handler says of its memory; a handler that fails to say it serves all the same."""
    try:
        told = handler.vram_bytes()
        vram_bytes = None if told is None else int(told)
    except BaseException:
        logger.exception("GPU memory could not be read", extra={"model": model})
        return
    if vram_bytes is not None:
        yield Memory(model, vram_bytes)
