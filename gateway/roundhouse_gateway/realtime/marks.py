"""What a client of a hosted session has wished for, in its order, until the engine has come to it.

A wish is answered once the engine has come so far, and what it had found until then is transcribed. When an
engine has come to one is for those who speak its protocol to tell.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from roundhouse_api.realtime import Clear, Control

MOST_MARKS: Final = 16
"""Wishes that may wait for the engine: each may cost it seconds of silence."""


@dataclass(slots=True)
class Mark:
    """A wish, when it was made in the client's time, and the items that it waits for once it is reached."""

    control: Control
    id: str = ""
    at: float = 0.0
    reached: bool = False
    items: set[str] = field(default_factory=set)


class Marks:
    """Those that are not answered yet."""

    def __init__(self) -> None:
        self._waiting: deque[Mark] = deque()

    @property
    def full(self) -> bool:
        return len(self._waiting) >= MOST_MARKS

    def add(self, mark: Mark) -> None:
        self._waiting.append(mark)

    def next(self, mark_id: str | None = None) -> Mark | None:
        """The oldest wish that the engine had not come to, for it does them in their order; or that one."""
        coming = (each for each in self._waiting if not each.reached)
        return next((each for each in coming if mark_id is None or each.id == mark_id), None)

    def reach(self, mark: Mark, items: Iterable[str]) -> None:
        """The engine has come to it, and has these items to transcribe; who clears waits for none."""
        mark.reached = True
        mark.items = set() if isinstance(mark.control, Clear) else set(items)

    def forget(self, item: str) -> None:
        """It is transcribed, or gone."""
        for mark in self._waiting:
            mark.items.discard(item)

    def answered(self) -> Iterator[Control]:
        """Those whose turn it is."""
        while self._waiting and self._waiting[0].reached and not self._waiting[0].items:
            yield self._waiting.popleft().control
