"""Room on disk for forms whose file comes before the model is known: bounded, and gone with the request."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from roundhouse_gateway.errors import NotReadyError, UploadTooLargeError
from roundhouse_gateway.series import Value

PIECE_BYTES = 256 * 1024


class Spool:
    """All the room there is, shared by all requests, also those of other workers.

    `gauge` tells of what is used here, and of what is elsewhere.
    """

    def __init__(self, directory: Path | None, limit_bytes: int, gauge: Value | None = None) -> None:
        self.directory = directory
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._gauge = gauge or Value()

    def use(self, more: int) -> None:
        self.used_bytes += more
        self._gauge.inc(more)

    def has_room_for(self, more: int) -> bool:
        return self.used_bytes + self._gauge.elsewhere() + more <= self.limit_bytes

    def open(self) -> "SpooledFile":
        return SpooledFile(self)


class SpooledFile:
    """A file without a name. Closing it, or the end of the process, frees its room."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._file = self._open()
        self.size = 0

    def _open(self) -> BinaryIO:
        try:
            return tempfile.TemporaryFile(dir=self._spool.directory, buffering=0)
        except OSError as error:
            raise self._refused() from error

    def write(self, piece: bytes) -> None:
        spool = self._spool
        if self.size + len(piece) > spool.limit_bytes:
            raise UploadTooLargeError(
                f"A form whose `file` comes before `model` may hold {spool.limit_bytes} bytes; "
                "send `model` first and the file is passed on without being stored.",
                param="file",
            )
        if not spool.has_room_for(len(piece)):
            raise NotReadyError("No room to hold the upload now; send `model` before `file`, or try later.")
        self._write_all(piece)
        self.size += len(piece)
        spool.use(len(piece))

    def _write_all(self, piece: bytes) -> None:
        try:
            rest = memoryview(piece)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise self._refused() from error

    def _refused(self) -> NotReadyError:
        return NotReadyError(
            "The disk that holds uploads refuses more; send `model` before `file`, or try later."
        )

    def pieces(self) -> Iterator[bytes]:
        """The whole content, from the start."""
        self._file.seek(0)
        while piece := self._file.read(PIECE_BYTES):
            yield piece

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.use(-self.size)
        self.size = 0
        self._file.close()
