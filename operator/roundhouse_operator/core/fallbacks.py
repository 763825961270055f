"""Where a variant's fallbacks lead: in a circle, to nobody, or on.

A circle answers nobody once all of its members are down, and each request would walk it for nothing. Only
what can be reached from the variant is looked at, and of that a bounded part.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.kinds import Key
from roundhouse_operator.core.observed import Detours, Invalid, Variant

HORIZON: Final = 256
"""Variants that are looked at from one: a request goes four steps at most."""

Steps = Callable[[Key], Iterable[Key]]
"""The variants that a variant falls back to."""


STRAIGHT: Final = Detours()


def wanted(variant: Variant) -> tuple[str, ...]:
    """The public names that it falls back to."""
    return () if isinstance(variant.spec, Invalid) else tuple(one.model for one in variant.spec.fallbacks)


def cycle_through(start: Key, steps: Steps) -> tuple[Key, ...]:
    """The shortest way from `start` back to it, both ends included; empty where there is none."""
    came_from: dict[Key, Key] = {}
    open_ends = deque([start])
    while open_ends and len(came_from) < HORIZON:
        here = open_ends.popleft()
        for there in steps(here):
            if there == start:
                return (*reversed(tuple(_way_back(here, start, came_from))), start)
            if there not in came_from:
                came_from[there] = here
                open_ends.append(there)
    return ()


def circling_with(start: Key, steps: Steps) -> set[Key]:
    """All that stand in some circle with `start`; itself is among them, or nobody."""
    led_here: dict[Key, set[Key]] = defaultdict(set)
    seen, open_ends = {start}, deque([start])
    while open_ends and len(seen) < HORIZON:
        here = open_ends.popleft()
        for there in steps(here):
            led_here[there].add(here)
            if there not in seen:
                seen.add(there)
                open_ends.append(there)
    circling: set[Key] = set()
    backwards = [start]
    while backwards:
        for before in led_here[backwards.pop()] - circling:
            circling.add(before)
            backwards.append(before)
    return circling


def troubles(detours: Detours) -> Iterator[Trouble]:
    if detours.cycle:
        yield Trouble(Reason.FALLBACK_CYCLE, f"Fallbacks lead in a circle: {' → '.join(detours.cycle)}")
    if detours.unknown:
        named = ", ".join(repr(one) for one in sorted(detours.unknown))
        yield Trouble(Reason.UNRESOLVED_MODEL, f"Fallbacks that nothing answers to: {named}")


def _way_back(last: Key, start: Key, came_from: dict[Key, Key]) -> Iterator[Key]:
    while last != start:
        yield last
        last = came_from[last]
    yield start
