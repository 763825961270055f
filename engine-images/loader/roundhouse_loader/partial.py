"""One file under way: appended to, hashed as it grows, and verified when it is whole.

A source writes into it from `offset` on; it knows what size and digest the file must get, and refuses more.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from .digests import Hasher, hasher
from .failure import DigestError, LoadError, Reason
from .listing import UNKNOWN, Algorithm, RemoteFile
from .progress import Progress
from .space import check_space

CHUNK_BYTES: Final = 1 << 20
SYNC_BYTES: Final = 64 << 20
"""So much is written at most without being made durable."""


class Sink(Protocol):
    """What a source sees of the file that it is to fetch."""

    @property
    def offset(self) -> int: ...

    def begin(self, start: int, total: int) -> None: ...

    def write(self, data: bytes, /) -> int: ...


class Partial:
    """A file below `partial/`. Use it as a context; `stop` says whether another file's failure ended all."""

    def __init__(self, path: Path, file: RemoteFile, progress: Progress, stop: Callable[[], bool]) -> None:
        self._path = path
        self._file = file
        self._progress = progress
        self._stop = stop
        self._unsynced = 0
        self._hashers: list[Hasher] = []
        self.size = file.size
        self.offset = 0

    def __enter__(self) -> Self:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._start_hashing()
        self._take_up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    @property
    def path(self) -> str:
        """Where the file goes."""
        return self._file.path

    def begin(self, start: int, total: int) -> None:
        """The source sends from `start` on, of `total` bytes; raises LoadError where that cannot be."""
        if start not in {0, self.offset}:
            raise ValueError(f"asked for byte {self.offset}, got byte {start}")
        if start < self.offset:
            self.restart()
        if total == UNKNOWN:
            return
        if self.size == UNKNOWN:
            self.size = total
            self._progress.learned(total)
            check_space(self._path.parent, total - self.offset)
        elif total != self.size:
            raise LoadError(
                Reason.DIGEST_MISMATCH,
                f"{self._file.path!r} has {total} bytes where the source's own listing says {self.size}; "
                "it was replaced meanwhile, or the source lies about its size",
            )

    def write(self, data: bytes, /) -> int:
        if self._stop():
            raise InterruptedError
        if self.size != UNKNOWN and self.offset + len(data) > self.size:
            raise LoadError(
                Reason.DIGEST_MISMATCH,
                f"{self._file.path!r} goes on after the {self.size} bytes that the source announced",
            )
        view = memoryview(data)
        while view:
            written = os.write(self._descriptor, view)
            view = view[written:]
        for each in self._hashers:
            each.update(data)
        self.offset += len(data)
        self._unsynced += len(data)
        self._progress.fetched(len(data))
        if self._unsynced >= SYNC_BYTES:
            os.fdatasync(self._descriptor)
            self._unsynced = 0
        return len(data)

    def restart(self) -> None:
        """From the first byte again."""
        self._progress.found(-self.offset)
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._start_hashing()
        self.offset = 0

    def verify(self) -> str:
        """The SHA-256 of the whole file, which is durable now; raises DigestError."""
        wanted = self._file.digest
        if wanted and (found := self._hashers[-1].hexdigest()) != wanted.value:
            raise DigestError(
                f"{self._file.path!r} has the {wanted.algorithm} digest {found}, not {wanted.value}"
            )
        os.fsync(self._descriptor)
        return self._hashers[0].hexdigest()

    def _start_hashing(self) -> None:
        self._unsynced = 0
        self._hashers = [hashlib.sha256()]
        digest = self._file.digest
        if digest and digest.algorithm is not Algorithm.SHA256:
            self._hashers.append(hasher(digest, self._file.size))

    def _take_up(self) -> None:
        """Go on where an earlier loader was ended: what it wrote has to be hashed again."""
        size = os.fstat(self._descriptor).st_size
        if self._file.digest is None:
            # With no digest to betray what a crash of the machine tore, only durable bytes are trusted.
            size = max(0, size - SYNC_BYTES)
        if self.size != UNKNOWN and size > self.size:
            size = 0
        os.ftruncate(self._descriptor, size)
        while self.offset < size:
            data = os.read(self._descriptor, min(CHUNK_BYTES, size - self.offset))
            for each in self._hashers:
                each.update(data)
            self.offset += len(data)
        self._progress.found(size)
