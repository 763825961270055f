"""Which models may be in memory together: as many as the budget holds, those that were asked for last.

One that is to be loaded takes the place of those that nobody uses and that were used longest ago. One that is
in use is never unloaded for another, which then waits. What a model takes is measured (`resident`), and
before its first load guessed from the size of its files. How a model comes and goes is in `model_life`.
"""

import asyncio
import ctypes
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

logger = logging.getLogger(__name__)

_M_ARENA_MAX: Final = -8
"""glibc's number for how many heaps there may be."""
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_MAX: Final = -4
_MAPPED: Final = 65536
"""glibc's own bound of how many blocks may be mapped at once."""
_KEPT_BYTES: Final = 256 << 20
_KEPT_OF_ENVIRONMENT: Final = "MALLOC_TRIM_THRESHOLD_"
_HEAPS_OF_ENVIRONMENT: Final = "MALLOC_ARENA_MAX"


class Tenant(Protocol):
    """A model, or what is used beside models, as far as memory is concerned."""

    @property
    def model_name(self) -> str | None:
        """None where it is no model."""

    @property
    def needed_bytes(self) -> int:
        """What it holds, or will hold once it is loaded."""

    @property
    def idle(self) -> bool:
        """Whether it is loaded, and nobody uses it or waits for it."""

    @property
    def wanted(self) -> bool:
        """Whether it should be loaded at all."""

    @property
    def giving_way(self) -> bool:
        """Whether it is being unloaded."""

    @property
    def used_at(self) -> float:
        """When it was used last, by `time.monotonic`."""

    def give_way(self) -> None:
        """Begin to unload; `Memory.leave` follows."""


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    budget_bytes: int
    needed_bytes: int
    """By the models that are loaded, and those that are being loaded."""


class Memory:
    """`budget_bytes` None: whatever is wanted is loaded, and nothing gives way."""

    def __init__(self, budget_bytes: int | None) -> None:
        self.budget_bytes = budget_bytes
        self._tenants: list[Tenant] = []
        self._changed = asyncio.Event()

    @property
    def bounded(self) -> bool:
        return self.budget_bytes is not None

    @property
    def status(self) -> MemoryStatus | None:
        return None if self.budget_bytes is None else MemoryStatus(self.budget_bytes, self._needed_bytes)

    @property
    def _needed_bytes(self) -> int:
        return sum(tenant.needed_bytes for tenant in self._tenants)

    def never_holds(self, needed_bytes: int) -> bool:
        return self.budget_bytes is not None and needed_bytes > self.budget_bytes

    def model_bytes(self, name: str) -> int:
        """What the model holds; 0 where it is not in memory. From any thread."""
        return sum(tenant.needed_bytes for tenant in tuple(self._tenants) if tenant.model_name == name)

    async def enter(self, tenant: Tenant) -> bool:
        """Returns once there is room, the tenant's from then on; False where it is not wanted any more."""
        while tenant.wanted:
            self._changed.clear()
            if self._make_room(tenant.needed_bytes):
                self._tenants.append(tenant)
                return True
            await self._changed.wait()
        return False

    def leave(self, tenant: Tenant) -> None:
        """Its memory is free."""
        self._tenants.remove(tenant)
        self._changed.set()

    def note(self) -> None:
        """A model holds more or less than before, or is used or waited for by more or by fewer."""
        self._changed.set()
        if self.bounded:
            self._make_room(0)

    def _make_room(self, needed_bytes: int) -> bool:
        """Whether there is room for so much more; where idle models keep it, they are told to give way.

        None is told in vain: where all of them together do not suffice, all stay.
        """
        if self.budget_bytes is None:
            return True
        missing = self._needed_bytes + needed_bytes - self.budget_bytes
        if missing <= 0:
            return True
        missing -= sum(tenant.needed_bytes for tenant in self._tenants if tenant.giving_way)
        chosen = []
        for tenant in sorted((one for one in self._tenants if one.idle), key=lambda one: one.used_at):
            if missing <= 0:
                break
            chosen.append(tenant)
            missing -= tenant.needed_bytes
        # What is there already may be too much by itself, and then every byte that becomes free is a gain.
        if missing <= 0 or not needed_bytes:
            for tenant in chosen:
                tenant.give_way()
        return False


def file_bytes(path: Path) -> int:
    """The size of the weights, a file or all files of a directory; 0 where there are none. Blocks."""
    try:
        files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        return sum(each.stat().st_size for each in files)
    except (OSError, ValueError):  # no file system has such a name
        return 0


def resident_bytes() -> int:
    """Memory of this process, shared libraries and mapped files included."""
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def share_one_heap() -> None:
    """Have threads that are begun from now on allocate where the first one does.

    glibc gives each a heap of its own, which it hands back to the kernel as soon as it is free, and a model
    that computes in a thread then gets the pages anew for each call. Of one heap threads that allocate at
    the same time wait for each other: one run of NeMo on a machine with other guests had 0.39 of the
    library's speed so, six on a quiet one 1.1. Where the environment has glibc's own word on how many there
    may be, that holds.
    """
    if _HEAPS_OF_ENVIRONMENT in os.environ:
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 1)


def keep_what_is_freed() -> None:
    """Have large blocks come from the heap of all threads, which keeps 256 MB of what is free at its end.

    glibc maps each block of more than 32 MB anew, and a Whisper's attention asks for one of 72 MB in each
    layer: a sixth of the time goes into the kernel's zeroing of pages. `trim` gives back the rest as before.
    Load models within `mapped`. Where the environment has glibc's own word on what it keeps, that holds.
    """
    if _KEPT_OF_ENVIRONMENT in os.environ:
        return
    share_one_heap()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        _blocks.keep()


@contextmanager
def mapped() -> Iterator[None]:
    """Have large blocks mapped meanwhile, whatever `keep_what_is_freed` says.

    A model's weights are then measured as what they are, and go with it to the last byte.
    """
    _blocks.map(1)
    try:
        yield
    finally:
        _blocks.map(-1)


class _Blocks:
    """Where the process's large blocks come from."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._kept = False
        self._within = 0
        """Who wants them mapped just now: models may load side by side."""

    def keep(self) -> None:
        self._kept = True
        self.map(0)

    def map(self, more: int) -> None:
        with self._turn:
            self._within += more
            if self._kept:
                ctypes.CDLL(None).mallopt(_M_MMAP_MAX, _MAPPED if self._within else 0)


_blocks: Final = _Blocks()


def trim() -> None:
    """Give freed memory back: glibc would keep it, and torch a GPU's.

    Blocks for some milliseconds, and where a GPU computes until it has done what it was given.
    """
    # Torch is never imported for this, and while another thread imports it, it is there without its parts.
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    initialized = getattr(cuda, "is_initialized", None)
    if cuda is not None and initialized is not None and initialized():
        try:
            cuda.empty_cache()
        except Exception:  # after an earlier fault of the GPU, or while another thread captures a graph
            logger.warning("the GPU's memory could not be given back", exc_info=True)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
