"""What requests use beside a model and several models may share, adapters for instance: there while it fits.

Each thing is loaded by the first request that names it, stays for the next, and makes room as models do: what
was used longest ago, and nothing that is in use. It counts in the same budget; without one all of it stays.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from roundhouse_engine.errors import shelf_full
from roundhouse_engine.handler import Cancellation
from roundhouse_engine.memory import Memory, trim

Key = TypeVar("Key", bound=Hashable)
Thing = TypeVar("Thing")

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.05
"""How soon a request that waits for room is out of the queue once its client has left."""


@dataclass(frozen=True, slots=True)
class _Counted:
    """Where things are counted: asked in the loop alone."""

    memory: Memory
    loop: asyncio.AbstractEventLoop
    wait_seconds: float


class Shelf(Generic[Key, Thing]):
    """For all threads of a process. `load` may raise; `size` is what a loaded thing holds, in bytes."""

    def __init__(self, load: Callable[[Key], Thing], size: Callable[[Thing], int]) -> None:
        self._load = load
        self._size = size
        self._places: dict[Key, _Place[Thing]] = {}
        self._lock = threading.Lock()
        self._counted: _Counted | None = None

    def count_in(self, memory: Memory, loop: asyncio.AbstractEventLoop, wait_seconds: float) -> None:
        """From now on things are loaded only while `memory` has room, which is waited for so long."""
        self._counted = _Counted(memory, loop, wait_seconds)

    @contextlib.contextmanager
    def taken(self, key: Key, guess_bytes: int, cancellation: Cancellation) -> Iterator[Thing]:
        """The thing, which stays for as long as it is entered.

        `guess_bytes`: what it will hold, where it was not loaded yet. Raises what `load` does, `Cancelled`,
        and `EngineError` where what is in use leaves no room for it.
        """
        with self._lock:
            place = self._places.setdefault(key, _Place(guess_bytes))
        with place.used():
            try:
                yield self._there(key, place, cancellation)
            finally:
                self._tell(Memory.note)

    def _there(self, key: Key, place: "_Place[Thing]", cancellation: Cancellation) -> Thing:
        while not place.loading.acquire(timeout=_LOOK_SECONDS):
            cancellation.check()
        try:
            if place.thing is None:
                self._bring(key, place, cancellation)
            assert place.thing is not None  # noqa: S101 - it was just brought, and is in use
            return place.thing
        finally:
            place.loading.release()

    def _bring(self, key: Key, place: "_Place[Thing]", cancellation: Cancellation) -> None:
        self._enter(key, place, cancellation)
        try:
            begun = time.monotonic()
            thing = self._load(key)
            place.needed_bytes = self._size(thing)
            place.thing = thing
        except BaseException:
            place.counted_in = None
            self._tell(lambda memory: memory.leave(place))
            raise
        told = {"seconds": round(time.monotonic() - begun, 3), "bytes": place.needed_bytes}
        logger.info("%s loaded", key, extra=told)

    def _enter(self, key: Key, place: "_Place[Thing]", cancellation: Cancellation) -> None:
        """Returns once there is room, and the place has it."""
        counted = self._counted
        if counted is None:
            return
        place.wanted = not counted.memory.never_holds(place.needed_bytes)
        place.counted_in = counted.memory
        entering = asyncio.run_coroutine_threadsafe(counted.memory.enter(place), counted.loop)
        until = time.monotonic() + counted.wait_seconds
        while not entering.done():
            if cancellation.cancelled or time.monotonic() > until:
                place.wanted = False
                self._tell(Memory.note)
            with contextlib.suppress(TimeoutError):
                entering.result(_LOOK_SECONDS)
        if not entering.result():
            cancellation.check()
            raise shelf_full(str(key))

    def _tell(self, what: Callable[[Memory], None]) -> None:
        """In the loop, which may have ended by now."""
        counted = self._counted
        if counted is not None:
            with contextlib.suppress(RuntimeError):
                counted.loop.call_soon_threadsafe(what, counted.memory)


class _Place(Generic[Thing]):
    """One thing's, a tenant of the memory as models are."""

    def __init__(self, guess_bytes: int) -> None:
        self.needed_bytes = guess_bytes
        self.used_at = time.monotonic()
        self.wanted = True
        self.giving_way = False
        self.counted_in: Memory | None = None
        self.thing: Thing | None = None
        self.loading = threading.Lock()
        self._lock = threading.Lock()
        self._users = 0

    @property
    def idle(self) -> bool:
        return self._users == 0 and self.thing is not None

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                self.used_at = time.monotonic()

    def give_way(self) -> None:
        """At once, unless somebody uses it again meanwhile."""
        with self._lock:
            if not self.idle:
                return
            self.thing = None
        assert self.counted_in is not None  # noqa: S101 - it was the memory that asked
        self.counted_in.leave(self)
        threading.Thread(target=trim, daemon=True, name="trim").start()
