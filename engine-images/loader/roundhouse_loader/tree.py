"""The files of archives and image layers laid over each other, with links and whiteouts. Pure.

Nothing of it touches a disk: a name leads nowhere but into this tree, so no archive can write out of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .failure import LoadError, Reason
from .listing import MOST_FILES, safe_path

MOST_HOPS: Final = 40
"""So many links may a path go through, as in a kernel."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file. `place` is where its bytes are kept; None: they are not wanted."""

    layer: int
    size: int
    sha256: str
    place: str | None


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link, to a place in the same tree."""

    layer: int
    target: str


Folder = dict[str, "Folder | Stored | Link"]
Node = Folder | Stored | Link


class Tree:
    """Paths are relative and have no `..`; `name_of` in `unpack` sees to that."""

    def __init__(self) -> None:
        self._root: Folder = {}
        self._count = 0

    def put(self, path: str, node: Stored | Link) -> None:
        folder, name = self._parent(path)
        folder[name] = node

    def make_folder(self, path: str) -> None:
        folder, name = self._parent(path)
        if not isinstance(folder.get(name), dict):
            folder[name] = {}

    def whiteout(self, path: str, layer: int) -> None:
        """Take away what layers below `layer` have there."""
        folder, name = self._parent(path)
        node = folder.get(name)
        if isinstance(node, dict):
            _prune(node, layer)
        if not node or (not isinstance(node, dict) and node.layer < layer):
            folder.pop(name, None)

    def make_opaque(self, path: str, layer: int) -> None:
        """Take away all that layers below `layer` have in a folder."""
        node = self.find(path)
        if isinstance(node, dict):
            _prune(node, layer)

    def find(self, path: str) -> Node | None:
        """What is at `path`, through links; None where nothing is, or links lead in a circle."""
        place = self.place(path)
        return None if place is None else self._at(place)

    def place(self, path: str) -> str | None:
        """Where `path` is when no link is left in it."""
        done: list[str] = []
        left = [part for part in reversed(path.split("/")) if part not in {"", "."}]
        hops = 0
        while left:
            part = left.pop()
            if part == "..":
                done = done[:-1]
                continue
            node = self._at("/".join([*done, part]))
            if not isinstance(node, Link):
                done.append(part)
                continue
            hops += 1
            if hops > MOST_HOPS:
                return None
            if node.target.startswith("/"):
                done = []
            left += [each for each in reversed(node.target.split("/")) if each not in {"", "."}]
        return "/".join(done)

    def files(self, below: str) -> Iterator[tuple[str, Stored | Link]]:
        """Files and links of a folder, by their path in it."""
        node = self._at(below)
        if isinstance(node, dict):
            yield from _walk(node, "")

    def _at(self, place: str) -> Node | None:
        node: Node | None = self._root
        for part in place.split("/") if place else ():
            if not isinstance(node, dict):
                return None
            node = node.get(part)
        return node

    def _parent(self, path: str) -> tuple[Folder, str]:
        """The folder that `path` is to lie in, made if need be."""
        self._count += 1
        if self._count > MOST_FILES:
            raise LoadError(
                Reason.INVALID_SOURCE, f"the source unpacks to more than {MOST_FILES} files; pack fewer"
            )
        above, _, name = path.rpartition("/")
        place = self.place(above)
        if place is None:
            raise LoadError(
                Reason.INVALID_SOURCE, f"the source's path {path!r} leads through links in a circle"
            )
        safe_path(f"{place}/{name}" if place else name)
        folder = self._root
        for part in place.split("/") if place else ():
            inner = folder.get(part)
            if not isinstance(inner, dict):
                inner = folder[part] = {}
            folder = inner
        return folder, name


def _prune(folder: Folder, layer: int) -> None:
    for name, node in list(folder.items()):
        if isinstance(node, dict):
            _prune(node, layer)
        if node == {} or (not isinstance(node, dict) and node.layer < layer):
            del folder[name]


def _walk(folder: Folder, above: str) -> Iterator[tuple[str, Stored | Link]]:
    for name, node in sorted(folder.items()):
        if isinstance(node, dict):
            yield from _walk(node, f"{above}{name}/")
        else:
            yield f"{above}{name}", node
