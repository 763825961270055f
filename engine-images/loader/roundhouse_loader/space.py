"""Whether the cache has room, told before it is filled and when it runs out."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .failure import LoadError, Reason
from .listing import UNKNOWN

_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_TRANSIENT: Final = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT}


def check_space(folder: Path, needed: int) -> None:
    """Raises LoadError OutOfSpace where the file system of `folder` cannot take `needed` more bytes."""
    if needed > (free := free_bytes(folder)):
        raise _out_of_space(folder, needed, free)


def free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@contextmanager
def storage_errors(folder: Path, needed: Callable[[], int]) -> Iterator[None]:
    """Turns what the cache's file system refuses into a LoadError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _out_of_space(folder, needed(), free_bytes(folder)) from error
        where = error.filename or str(folder)
        raise LoadError(
            Reason.LOADER_FAILED,
            f"the cache cannot be used: {where!r}: {error.strerror or error}; "
            f"it must be a file system that user {os.getuid()} may write and lock",
            retryable=error.errno in _TRANSIENT,
        ) from error


def _out_of_space(folder: Path, needed: int, free: int) -> LoadError:
    wanted = "more bytes are" if needed == UNKNOWN else f"{needed} more bytes are"
    return LoadError(
        Reason.OUT_OF_SPACE,
        f"the cache at {str(folder)!r} is too small: {wanted} needed and {free} are free; "
        "enlarge it, or remove weights that nobody uses",
        retryable=True,
    )
