"""The digests that sources give, each in the shape of hashlib's. Pure."""

import hashlib
import zlib
from typing import Protocol, cast

from google_crc32c import Checksum

from .listing import Algorithm, Digest


class Hasher(Protocol):
    """What every algorithm can do."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


def hasher(digest: Digest, size: int) -> Hasher:
    """One that ends at `digest` where the bytes are right; git's begins with the file's size."""
    match digest.algorithm:
        case Algorithm.SHA256:
            return hashlib.sha256()
        case Algorithm.GIT:
            return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        case Algorithm.MD5:
            return hashlib.md5(usedforsecurity=False)
        case Algorithm.CRC32:
            return _CRC32()
        case Algorithm.CRC32C:
            return _CRC32C()


class _CRC32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


class _CRC32C:
    def __init__(self) -> None:
        # The library is untyped, and its own `hexdigest` gives bytes.
        self._checksum = cast("_Checksum", Checksum())  # type: ignore[no-untyped-call]

    def update(self, data: bytes, /) -> None:
        self._checksum.update(data)

    def hexdigest(self) -> str:
        return self._checksum.digest().hex()


class _Checksum(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...
