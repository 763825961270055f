"""Turns the archives and layers that were fetched into the weights: which files, from which of them, safely.

Contents are written once, below `packed/contents`, and moved to their places when every layer is read.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from .cache import Cache, Entry
from .failure import LoadError, Reason
from .listing import Part, safe_path
from .packing import Item, items, pieces
from .selection import choose
from .source import Source
from .space import check_space
from .tree import Link, Stored, Tree

WHITEOUT: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"
GROWTH: Final = 100
"""Times as large as what was fetched may contents be, beyond `ALWAYS_BYTES`: weights can hardly be packed."""
ALWAYS_BYTES: Final = 1 << 30


class Unpacking:
    """`parts` laid over each other; of the result, what is below `inside`."""

    def __init__(self, cache: Cache, parts: Sequence[Part], inside: str) -> None:
        self._cache = cache
        self._parts = parts
        self._inside = inside
        self._contents = cache.packed / "contents"
        self._tree = Tree()
        self._written = 0
        self._left_bytes = 0
        """What is still announced may be so much."""
        self._placed: dict[str | None, Path] = {}
        """Where contents have gone; two names of an archive may have the same."""

    def run(self, source: Source) -> list[Entry]:
        """The files that are now below `files/`; raises LoadError."""
        shutil.rmtree(self._contents, ignore_errors=True)
        self._contents.mkdir(parents=True)
        self._cache.keep_files(self._cache.files, ())
        packed = sum((self._cache.packed / part.path).stat().st_size for part in self._parts)
        self._left_bytes = GROWTH * packed + ALWAYS_BYTES
        try:
            for layer, part in enumerate(self._parts):
                self._read(layer, part)
            return self._place(source)
        finally:  # the next loader begins anew, and until then others need the room
            shutil.rmtree(self._contents, ignore_errors=True)

    def _read(self, layer: int, part: Part) -> None:
        path = self._cache.packed / part.path
        if part.kind == "file":
            with path.open("rb") as content:
                self._tree.put(safe_path(part.name), self._store(part.name, layer, pieces(path, content)))
            return
        for item in items(path):
            self._left_bytes -= item.size
            if self._left_bytes < 0:
                raise LoadError(
                    Reason.INVALID_SOURCE,
                    f"{part.path!r} came whole, and unpacks to more than {GROWTH} times its size, which no "
                    "weights do; pack them otherwise",
                )
            if name := name_of(item):
                self._take(layer, part, name, item)

    def _take(self, layer: int, part: Part, name: str, item: Item) -> None:
        above, _, last = name.rpartition("/")
        if part.kind == "layer" and last == OPAQUE:
            self._tree.make_opaque(above, layer)
        elif part.kind == "layer" and last.startswith(WHITEOUT):
            self._tree.whiteout(f"{above}/{last.removeprefix(WHITEOUT)}".lstrip("/"), layer)
        elif item.kind == "folder":
            self._tree.make_folder(name)
        elif item.kind == "link":
            self._tree.put(name, Link(layer, item.target))
        elif item.kind == "hard link":
            self._tree.put(name, self._linked(name, item.target, layer))
        elif item.content:
            content = pieces(self._cache.packed / part.path, item.content)
            self._tree.put(name, self._store(name, layer, content, item.size))

    def _linked(self, name: str, target: str, layer: int) -> Stored:
        node = self._tree.find(target)
        if not isinstance(node, Stored) or (node.place is None and self._is_wanted(name)):
            raise LoadError(
                Reason.INVALID_SOURCE,
                f"{name!r} is a hard link to {target!r}, which is not in the source or not below `path`; "
                "make it a file of its own",
            )
        return Stored(layer, node.size, node.sha256, node.place)

    def _store(self, name: str, layer: int, content: Iterator[bytes], announced: int = 0) -> Stored:
        if not self._is_wanted(name):
            return Stored(layer, 0, "", None)
        check_space(self._contents, announced)
        self._written += 1
        place, digest, size = str(self._written), hashlib.sha256(), 0
        with (self._contents / place).open("wb") as file:
            for data in content:
                file.write(data)
                digest.update(data)
                size += len(data)
            file.flush()
            os.fsync(file.fileno())
        return Stored(layer, size, digest.hexdigest(), place)

    def _is_wanted(self, name: str) -> bool:
        place = self._tree.place(name)
        return not self._inside or place == self._inside or f"{place}/".startswith(f"{self._inside}/")

    def _place(self, source: Source) -> list[Entry]:
        found = self._found()
        paths = [
            path for path, node in found.items() if not isinstance(node, Link) or self._leads(path, node)
        ]
        return [self._put(path, found[path]) for path in choose(paths, source).wanted]

    def _found(self) -> dict[str, Stored | Link]:
        node = self._tree.find(self._inside)
        if isinstance(node, Stored):
            return {self._inside.rpartition("/")[2]: node}
        if node is None or self._tree.place(self._inside) != self._inside:
            where = self._tree.place(self._inside) if node is not None else None
            hint = f"it is a link, name {where!r} instead" if where else "check `path`"
            raise LoadError(Reason.SOURCE_NOT_FOUND, f"the source has no directory {self._inside!r}; {hint}")
        return dict(self._tree.files(self._inside))

    def _leads(self, path: str, link: Link) -> bool:
        """Whether a link leads to something; raises LoadError where that is outside of the weights."""
        above = path.rpartition("/")[0]
        full = link.target if link.target.startswith("/") else f"{self._inside}/{above}/{link.target}"
        place = self._tree.place(full)
        if not place or self._tree.find(place) is None:
            return False
        if not self._is_wanted(place):
            raise LoadError(
                Reason.INVALID_SOURCE,
                f"{path!r} is a link to {link.target!r}, outside of `path` {self._inside!r}; widen `path`",
            )
        return True

    def _put(self, path: str, node: Stored | Link) -> Entry:
        target = self._cache.files / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(node, Link):
            target.symlink_to(self._relative(path, node))
            return Entry(path, 0, "", link=str(target.readlink()))
        if known := self._placed.get(node.place):
            name_too(known, target)
        else:
            (self._contents / str(node.place)).rename(target)
            self._placed[node.place] = target
        return Entry(path, node.size, node.sha256)

    def _relative(self, path: str, link: Link) -> str:
        above = path.rpartition("/")[0]
        full = link.target if link.target.startswith("/") else f"{self._inside}/{above}/{link.target}"
        return os.path.relpath(f"/{self._tree.place(full)}", f"/{self._inside}/{above}")


def name_too(known: Path, target: Path) -> None:
    """One more name for a file; shares of SMB and Azure know no hard links, and get a copy."""
    try:
        os.link(known, target)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
            raise
        shutil.copyfile(known, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())


def name_of(item: Item) -> str | None:
    """The entry's path in the tree; None for the root itself. Raises LoadError for one that leads out."""
    name = item.name
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    name = name.rstrip("/")
    return None if name in {"", "."} else safe_path(name)
