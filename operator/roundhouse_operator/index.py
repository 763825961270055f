"""Variants by the engines they use: which of them a change of an engine or of a node concerns.

The names that they want are indexed by `public_names`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from roundhouse_operator.core.kinds import ENGINE, Key
from roundhouse_operator.core.observed import Invalid, Variant
from roundhouse_operator.core.status.engine import Usage, sum_up, usage_of


@dataclass(frozen=True, slots=True)
class Facts:
    """What others ask about a variant without reading it."""

    engine: Key | None
    """The engine that it names or, under a selector, that was chosen for it."""
    selects: bool
    usage: Usage
    scheduled: bool


def facts(variant: Variant) -> Facts:
    spec, status = variant.spec, variant.status
    named = None if isinstance(spec, Invalid) else spec.engine_ref
    engine = named.name if named else (status.get("engine") or {}).get("name")
    return Facts(
        engine=Key(ENGINE, variant.namespace, engine) if engine else None,
        selects=not isinstance(spec, Invalid) and spec.engine_selector is not None,
        usage=usage_of(status),
        scheduled=(variant.condition("Scheduled") or {}).get("status") == "True",
    )


class VariantIndex:
    """Kept by the cache; every set is empty rather than absent."""

    def __init__(self) -> None:
        self._facts: dict[Key, Facts] = {}
        self._users: dict[Key, set[Key]] = defaultdict(set)
        self._selecting: dict[str, set[Key]] = defaultdict(set)

    def put(self, key: Key, new: Facts | None) -> set[Key]:
        """Takes in a change, None for a deletion; returns the engines whose counts it concerns."""
        old = self._facts.pop(key, None)
        if old:
            self._unlink(key, old)
        if new:
            self._facts[key] = new
            self._link(key, new)
        counted = {one and (one.engine, one.usage) for one in (old, new)}
        return {one.engine for one in (old, new) if one and one.engine} if len(counted) > 1 else set()

    def users(self, engine: Key) -> set[Key]:
        """Variants that use the engine, or that might choose it."""
        return self._users.get(engine, set()) | self._selecting.get(engine.namespace, set())

    def usage(self, engine: Key) -> Usage:
        return sum_up(self._facts[key].usage for key in self._users.get(engine, ()))

    def waiting(self) -> Iterator[Key]:
        """Variants whose pods have no node: those that a change of a node may help."""
        return (key for key, one in self._facts.items() if not one.scheduled)

    def _link(self, key: Key, one: Facts) -> None:
        for group in self._groups(key, one):
            group.add(key)

    def _unlink(self, key: Key, one: Facts) -> None:
        for group in self._groups(key, one):
            group.discard(key)

    def _groups(self, key: Key, one: Facts) -> Iterable[set[Key]]:
        if one.engine:
            yield self._users[one.engine]
        if one.selects:
            yield self._selecting[key.namespace]
