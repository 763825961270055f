"""The limits of keys, exact over the workers of one gateway, without a store: a table that they share.

Each key has a slot: its minute, what was used of it, and for each worker how many requests it has running.
What is checked and then counted is so under a lock; a place is given back without, as nobody else writes it.
The supervisor clears what a worker that died had running. A minute's requests stay counted: they were let
through.
"""

import hashlib
import struct
from collections.abc import Callable
from math import ceil
from typing import Final

from typing_extensions import override

from roundhouse_gateway.guard_errors import LimitsUnavailableError
from roundhouse_gateway.limits import WINDOW_SECONDS, KeyLimits, Standing
from roundhouse_gateway.workers.lock import Lock

SLOTS: Final = 1 << 16
PROBES: Final = 128
"""A key that finds no slot among so many is refused, and not let through without its limit."""
_DIGEST: Final = struct.Struct("=qq")
_WINDOW, _USED, _RUNNING = 2, 3, 4


def size_of(workers: int, slots: int = SLOTS) -> int:
    """In bytes."""
    return 8 * slots * (_RUNNING + workers)


class KeyTable(KeyLimits):
    """As worker `own` of so many uses it. `clock` gives seconds since the epoch."""

    away = False

    def __init__(
        self, memory: memoryview, workers: int, own: int, lock: Lock, clock: Callable[[], float]
    ) -> None:
        self._cells = memory.cast("q")
        self._width = _RUNNING + workers
        self._slots = len(self._cells) // self._width
        self._own = _RUNNING + own
        self._lock = lock
        self._clock = clock
        self._found: dict[str, tuple[int, int, int]] = {}

    @override
    async def standing(self, key_id: str, per_minute: int) -> Standing:
        now = self._clock()
        with self._lock:
            return self._standing(self._slot(key_id, int(now // WINDOW_SECONDS)), per_minute, now)

    @override
    async def take(self, key_id: str, per_minute: int) -> tuple[bool, Standing]:
        return self.take_now(key_id, per_minute)

    @override
    def take_now(self, key_id: str, per_minute: int) -> tuple[bool, Standing]:
        now, cells = self._clock(), self._cells
        with self._lock:
            slot = self._slot(key_id, int(now // WINDOW_SECONDS))
            allowed = cells[slot + _USED] < per_minute
            if allowed:
                cells[slot + _USED] += 1
            return allowed, self._standing(slot, per_minute, now)

    @override
    async def begin(self, key_id: str, at_once: int) -> bool:
        return self.begin_now(key_id, at_once)

    @override
    def begin_now(self, key_id: str, at_once: int) -> bool:
        cells = self._cells
        with self._lock:
            slot = self._slot(key_id, int(self._clock() // WINDOW_SECONDS))
            if self._running(slot) >= at_once:
                return False
            cells[slot + self._own] += 1
            return True

    @override
    def admit_now(self, key_id: str, at_once: int | None, per_minute: int | None) -> Standing | bool:
        now, cells = self._clock(), self._cells
        with self._lock:
            slot = self._slot(key_id, int(now // WINDOW_SECONDS))
            if at_once is not None and self._running(slot) >= at_once:
                return False
            if per_minute is not None and cells[slot + _USED] >= per_minute:
                return False
            cells[slot + self._own] += at_once is not None
            if per_minute is None:
                return True
            cells[slot + _USED] += 1
            return self._standing(slot, per_minute, now)

    @override
    def end(self, key_id: str) -> None:
        # A slot with a request that runs is nobody else's.
        found = self._found.get(key_id)
        slot = found[0] if found and self._is_of(*found) else self._look_up(key_id)
        if slot is not None and self._cells[slot + self._own]:
            self._cells[slot + self._own] -= 1

    def forget_worker(self, worker: int) -> None:
        """Gives back all places that it held. For the supervisor, once it is gone."""
        cells = self._cells
        with self._lock:
            for place in range(_RUNNING + worker, len(cells), self._width):
                if cells[place]:
                    cells[place] = 0

    def _slot(self, key_id: str, window: int) -> int:
        """That of the key, in this minute. Under the lock."""
        found = self._found.get(key_id)
        if found is None or not self._is_of(*found):
            found = self._claim(key_id, window)
        slot, cells = found[0], self._cells
        if cells[slot + _WINDOW] < window:
            cells[slot + _WINDOW], cells[slot + _USED] = window, 0
        return slot

    def _is_of(self, slot: int, first: int, second: int) -> bool:
        return self._cells[slot] == first and self._cells[slot + 1] == second

    def _look_up(self, key_id: str) -> int | None:
        first, second = _digest(key_id)
        return next((slot for slot in self._probes(first) if self._is_of(slot, first, second)), None)

    def _claim(self, key_id: str, window: int) -> tuple[int, int, int]:
        first, second = _digest(key_id)
        slot = self._look_up(key_id)
        if slot is None:
            slot = next((each for each in self._probes(first) if self._is_free(each, window)), None)
            if slot is None:
                raise LimitsUnavailableError
            self._cells[slot], self._cells[slot + 1] = first, second
            self._cells[slot + _WINDOW] = self._cells[slot + _USED] = 0
        if len(self._found) >= self._slots:
            self._found.clear()
        found = self._found[key_id] = slot, first, second
        return found

    def _is_free(self, slot: int, window: int) -> bool:
        """Of nobody, or of a key that was not used for a window."""
        return self._cells[slot + _WINDOW] < window and not self._running(slot)

    def _probes(self, first: int) -> list[int]:
        return [(first + step) % self._slots * self._width for step in range(min(PROBES, self._slots))]

    def _running(self, slot: int) -> int:
        return sum(self._cells[slot + _RUNNING : slot + self._width])

    def _standing(self, slot: int, per_minute: int, now: float) -> Standing:
        reset = ceil((self._cells[slot + _WINDOW] + 1) * WINDOW_SECONDS - now)
        return Standing(per_minute, max(0, per_minute - self._cells[slot + _USED]), max(1, reset))


def _digest(key_id: str) -> tuple[int, int]:
    first, second = _DIGEST.unpack(hashlib.blake2b(key_id.encode(), digest_size=16).digest())
    return first, second
