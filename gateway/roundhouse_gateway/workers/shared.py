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
"""The row of that gauge, which has no labels."""
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
        self._ended: Row = arena.row(_ENDED, 2, lasts=True)

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


@dataclass(frozen=True, slots=True)
class Shared:
    """`wakes` are the descriptors by which one worker wakes another."""

    workers: int
    lock: Lock
    arenas: tuple[Arena, ...]
    posts: tuple[Post, ...]
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
            wakes=tuple(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(workers)),
            supervisor=os.getpid(),
            keys_lock=Lock(keys_lock),
            keys=keys,
        )

    def connections(self, worker: int) -> int:
        """How many clients it has."""
        arena = self.arenas[worker]
        row = arena.find(CONNECTIONS)
        return int(arena.cells[row.at]) if row else 0

    def limits(self, own: int) -> KeyTable:
        return KeyTable(self.keys, self.workers, own, self.keys_lock, time.time)

    def processes(self) -> Processes:
        def pids() -> Iterator[int]:
            yield self.supervisor
            yield from (post.pid for post in self.posts if post.pid)

        return Processes(pids, lambda: sum(post.ended_seconds for post in self.posts))

    def forget(self, worker: int, cpu_seconds: float) -> None:
        """Gives back all that a worker that has ended had in hand. For the supervisor."""
        post = self.posts[worker]
        state = post.state
        self.arenas[worker].clear()
        self.limits(worker).forget_worker(worker)
        post.ended(cpu_seconds)
        post.state = State.REPLACED if state in (State.READY, State.REPLACED) else State.ABSENT
        for wake in self.wakes:
            os.eventfd_write(wake, 1)


def _memory(parts: list[int]) -> list[memoryview]:
    """Zeroed, shared with all processes that are forked, each part on pages of its own."""
    sizes = [-(-each // _PAGE) * _PAGE for each in parts]
    flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | _NO_RESERVE
    whole = memoryview(mmap.mmap(-1, sum(sizes), flags=flags))
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    return [whole[start : start + part] for start, part in zip(starts, parts, strict=True)]
