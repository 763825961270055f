"""What a source has to give: files by path, with size and digest where it tells them. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from .failure import LoadError, Reason

UNKNOWN: Final = -1
"""A size or a time that nobody knows yet."""
LONGEST_NAME_BYTES: Final = 255
LONGEST_PATH_BYTES: Final = 1000
"""Kernels take four times as much, and what lies above the weights counts as well."""
MOST_FILES: Final = 100_000


class Algorithm(StrEnum):
    """How a source digests a file."""

    SHA256 = "sha256"
    GIT = "git"
    """SHA-1 over the header that git puts before a file, and the file."""
    MD5 = "md5"
    CRC32 = "crc32"
    CRC32C = "crc32c"


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest in lower-case hexadecimal."""

    algorithm: Algorithm
    value: str


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of the source: where it goes, and what its bytes must be."""

    path: str
    """Relative, with slashes."""
    size: int
    """In bytes; UNKNOWN where only the download tells."""
    identity: str
    """Changes when the bytes do; what was fetched under another identity is of no use."""
    remote: str
    """How the source itself calls it: an address, a key, a digest."""
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """What a fetched file holds of the weights."""

    path: str
    """The fetched file."""
    kind: Literal["archive", "layer", "file"]
    """`layer`: an archive whose whiteouts take away what earlier parts hold; `file`: it is a file itself."""
    name: str = ""
    """What the file is called among the weights."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything to fetch, and how that becomes the weights."""

    revision: str
    """What the source calls this state of the weights: a commit, a digest."""
    files: tuple[RemoteFile, ...]
    parts: tuple[Part, ...] = ()
    """How the files are laid over each other to become the weights; none: they are the weights."""
    inside: str = ""
    """The folder of the parts that is wanted."""
    left_out: tuple[str, ...] = ()
    """What is there and not fetched, because it could run code."""

    @property
    def total_bytes(self) -> int:
        sizes = [file.size for file in self.files]
        return UNKNOWN if UNKNOWN in sizes else sum(sizes)


def safe_path(path: str) -> str:
    """`path` if it stays below a folder wherever it is put; raises LoadError InvalidSource."""
    parts = path.split("/")
    if any(part in {"", ".", ".."} for part in parts) or "\0" in path or "\\" in path:
        raise LoadError(
            Reason.INVALID_SOURCE,
            f"the source holds the name {path!r}, which would lead out of the cache or to no file; rename it",
        )
    try:
        lengths = [len(part.encode()) for part in parts]
    except UnicodeEncodeError as error:
        raise LoadError(
            Reason.INVALID_SOURCE, f"the source holds the name {path[:60]!r}, which is no UTF-8; rename it"
        ) from error
    if max(lengths) > LONGEST_NAME_BYTES or sum(lengths) + len(parts) > LONGEST_PATH_BYTES:
        raise LoadError(
            Reason.INVALID_SOURCE, f"the source holds the name {path[:60]!r}…, which is too long for a file"
        )
    return path


def check_paths(paths: Iterable[str]) -> None:
    """Raises LoadError InvalidSource where a path is unsafe, or is another one's folder, or too many are."""
    seen: set[str] = set()
    for path in paths:
        seen.add(safe_path(path))
    if len(seen) > MOST_FILES:
        raise LoadError(
            Reason.INVALID_SOURCE,
            f"the source holds {len(seen)} files of at most {MOST_FILES}: narrow prefix or path",
        )
    for path in sorted(seen):
        folder = path.rpartition("/")[0]
        while folder:
            if folder in seen:
                raise LoadError(
                    Reason.INVALID_SOURCE,
                    f"the source holds {folder!r} both as a file and as the folder of {path!r}; rename one",
                )
            folder = folder.rpartition("/")[0]
