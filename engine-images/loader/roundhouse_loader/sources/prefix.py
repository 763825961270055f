"""Objects of a bucket below a prefix, as object stores have them: names with slashes, no folders. Pure."""

import hashlib
from collections.abc import Iterable

from roundhouse_loader.failure import LoadError, Reason
from roundhouse_loader.listing import RemoteFile


def folder(prefix: str) -> str:
    """The prefix as a folder's, so that `models/a` does not bring in `models/ab`; empty for the bucket."""
    stripped = prefix.strip("/")
    return f"{stripped}/" if stripped else ""


def relative(key: str, prefix: str) -> str:
    """The path that an object gets. An object that the prefix itself names keeps its last part."""
    below = folder(prefix)
    return key.removeprefix(below) if key.startswith(below) else key.rpartition("/")[2]


def is_folder_mark(key: str) -> bool:
    """Whether the object only stands for a folder, as consoles make them."""
    return key.endswith("/")


def revision(files: Iterable[RemoteFile]) -> str:
    """Buckets have no commits: the digest of the names and of what identifies their contents."""
    lines = sorted(f"{file.path}\0{file.identity}\n" for file in files)
    return f"listing-{hashlib.sha256(''.join(lines).encode()).hexdigest()[:40]}"


def nothing(store: str, bucket: str, prefix: str) -> LoadError:
    where = f"below {prefix!r}" if prefix else "in it"
    return LoadError(
        Reason.SOURCE_NOT_FOUND,
        f"the {store} bucket {bucket!r} is there, and nothing lies {where}; check `prefix`",
    )
