"""Those who wait for one variant, and whose turn it is: keys take turns, so that no key waits for another's.

Within a key, first come first served. Who was called and found the engine full goes before all others. Where
the line is full, the last of the key that has most in it makes room for a key that has fewer.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Generic, Protocol, TypeVar


@dataclass(frozen=True, slots=True)
class Limits:
    """How many may wait, in this gateway."""

    in_all: int
    per_variant: int


class Waiting(Protocol):
    @property
    def key(self) -> str:
        """Whose request it is."""

    @property
    def called(self) -> bool:
        """Its wait is over, and it is about to leave the line."""


T = TypeVar("T", bound=Waiting)


class Line(Generic[T]):
    """`closed_until`: its engine said a moment ago that it is full."""

    def __init__(self) -> None:
        self._again: deque[T] = deque()
        self._by_key: dict[str, deque[T]] = {}
        self.closed_until = 0.0

    def __len__(self) -> int:
        """How many are waiting still."""
        return sum(not one.called for one in chain(self._again, *self._by_key.values()))

    def __bool__(self) -> bool:
        return bool(self._again or self._by_key)

    def join(self, one: T) -> None:
        """At the end of its key's. A key that has had nobody here is the last to have its turn."""
        self._by_key.setdefault(one.key, deque()).append(one)

    def rejoin(self, one: T) -> None:
        """Before all others."""
        self._again.appendleft(one)

    def leave(self, one: T) -> None:
        if one in self._again:
            self._again.remove(one)
            return
        of_key = self._by_key[one.key]
        of_key.remove(one)
        if not of_key:
            del self._by_key[one.key]

    def had_its_turn(self, key: str) -> None:
        """The others come before it now."""
        if key in self._by_key:
            self._by_key[key] = self._by_key.pop(key)

    def in_order(self) -> Iterator[T]:
        """Who waits, in the order in which they are to be called if nobody else comes."""
        waiting = [[one for one in of_key if not one.called] for of_key in self._by_key.values()]
        yield from [one for one in self._again if not one.called]
        yield from [one for round_ in zip_longest(*waiting) for one in round_ if one is not None]

    def of_key(self, key: str) -> list[T]:
        return [one for one in self._by_key.get(key, ()) if not one.called]

    @property
    def keys(self) -> Iterable[str]:
        return self._by_key


def who_makes_room(lines: Iterable[Line[T]], key: str, of_own: int) -> T | None:
    """The last to have come of the key with most in any of the lines; None where that has no more to give.

    `of_own` is how many the key has itself where it wants one more.
    """
    found = [line.of_key(other) for line in lines for other in line.keys if other != key]
    longest = max(found, key=len, default=[])
    return longest[-1] if len(longest) > of_own + 1 else None
