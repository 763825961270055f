"""What requests use beside a model and several models may share, adapters for instance: there while it fits.

Each thing is loaded by the first request that names it, stays for the next, and makes room as models do: what
was used longest ago, and nothing that is in use. It counts in the same budget; without one all of it stays.
"""

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

from roundhouse_engine.errors import Refusal, refused, shelf_full, shelf_too_small
from roundhouse_engine.handler import Cancellation
from roundhouse_engine.memory import Memory, trim

Key = TypeVar("Key", bound=Hashable)
Thing = TypeVar("Thing")

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.05
"""How soon a request that waits for room is out of the queue once its client has left."""
_STILL_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class _Counted:
    """Where things are counted: changed in the loop alone."""

    memory: Memory
    loop: asyncio.AbstractEventLoop
    wait_seconds: float

    def tell(self, what: Callable[[Memory], object]) -> bool:
        """In the loop; False where that has ended."""
        try:
            self.loop.call_soon_threadsafe(what, self.memory)
        except RuntimeError:
            return False
        return True


class Shelf(Generic[Key, Thing]):
    """For all threads of a process. `load` may raise; `size` is what a loaded thing holds, in bytes."""

    def __init__(self, load: Callable[[Key], Thing], size: Callable[[Thing], int]) -> None:
        self._load = load
        self._size = size
        self._places: dict[Key, _Place[Thing]] = {}
        self._lock = threading.Lock()
        self._counted: _Counted | None = None
        self._moved = threading.Condition()
        self._loading = self._measuring = 0

    @contextlib.contextmanager
    def still(self) -> Iterator[int]:
        """What all of it holds, in bytes; nothing is loaded meanwhile, and what is being loaded waited for.

        Not for ever: what hangs is left out of the sum.
        """
        with self._moved:
            self._measuring += 1
            self._moved.wait_for(lambda: not self._loading, _STILL_SECONDS)
        try:
            with self._lock:
                places = list(self._places.values())
            yield sum(place.needed_bytes for place in places if place.thing is not None)
        finally:
            with self._moved:
                self._measuring -= 1
                self._moved.notify_all()

    @contextlib.contextmanager
    def _moving(self) -> Iterator[None]:
        with self._moved:
            self._moved.wait_for(lambda: not self._measuring)
            self._loading += 1
        try:
            yield
        finally:
            with self._moved:
                self._loading -= 1
                self._moved.notify_all()

    def count_in(self, memory: Memory, loop: asyncio.AbstractEventLoop, wait_seconds: float) -> None:
        """From now on things are loaded only while `memory` has room, which is waited for so long.

        What was there before is forgotten: it counts nowhere.
        """
        with self._lock:
            self._places = {}
            self._counted = _Counted(memory, loop, wait_seconds)

    def clear(self) -> None:
        """The server ends: everything goes once nobody uses it, and what comes later counts nowhere."""
        with self._lock:
            self._places = {}
            self._counted = None

    @contextlib.contextmanager
    def taken(self, key: Key, guess_bytes: int, model: str, cancellation: Cancellation) -> Iterator[Thing]:
        """The thing, which stays for as long as it is entered.

        `guess_bytes`: what it will hold, where it was not loaded yet. `model`: the one that the request uses,
        which cannot make room for it. Raises what `load` does, `Cancelled`, and `EngineError` where what is
        in use leaves no room for it: at once where that is the model.
        """
        with self._lock:
            place = self._places.setdefault(key, _Place(guess_bytes, self._counted))
        try:
            with place.used():
                yield self._there(key, place, model, cancellation)
        finally:
            place.tell(Memory.note)  # after the use: who looks sooner finds it in use, and is told no more

    def _there(self, key: Key, place: "_Place[Thing]", model: str, cancellation: Cancellation) -> Thing:
        while not place.loading.acquire(timeout=_LOOK_SECONDS):
            _check(key, place, model, cancellation)
        try:
            if place.thing is None:
                self._bring(key, place, model, cancellation)
            assert place.thing is not None  # noqa: S101 - it was just brought, and is in use
            return place.thing
        finally:
            place.loading.release()

    def _bring(self, key: Key, place: "_Place[Thing]", model: str, cancellation: Cancellation) -> None:
        if place.counted is not None:
            _enter(key, place, model, place.counted, cancellation)
        try:
            begun = time.monotonic()
            with self._moving():
                thing = self._load(key)
                place.needed_bytes = self._size(thing)
                place.thing = thing
        except BaseException:
            place.tell(lambda memory: memory.leave(place))
            raise
        told = {"seconds": round(time.monotonic() - begun, 3), "bytes": place.needed_bytes}
        logger.info("%s loaded", key, extra=told)


