"""What is known that no object of the API holds: what engines report, and how variants stand in shared pods.

It is lost with the process and found again by asking: nothing is decided before that which would contradict
what was found the last time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from roundhouse_operator.core.kinds import VARIANT, Key
from roundhouse_operator.core.reports import EngineReport
from roundhouse_operator.core.seat import Seat


class Standing:
    """Kept by the cache; as large as there are pods that answer and variants that share."""

    def __init__(self) -> None:
        self.addresses: dict[Key, str] = {}
        """Of pods whose engines run."""
        self.reports: dict[Key, EngineReport] = {}
        self.asked: set[Key] = set()
        """Pods that were asked since they answer, whether or not they said something."""
        self.hurried: set[Key] = set()
        """Pods of which something new is expected soon."""
        self._seats: dict[Key, tuple[Key, Seat]] = {}
        """By variant: the engine, and how it stands in its pods."""
        self._members: dict[Key, frozenset[str]] = {}
        self._hurried_by: dict[Key, frozenset[Key]] = {}

    def put_pod(self, pod: Key, address: str) -> None:
        """`address` empty: its engine does not run, and what it said once is past."""
        if address and self.addresses.get(pod) == address:
            return
        self.reports.pop(pod, None)
        self.asked.discard(pod)
        if address:
            self.addresses[pod] = address
        else:
            self.addresses.pop(pod, None)

    def hear(self, pod: Key, report: EngineReport | None) -> bool:
        """An answer of a pod, or its silence. Returns whether that is news."""
        if pod not in self.addresses:
            return False
        first = pod not in self.asked
        self.asked.add(pod)
        before = self.reports.get(pod)
        if report is not None:
            self.reports[pod] = report
        return first or (report is not None and report != before)

    def seat(self, variant: Key) -> Seat | None:
        _, seat = self._seats.get(variant, (None, None))
        return seat

    def put_seats(self, engine: Key, seats: Mapping[str, Seat], members: frozenset[str]) -> set[Key]:
        """Seats of an engine's variants; a member without one keeps what was known. Returns whose changed."""
        changed = set()
        for name in self._members.get(engine, frozenset()) - members:
            variant = Key(VARIANT, engine.namespace, name)
            if self._seats.get(variant, (None,))[0] == engine:
                del self._seats[variant]
                changed.add(variant)
        for name, seat in seats.items():
            variant = Key(VARIANT, engine.namespace, name)
            if self._seats.get(variant) != (engine, seat):
                self._seats[variant] = (engine, seat)
                changed.add(variant)
        if members:
            self._members[engine] = members
        else:
            self._members.pop(engine, None)
        return changed

    def hurry(self, engine: Key, pods: Iterable[Key]) -> bool:
        """Pods of the engine to be asked often. Returns whether there are such that were not."""
        before, after = self._hurried_by.pop(engine, frozenset()), frozenset(pods)
        if after:
            self._hurried_by[engine] = after
        self.hurried = (self.hurried - before) | after
        return bool(after - before)
