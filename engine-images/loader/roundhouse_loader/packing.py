"""Reads archives and image layers entry by entry, whatever they are compressed with, and writes nothing."""

import bz2
import errno
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal, Self, cast

import zstandard
from typing_extensions import override

from .failure import LoadError, Reason
from .partial import CHUNK_BYTES

Kind = Literal["file", "folder", "link", "hard link"]
ARCHIVES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_WINDOW_BYTES: Final = 128 << 20
"""So much memory may a zstd frame ask for; its own default ends far below."""
_LONGEST_LINK_BYTES: Final = 4096
_LONGEST_HEADER_BYTES: Final = 1 << 20
"""Of a name or of attributes that a member has beside its own header: they are read into memory whole."""
_BESIDE: Final = frozenset(
    {
        *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
        *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    }
)
_MOST_AFTER_END_BYTES: Final = 64 << 20
_BROKEN: Final = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zstandard.ZstdError, lzma.LZMAError),
    *(zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError, OverflowError, struct.error),
)
"""What the libraries raise for broken data; the last of it where they take the data at its word."""
_NO_FAULT_OF_A_DISK: Final = (None, errno.EINVAL)
"""How bz2 tells of broken data, and zip of a place before its beginning."""


@dataclass(frozen=True, slots=True)
class Item:
    """One entry. `content` is read before the next one is asked for; `target` is that of a link."""

    name: str
    kind: Kind
    content: IO[bytes] | None = None
    size: int = 0
    """Of the content: what the archive announces, of which never more comes."""
    target: str = ""


class _Member(tarfile.TarInfo):
    """For the library a damaged header is the end of the archive, as if nothing had come after it."""

    @classmethod
    @override
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            found = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not buf.strip(b"\0"):
                raise  # the end
            raise tarfile.ReadError(f"a member's header is damaged: {error}") from error
        if found.size < 0 or (found.type in _BESIDE and found.size > _LONGEST_HEADER_BYTES):
            raise tarfile.ReadError(f"a member's header cannot be of {found.size} bytes")
        return found


def items(path: Path) -> Iterator[Item]:
    """The entries of the archive at `path`; raises LoadError where it is none, or is broken."""
    with _broken(path), path.open("rb") as file:
        start = file.read(8)
        file.seek(0)
        if start[:4] == b"PK\x03\x04" or start[:4] == b"PK\x05\x06":
            yield from _zip_items(file)
        else:
            whole = _decompressed(file, start)
            with tarfile.open(fileobj=whole, mode="r|", tarinfo=_Member) as archive:
                yield from _tar_items(archive)
            _read_to_the_end(whole)


def pieces(path: Path, content: IO[bytes]) -> Iterator[bytes]:
    """Of an entry of the archive at `path`; raises LoadError where it is broken there, or ends."""
    with _broken(path):
        while data := content.read(CHUNK_BYTES):
            yield data


def _read_to_the_end(whole: IO[bytes]) -> None:
    """What compresses has a checksum behind all that it compressed, after the end of the archive in it."""
    most = _MOST_AFTER_END_BYTES
    while data := whole.read(CHUNK_BYTES):
        most -= len(data)
        if most < 0:
            raise tarfile.ReadError(f"more than {_MOST_AFTER_END_BYTES} bytes come after its end")


def _decompressed(file: IO[bytes], start: bytes) -> IO[bytes]:
    if start[:2] == b"\x1f\x8b":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if start[:4] == b"\x28\xb5\x2f\xfd":
        reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
        return cast("IO[bytes]", reader.stream_reader(file, read_across_frames=True))
    if start[:3] == b"BZh":
        return cast("IO[bytes]", bz2.BZ2File(file))
    if start[:6] == b"\xfd7zXZ\x00":
        return cast("IO[bytes]", lzma.LZMAFile(file))
    return file


def _tar_items(archive: tarfile.TarFile) -> Iterator[Item]:
    for member in archive:
        if member.isreg():
            yield Item(member.name, "file", archive.extractfile(member), member.size)
        elif member.isdir():
            yield Item(member.name, "folder")
        elif member.issym():
            yield Item(member.name, "link", target=member.linkname)
        elif member.islnk():
            yield Item(member.name, "hard link", target=member.linkname)
        # Devices and pipes are no weights.
        archive.members = []  # type: ignore[attr-defined] # else it keeps every member in memory


def _zip_items(file: IO[bytes]) -> Iterator[Item]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.is_dir():
                yield Item(member.filename.rstrip("/"), "folder")
                continue
            with archive.open(member) as content:
                if stat.S_ISLNK(member.external_attr >> 16):
                    target = content.read(_LONGEST_LINK_BYTES).decode(errors="replace")
                    yield Item(member.filename, "link", target=target)
                else:
                    yield Item(member.filename, "file", content, member.file_size)


@contextmanager
def _broken(path: Path) -> Iterator[None]:
    """Its digest was right, so an archive that cannot be read was made so."""
    try:
        yield
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    except OSError as error:
        if error.errno in _NO_FAULT_OF_A_DISK:
            raise _unreadable(path, error) from error
        raise


def _unreadable(path: Path, error: Exception) -> LoadError:
    return LoadError(
        Reason.INVALID_SOURCE,
        f"{path.name!r} came whole, and cannot be unpacked ({error}); it is no archive, or a broken or "
        "encrypted one",
    )
