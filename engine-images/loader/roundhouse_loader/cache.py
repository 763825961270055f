"""The folder of one cache key: its lock, what is in it and verified, and the mark that it is complete.

    lock            held by the loader that fills it
    files/          the weights, a file at a time, each put there whole and verified
    partial/        files under way, each named after what it is to become
    journal.jsonl   a line for each file in files/ (or in packed/), while it is not complete
    packed/         archives and layers, until they are unpacked
    manifest.json   the files of a complete cache, with size and SHA-256
    complete.json   written last; without it the rest is work under way

Every write is durable before what builds on it, so whenever the machine stops the next loader goes on.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from .listing import RemoteFile

FILES: Final = "files"
PACKED: Final = "packed"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the cache that was verified. `link`: it is a symbolic link to there."""

    path: str
    size: int
    sha256: str
    identity: str = ""
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Complete:
    """What complete.json says."""

    revision: str
    digest: str
    total_bytes: int
    files: int

    def as_json(self) -> dict[str, str | int]:
        return {
            "revision": self.revision,
            "digest": self.digest,
            "totalBytes": self.total_bytes,
            "files": self.files,
        }


class Cache:
    """One key's folder. Only the holder of `locked` may write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = folder / FILES
        self.packed = folder / PACKED
        self._partial = folder / "partial"
        self._journal = folder / "journal.jsonl"
        self._manifest = folder / "manifest.json"
        self._complete = folder / "complete.json"

    @contextmanager
    def locked(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Alone in the folder; `waiting` is called where another loader is in it."""
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock = (self.folder / "lock").open("a")
            except FileNotFoundError:
                continue  # swept away between the two
            with lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    waiting()
                    fcntl.flock(lock, fcntl.LOCK_EX)
                # The folder may have been swept away while we waited: then the lock guards nothing.
                if os.fstat(lock.fileno()).st_nlink:
                    yield
                    return

    def complete(self) -> Complete | str:
        """What is there, or what is missing. Looks at sizes, not at bytes: those were verified on arrival."""
        try:
            said = json.loads(self._complete.read_text())
            found = Complete(said["revision"], said["digest"], said["totalBytes"], said["files"])
            entries = self._manifest_entries()
        except FileNotFoundError as error:
            return f"{error.filename!r} is not there"
        except (ValueError, KeyError, TypeError) as error:
            return f"{str(self._complete)!r} or the manifest beside it is damaged ({error})"
        if tree_digest(entries) != found.digest:
            return f"{str(self._manifest)!r} is not the one that complete.json is about"
        return next((problem for entry in entries if (problem := self._lacks(entry))), found)

    def prepare(self) -> None:
        self._complete.unlink(missing_ok=True)
        self._partial.mkdir(exist_ok=True)
        self.files.mkdir(exist_ok=True)

    def verified(self) -> dict[str, Entry]:
        """Files that are there whole, by path: from the journal, or from the manifest of a damaged cache."""
        entries: dict[str, Entry] = {}
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            entries |= {entry.path: entry for entry in self._manifest_entries()}
        with suppress(FileNotFoundError):
            for line in self._journal.read_text(errors="replace").splitlines():
                with suppress(ValueError, TypeError):  # cut off in the midst of the last line
                    entry = Entry(**json.loads(line))
                    entries[entry.path] = entry
        return entries

    def has(self, file: RemoteFile, below: Path, known: Entry | None) -> bool:
        """Whether exactly this file is there already."""
        if known is None or known.identity != file.identity:
            return False
        path = below / file.path
        return path.is_file() and not path.is_symlink() and path.stat().st_size == known.size

    def partial(self, file: RemoteFile) -> Path:
        name = hashlib.sha256(f"{file.path}\0{file.identity}".encode()).hexdigest()[:40]
        return self._partial / name

    def keep_partials(self, files: Iterable[RemoteFile]) -> None:
        """Drop the partial files of anything else: nobody would ever go on with them."""
        wanted = {self.partial(file).name for file in files}
        for path in self._partial.iterdir():
            if path.name not in wanted:
                path.unlink()

    def keep_files(self, below: Path, wanted: Iterable[str]) -> None:
        """Remove what another state of the source left below `below`."""
        kept = set(wanted)
        for folder, folders, names in os.walk(below, topdown=False):
            for name in (*names, *(each for each in folders if (Path(folder) / each).is_symlink())):
                path = Path(folder) / name
                if str(path.relative_to(below)) not in kept:
                    path.unlink()
            if Path(folder) != below:
                with suppress(OSError):  # not empty
                    Path(folder).rmdir()

    def put(self, partial: Path, below: Path, entry: Entry) -> None:
        """Move a verified partial file to its place, and remember that it is there."""
        target = below / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
        sync_folder(target.parent)
        with self._journal.open("a") as journal:
            journal.write(json.dumps(asdict(entry)) + "\n")
            journal.flush()
            os.fsync(journal.fileno())

    def finish(self, revision: str, entries: Iterable[Entry]) -> Complete:
        """Mark it complete, with nothing left of the way there."""
        listed = sorted(entries, key=lambda entry: entry.path)
        total = sum(entry.size for entry in listed)
        done = Complete(revision, tree_digest(listed), total, len(listed))
        for folder in {(self.files / entry.path).parent for entry in listed}:
            sync_folder(folder)
        _write_durably(self._manifest, {"files": [asdict(entry) for entry in listed]})
        _write_durably(self._complete, done.as_json())
        for path in (self._partial, self.packed):
            shutil.rmtree(path, ignore_errors=True)
        self._journal.unlink(missing_ok=True)
        return done

    def remove(self) -> None:
        """Take all of it away; whatever stops that, what is left does not pass for complete."""
        self._complete.unlink(missing_ok=True)
        shutil.rmtree(self.folder)
        sync_folder(self.folder.parent)

    def _manifest_entries(self) -> list[Entry]:
        return [Entry(**each) for each in json.loads(self._manifest.read_text())["files"]]

    def _lacks(self, entry: Entry) -> str | None:
        path = self.files / entry.path
        if entry.link is not None:
            return None if path.is_symlink() else f"{str(path)!r} is not there"
        if not path.is_file():
            return f"{str(path)!r} is not there"
        size = path.stat().st_size
        return None if size == entry.size else f"{str(path)!r} has {size} bytes instead of {entry.size}"


def tree_digest(entries: Iterable[Entry]) -> str:
    """One digest for all: that of the sorted list of paths and digests, so the source does not matter."""
    lines = sorted(f"{entry.path}\0{entry.link or entry.sha256}\n" for entry in entries)
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_durably(path: Path, content: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_folder(path.parent)
