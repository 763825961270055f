"""What resources add up to, kept as they change: conditions by reason, and how long variants take to start.

A sum over all of them at each scrape would hold the loop for as long as a hundred passes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Literal

from roundhouse_operator.core.kinds import VARIANT
from roundhouse_operator.project import StoredResource

Condition = tuple[str, str, str, str]
"""Kind, type, status and reason."""
Change = Literal["create", "edit"]


class Tally:
    """Told by the cache of every change. `timing` is on while this process leads, and sees each one come."""

    def __init__(
        self,
        on_ready: Callable[[Change, float], None] = lambda _change, _seconds: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.conditions: Counter[Condition] = Counter()
        self.timing = False
        self._on_ready = on_ready
        self._clock = clock
        self._asked: dict[str, tuple[Change, float]] = {}
        """By uid: variants whose newest generation is not served yet."""

    def put(self, before: StoredResource | None, after: StoredResource | None) -> None:
        self._count(before, -1)
        self._count(after, 1)
        if before and before.kind == VARIANT and (after is None or after.uid != before.uid):
            self._asked.pop(before.uid, None)
        if after and after.kind == VARIANT:
            self._time(before, after)

    def _count(self, one: StoredResource | None, by: int) -> None:
        if one:
            for verdict in one.verdicts:
                condition = (one.kind.name, *verdict)
                self.conditions[condition] += by
                if not self.conditions[condition]:
                    del self.conditions[condition]

    def _time(self, before: StoredResource | None, after: StoredResource) -> None:
        new = before is None or before.uid != after.uid
        if self.timing and (new or (before and before.generation != after.generation)):
            self._asked[after.uid] = ("create" if new else "edit", self._clock())
        if _is_served(after) and (asked := self._asked.pop(after.uid, None)):
            self._on_ready(asked[0], self._clock() - asked[1])


def _is_served(variant: StoredResource) -> bool:
    """As it is asked for now, by all of its pods."""
    true = {type_ for type_, status, _ in variant.verdicts if status == "True"}
    return variant.observed == variant.generation and {"Ready", "UpToDate"} <= true
