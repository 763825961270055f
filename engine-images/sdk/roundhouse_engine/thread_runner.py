"""Runs a handler in threads of the server: for libraries that let go of Python's lock while they compute."""

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import BinaryIO

from roundhouse_engine.events import Event, Loaded, LoadFailed, Work
from roundhouse_engine.handler import Cancellation, Handler, ModelSpec
from roundhouse_engine.memory import trim
from roundhouse_engine.pipeline import compute, load, prepare

logger = logging.getLogger(__name__)


class SharedHandlers:
    """One set of handlers for all threads; whoever comes first loads it, nobody once it was unloaded.

    Where that fails all are told so: to try again takes new handlers.
    """

    def __init__(self, handler: type[Handler], models: tuple[ModelSpec, ...]) -> None:
        prepare(handler)
        self._handler = handler
        self._models = models
        self._lock = threading.Lock()
        self._loaded: dict[str, Handler] = {}
        self._seconds = 0.0
        self._failed: LoadFailed | None = None
        self._over = False
        self._changed = threading.Condition()
        self._computing = 0

    def load(self, tell: Callable[[Event], None]) -> None:
        with self._lock:
            if self._over:
                return
            if self._failed is not None:
                tell(self._failed)
            elif self._loaded:
                tell(Loaded(self._seconds))
            else:
                self._load(tell)

    def _load(self, tell: Callable[[Event], None]) -> None:
        def told(event: Event) -> None:
            if isinstance(event, LoadFailed):
                self._failed = event
            tell(event)

        begun = time.monotonic()
        self._loaded = load(self._handler, self._models, told, shared=True)
        self._seconds = time.monotonic() - begun

    def unload(self) -> None:
        """Drop all handlers for good; blocks while they are loaded, compute, and free what they hold.

        Work that never stops is waited for without end: it holds its memory for as long.
        """
        with self._lock:
            self._over = True
            with self._changed:
                self._changed.wait_for(lambda: not self._computing)
            while self._loaded:
                model, handler = self._loaded.popitem()
                try:
                    handler.unload()
                except BaseException:
                    logger.exception("model was not freed as a whole", extra={"model": model})
        trim()

    @contextlib.contextmanager
    def computing(self, model: str) -> Iterator[Handler]:
        """The handler, which is not unloaded meanwhile; raises `KeyError` once it was."""
        with self._changed:
            self._computing += 1
        try:
            yield self._loaded[model]
        finally:
            with self._changed:
                self._computing -= 1
                self._changed.notify_all()


class ThreadRunner:
    """One request at a time in a daemon thread, so that work that does not stop cannot hold up the exit."""

    def __init__(self, handlers: SharedHandlers) -> None:
        self._handlers = handlers
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._cancellation = Cancellation()

    async def events(self) -> AsyncGenerator[Event, None]:
        threading.Thread(target=self._handlers.load, args=(self._tell,), daemon=True, name="load").start()
        while True:
            yield await self._events.get()

    def begin(self, ask: Work, file: BinaryIO) -> None:
        self._cancellation = Cancellation()
        # Its own descriptor: the request may end, and close its file, before the computation has stopped.
        own = os.fdopen(os.dup(file.fileno()), "rb")
        threading.Thread(target=self._compute, args=(ask, own, self._cancellation), daemon=True).start()

    def cancel(self) -> None:
        self._cancellation.cancel()

    def kill(self) -> None:
        """A thread cannot be killed: its handler's next `check` ends it."""

    def obituary(self) -> str:
        return "the thread ended"

    def _compute(self, ask: Work, file: BinaryIO, cancellation: Cancellation) -> None:
        with file, self._handlers.computing(ask.model) as handler:
            for event in compute(handler, file, ask, cancellation):
                self._tell(event)

    def _tell(self, event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the engine ends, and nobody listens
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