def _check(key: Hashable, place: "_Place[Any]", model: str, cancellation: Cancellation) -> None:
    """Raises where waiting is in vain: nobody waits, or the model alone leaves too little room for good."""
    cancellation.check()
    if place.thing is not None or place.counted is None:
        return
    memory, needed_bytes = place.counted.memory, place.needed_bytes
    model_bytes = memory.model_bytes(model)
    if memory.budget_bytes is not None and memory.never_holds(needed_bytes + model_bytes):
        raise shelf_too_small(str(key), needed_bytes, model, model_bytes, memory.budget_bytes)


def _enter(
    key: Hashable, place: "_Place[Any]", model: str, counted: _Counted, cancellation: Cancellation
) -> None:
    """Returns once there is room, and the place has it. Ends in time whatever becomes of the loop."""
    check = partial(_check, key, place, model, cancellation)
    check()
    answer = concurrent.futures.Future[None]()

    def ask(memory: Memory) -> None:
        entering = asyncio.create_task(_entered(memory, place, answer))
        answer.add_done_callback(lambda _: counted.tell(lambda _: entering.cancel()))

    if not counted.tell(ask):
        raise refused(Refusal.DRAINING)
    try:
        _answered(answer, str(key), counted.wait_seconds, check)
    except BaseException:
        if not answer.cancel():  # room came at the last moment
            place.tell(lambda memory: memory.leave(place))
        raise


def _answered(
    answer: "concurrent.futures.Future[None]", thing: str, wait_seconds: float, check: Callable[[], None]
) -> None:
    until = time.monotonic() + wait_seconds
    while not answer.done():
        if time.monotonic() > until:
            raise shelf_full(thing)
        concurrent.futures.wait([answer], _LOOK_SECONDS)
        check()
    if answer.cancelled():
        raise refused(Refusal.DRAINING)


async def _entered(memory: Memory, place: "_Place[Any]", answer: "concurrent.futures.Future[None]") -> None:
    """Answers once the place is in; takes nothing where the thread that asked has given up meanwhile."""
    try:
        if not answer.cancelled() and await memory.enter(place):
            answer.set_result(None)
    except concurrent.futures.InvalidStateError:
        memory.leave(place)
    finally:
        answer.cancel()


class _Place(Generic[Thing]):
    """One thing's, a tenant of the memory as models are."""

    model_name: Final = None
    wanted: Final = True
    giving_way: Final = False

    def __init__(self, guess_bytes: int, counted: _Counted | None) -> None:
        self.needed_bytes = guess_bytes
        self.counted = counted
        self.used_at = time.monotonic()
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

    def tell(self, what: Callable[[Memory], None]) -> None:
        if self.counted is not None:
            self.counted.tell(what)

    def give_way(self) -> None:
        """At once, unless somebody uses it again meanwhile."""
        with self._lock:
            if not self.idle:
                return
            self.thing = None
        assert self.counted is not None  # noqa: S101 - it was the memory that asked
        self.counted.memory.leave(self)
        threading.Thread(target=trim, daemon=True, name="trim").start()
