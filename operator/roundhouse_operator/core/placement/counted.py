"""What several nodes have in common, as long as one of them has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class Counted(Generic[Item]):
    """A set of which each member is there as often as somebody has it."""

    def __init__(self) -> None:
        self._counts: Counter[Item] = Counter()

    def __iter__(self) -> Iterator[Item]:
        return iter(self._counts)

    def __contains__(self, item: Item) -> bool:
        return item in self._counts

    def put(self, before: frozenset[Item], after: frozenset[Item]) -> list[Item]:
        """Somebody has `after` instead of `before`. Returns what came or went with that."""
        changed = []
        for item in after - before:
            self._counts[item] += 1
            if self._counts[item] == 1:
                changed.append(item)
        for item in before - after:
            self._counts[item] -= 1
            if not self._counts[item]:
                del self._counts[item]
                changed.append(item)
        return changed
