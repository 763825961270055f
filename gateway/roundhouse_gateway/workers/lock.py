"""A mutex in memory that processes share: the kernel's own, which is free again when its holder dies.

A lock on a file costs three microseconds, a semaphore stays taken when its holder is killed. A robust mutex
of the C library costs less than one and has neither fault. It is recursive, so who holds it may call who
takes it.
"""

import ctypes
import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

SIZE: Final = 64
"""Bytes. The C libraries of Linux use 40 or 48."""
TRIES: Final = 30
"""Before the kernel is asked to wait: what is done under the lock takes about as long as so many."""
_RECURSIVE: Final = 1
_SHARED: Final = 1
_ROBUST: Final = 1
_C: Final = ctypes.PyDLL(None)  # of calls that do not wait: giving up the interpreter's lock costs more
_try_lock, _unlock = _C.pthread_mutex_trylock, _C.pthread_mutex_unlock


class _Time(ctypes.Structure):
    """`struct timespec`."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Lock:
    """Made once, by the process that starts the others; `memory` is zeroed and shared with them."""

    def __init__(self, memory: memoryview) -> None:
        self._memory = (ctypes.c_char * SIZE).from_buffer(memory)
        self._at = ctypes.c_void_p(ctypes.addressof(self._memory))
        attributes = ctypes.create_string_buffer(SIZE)
        _check(_C.pthread_mutexattr_init(attributes))
        _check(_C.pthread_mutexattr_settype(attributes, _RECURSIVE))
        _check(_C.pthread_mutexattr_setpshared(attributes, _SHARED))
        _check(_C.pthread_mutexattr_setrobust(attributes, _ROBUST))
        _check(_C.pthread_mutex_init(self._at, attributes))

    def __enter__(self) -> Self:
        for _ in range(TRIES):
            if (found := _try_lock(self._at)) != errno.EBUSY:
                break
        else:
            found = _C.pthread_mutex_lock(self._at)
        self._taken(found)
        return self

    @contextmanager
    def within(self, seconds: float) -> Iterator[bool]:
        """Whether it is held during the block. For who must not wait for a process that hangs with it."""
        until = time.time() + seconds
        limit = _Time(int(until), int(until % 1 * 1e9))
        found = _C.pthread_mutex_timedlock(self._at, ctypes.byref(limit))
        if found == errno.ETIMEDOUT:
            yield False
            return
        self._taken(found)
        try:
            yield True
        finally:
            _unlock(self._at)

    def _taken(self, found: int) -> None:
        if found == errno.EOWNERDEAD:  # its numbers are whole: each is written in one step
            found = _C.pthread_mutex_consistent(self._at)
        if found:
            _check(found)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _unlock(self._at)


def _check(found: int) -> None:
    if found:
        raise OSError(found, f"the lock that workers share: {os.strerror(found)}")
