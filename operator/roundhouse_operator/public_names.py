"""Who wants which public name, and who falls back to it: an index over variants, adapters and policies.

Answers, for a resource that changed, whose passes may come out differently because of it. The cost grows
with the names and fallbacks that the change concerns, not with the number of resources.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from roundhouse_operator.core import ids
from roundhouse_operator.core.fallbacks import STRAIGHT, circling_with, cycle_through
from roundhouse_operator.core.kinds import Key
from roundhouse_operator.core.observed import Claim, Detours

Name = tuple[str, str]
"""Namespace and public name."""


class PublicNames:
    """Kept by the cache. Nothing is left of a resource that is gone."""

    def __init__(self) -> None:
        self._claims: dict[Key, Claim] = {}
        self._fallbacks: dict[Key, tuple[str, ...]] = {}
        self._claimants: dict[Name, set[Key]] = defaultdict(set)
        self._followers: dict[Name, set[Key]] = defaultdict(set)

    def put(self, key: Key, claim: Claim | None, fallbacks: tuple[str, ...] = ()) -> set[Key]:
        """Takes in a change, None for a deletion; returns the others whom it concerns."""
        before, led = self._claims.get(key), self._fallbacks.get(key, ())
        if before == claim and led == fallbacks:
            return set()
        names = {(key.namespace, name) for one in (before, claim) if one for name in one.names}
        rivals = {rival for name in names for rival in self._claimants.get(name, ())}
        followers = {one for name in names for one in self._followers.get(name, ())}
        walked = self._in_circles({key, *followers})
        self._replace(key, claim, fallbacks)
        walked |= self._in_circles({key, *followers})
        return (rivals | followers | walked) - {key}

    def rivals(self, key: Key) -> dict[str, tuple[Claim, ...]]:
        """Everybody who wants one of the resource's names, by name; itself included."""
        return {name: self._wanting((key.namespace, name)) for name in self._claims[key].names}

    def detours(self, key: Key) -> Detours:
        fallbacks = self._fallbacks.get(key)
        if not fallbacks:
            return STRAIGHT
        circle = cycle_through(key, self._steps)
        return Detours(
            cycle=tuple(self._claims[one].names[0] for one in circle),
            unknown=tuple(name for name in fallbacks if not self._claimants.get((key.namespace, name))),
        )

    def _steps(self, key: Key) -> Iterator[Key]:
        for name in self._fallbacks.get(key, ()):
            if claims := self._wanting((key.namespace, name)):
                yield ids.owner(name, claims)

    def _wanting(self, name: Name) -> tuple[Claim, ...]:
        return tuple(self._claims[one] for one in sorted(self._claimants.get(name, ()), key=str))

    def _in_circles(self, keys: Iterable[Key]) -> set[Key]:
        return {one for key in keys if key in self._fallbacks for one in circling_with(key, self._steps)}

    def _replace(self, key: Key, claim: Claim | None, fallbacks: tuple[str, ...]) -> None:
        before = self._claims.pop(key, None)
        _leave(self._claimants, key, (before and before.names) or ())
        _leave(self._followers, key, self._fallbacks.pop(key, ()))
        if claim is None:
            return
        self._claims[key] = claim
        for name in claim.names:
            self._claimants[key.namespace, name].add(key)
        if fallbacks:
            self._fallbacks[key] = fallbacks
            for name in fallbacks:
                self._followers[key.namespace, name].add(key)


def _leave(groups: dict[Name, set[Key]], key: Key, names: Iterable[str]) -> None:
    for name in names:
        group = groups.get((key.namespace, name))
        if group is not None:
            group.discard(key)
            if not group:
                del groups[key.namespace, name]
