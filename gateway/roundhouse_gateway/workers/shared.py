"""All that the workers of one gateway share: made by their supervisor before any of them, inherited by all.

Memory is reserved, not taken: a page costs something once there is something on it.
"""

import mmap
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from roundhouse_gateway.workers.arena import Arena, Row
from roundhouse_gateway.workers.book import waiting_row
from roundhouse_gateway.workers.key_table import SLOTS, KeyTable, size_of
from roundhouse_gateway.workers.lock import SIZE as LOCK_BYTES
from roundhouse_gateway.workers.lock import Lock
from roundhouse_gateway.workers.processes import Processes
from roundhouse_gateway.workers.series import MARK

ARENA_BYTES: Final = 192 << 20
"""Past what all series that a gateway may have take, with the load of some ten thousand variants."""
CONNECTIONS: Final = f"roundhouse_gateway_connections{MARK}"
"""The row of that gauge, which has no labels: there from the beginning, and found without a lock."""
LOCK_SECONDS: Final = 0.2
"""How long the supervisor waits for a lock, which is held for microseconds by who does not hang."""
SILENT_SECONDS: Final = 1.0
"""Of a worker that beats ten times a second."""
_PAGE: Final = 4096
_NO_RESERVE: Final = 0x4000
"""`MAP_NORESERVE`, which Python names from 3.13 on."""
_WORKER: Final = "worker"
_ENDED: Final = "ended"


class State(IntEnum):
    """Of one worker. `REPLACED`: it has ended, and its successor has not read the cluster yet."""

    ABSENT = 0
    STARTING = 1
    READY = 2
    DRAINING = 3
    REPLACED = 4
    DRAINED = 5


class Post:
    """What a worker tells of itself, and the supervisor of those who had its place before."""

    def __init__(self, arena: Arena) -> None:
        self._cells = arena.cells
        self._own: Row = arena.row(_WORKER, 4, lasts=False)
        self._ended: Row = arena.row(_ENDED, 3, lasts=True)

    @property
    def state(self) -> State:
        return State(int(self._cells[self._own.at]))

    @state.setter
    def state(self, state: State) -> None:
        self._cells[self._own.at] = state

    @property
    def beat(self) -> float:
        """When it was heard last, by the machine's clock; 0 before it was."""
        return self._cells[self._own.at + 1]

    @beat.setter
    def beat(self, now: float) -> None:
        self._cells[self._own.at + 1] = now

    @property
    def taken(self) -> int:
        """Connections of clients that it was handed and has taken."""
        return int(self._cells[self._own.at + 2])

    def took(self) -> None:
        self._cells[self._own.at + 2] += 1

    @property
    def pid(self) -> int:
        return int(self._cells[self._own.at + 3])

    @pid.setter
    def pid(self, pid: int) -> None:
        self._cells[self._own.at + 3] = pid

    @property
    def restarts(self) -> int:
        return int(self._cells[self._ended.at])

    @property
    def ended_seconds(self) -> float:
        return self._cells[self._ended.at + 1]

    def ended(self, cpu_seconds: float) -> None:
        """The worker here has ended, and used so much."""
        self._cells[self._ended.at + 1] += cpu_seconds
        self._cells[self._ended.at] += 1

    @property
    def told_seconds(self) -> float:
        """The most that was said here of what all processes have used."""
        return self._cells[self._ended.at + 2]

    @told_seconds.setter
    def told_seconds(self, seconds: float) -> None:
        self._cells[self._ended.at + 2] = seconds


@dataclass(frozen=True, slots=True)
class Shared:
    """`open` is where arenas have their connections, `wakes` the descriptors by which workers wake others."""

    workers: int
    lock: Lock
    arenas: tuple[Arena, ...]
    posts: tuple[Post, ...]
    open: tuple[int, ...]
    wakes: tuple[int, ...]
    supervisor: int
    keys_lock: Lock
    keys: memoryview

    @classmethod
    def make(cls, workers: int, *, arena_bytes: int = ARENA_BYTES, slots: int = SLOTS) -> Self:
        parts = [LOCK_BYTES, LOCK_BYTES, size_of(workers, slots), *(arena_bytes for _ in range(workers))]
        lock, keys_lock, keys, *arenas = _memory(parts)
        made = Lock(lock)
        found = tuple(Arena(each, made) for each in arenas)
        for each in found:
            waiting_row(each)
        return cls(
            workers=workers,
            lock=made,
            arenas=found,
            posts=tuple(map(Post, found)),
            open=tuple(each.row(CONNECTIONS, 1, lasts=False).at for each in found),
            wakes=tuple(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(workers)),
            supervisor=os.getpid(),
            keys_lock=Lock(keys_lock),
            keys=keys,
        )

    def connections(self, worker: int) -> int:
        """How many clients it has."""
        return int(self.arenas[worker].cells[self.open[worker]])

    def hears(self, worker: int) -> bool:
        """Whether it was heard of just now: one that hangs is given nothing to do."""
        return time.monotonic() - self.posts[worker].beat < SILENT_SECONDS

    def limits(self, own: int) -> KeyTable:
        return KeyTable(self.keys, self.workers, own, self.keys_lock, time.time)

    def processes(self, own: int) -> Processes:
        """As worker `own` tells of them."""

        def pids() -> Iterator[int]:
            yield self.supervisor
            yield from (post.pid for post in self.posts if post.pid)

        def most(seconds: float) -> float:
            told = self.posts[own].told_seconds = max(seconds, *(post.told_seconds for post in self.posts))
            return told

        return Processes(pids, lambda: sum(post.ended_seconds for post in self.posts), most)

    def forget(self, worker: int) -> bool:
        """Gives back all that a worker that has ended had in hand. For the supervisor.

        False where one that hangs has a lock: then it is to be tried again.
        """
        arena, limits = self.arenas[worker], self.limits(worker)
        with self.lock.within(LOCK_SECONDS) as free:
            if not free:
                return False
            arena.rows()
        with self.keys_lock.within(LOCK_SECONDS) as free:
            if not free:
                return False
            limits.forget_worker(worker)
        post = self.posts[worker]
        state = post.state
        arena.clear()
        post.state = State.ABSENT if state in (State.ABSENT, State.STARTING) else State.REPLACED
        for wake in self.wakes:
            os.eventfd_write(wake, 1)
        return True


def _memory(parts: list[int]) -> list[memoryview]:
    """Zeroed, shared with all processes that are forked, each part on pages of its own."""
    sizes = [-(-each // _PAGE) * _PAGE for each in parts]
    flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | _NO_RESERVE
    whole = memoryview(mmap.mmap(-1, sum(sizes), flags=flags))
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    return [whole[start : start + part] for start, part in zip(starts, parts, strict=True)]
