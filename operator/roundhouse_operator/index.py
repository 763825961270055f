"""Variants by the engines they use: which of them a change of an engine or of a node concerns.

The names that they want are indexed by `public_names`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from roundhouse_operator.core.kinds import ENGINE, Key
from roundhouse_operator.core.observed import Invalid, Line, Variant
from roundhouse_operator.core.rollout.line import NOWHERE, EngineLine, Place, Stand, place_of
from roundhouse_operator.core.status.engine import Usage, sum_up, usage_of
from roundhouse_operator.groups import Groups


@dataclass(frozen=True, slots=True)
class Facts:
    """What others ask about a variant without reading it."""

    engine: Key | None
    """The engine that it names or, under a selector, that was chosen for it."""
    selects: bool
    usage: Usage
    scheduled: bool
    generation: int | None
    """Of the engine, that it was last made from."""
    place: Place
    """In the line of its engine's variants."""


def facts(variant: Variant) -> Facts:
    spec, status = variant.spec, variant.status
    named = None if isinstance(spec, Invalid) else spec.engine_ref
    engine = named.name if named else (status.get("engine") or {}).get("name")
    return Facts(
        engine=Key(ENGINE, variant.namespace, engine) if engine else None,
        selects=not isinstance(spec, Invalid) and spec.engine_selector is not None,
        usage=usage_of(status),
        scheduled=(variant.condition("Scheduled") or {}).get("status") == "True",
        generation=(status.get("engine") or {}).get("generation"),
        place=place_of(variant),
    )


class VariantIndex:
    """Kept by the cache."""

    def __init__(self) -> None:
        self._facts: dict[Key, Facts] = {}
        self._users: Groups[Key, Key] = Groups()
        self._selecting: Groups[str, Key] = Groups()
        self._chosen: dict[Key, Key] = {}
        self._choosing: Groups[Key, Key] = Groups()
        self._lines: defaultdict[Key, EngineLine] = defaultdict(EngineLine)

    def put(self, key: Key, new: Facts | None) -> tuple[set[Key], set[Key]]:
        """Takes in a change, None for a deletion.

        Returns whom it concerns: variants whose turn it may be, and, a little later, engines whose counts it
        changes and variants that are to tell something else.
        """
        old = self._facts.pop(key, None)
        if old:
            self._unlink(key, old)
        if new:
            self._facts[key] = new
            self._link(key, new)
        if new is None or not new.selects:
            self._choose(key, None)
        now: set[Key] = set()
        counted = {one and (one.engine, one.usage, one.generation, one.place) for one in (old, new)}
        soon = {one.engine for one in (old, new) if one and one.engine} if len(counted) > 1 else set()
        for engine in soon.copy():
            next_ones, tellers = self._move(key, engine, new)
            now, soon = now | next_ones, soon | tellers
        return now - {key}, soon

    def _move(self, key: Key, engine: Key, new: Facts | None) -> tuple[set[Key], set[Key]]:
        """The variant's new place in the line of `engine`: whose turn it is then, and who has news."""
        line = self._lines[engine]
        place = new.place if new and new.engine == engine else NOWHERE
        moved = line.put(key, place)
        if line.empty:
            del self._lines[engine]
        return moved

    def facts(self, key: Key) -> Facts | None:
        return self._facts.get(key)

    def line(self, key: Key) -> Line:
        """The others of its engine's line, as a variant sees them."""
        one = self._facts.get(key)
        line = self._lines.get(one.engine) if one and one.engine else None
        return line.seen_by(key) if line else Line()

    def stand(self, engine: Key, generation: int) -> Stand:
        """How far `generation` of the engine has come among its variants."""
        line = self._lines.get(engine)
        behind = sum(self._facts[key].generation != generation for key in self._users[engine])
        return replace(line.stand() if line else Stand(), behind=behind)

    def choose(self, key: Key, engine: Key | None) -> set[Key]:
        """What the last pass chose for a variant that selects; the engines that this is news to.

        On an engine that is shared its status says so only once it has a place there.
        """
        known = self._facts.get(key)
        return self._choose(key, engine if known and known.selects else None)

    def _choose(self, key: Key, engine: Key | None) -> set[Key]:
        before = self._chosen.pop(key, None)
        if engine:
            self._chosen[key] = engine
        if before == engine:
            return set()
        if before:
            self._choosing.discard(before, key)
        if engine:
            self._choosing.add(engine, key)
        return {one for one in (before, engine) if one}

    def engines(self, key: Key) -> set[Key]:
        """That a variant uses, or is to use."""
        known = self._facts.get(key)
        return {one for one in (known and known.engine, self._chosen.get(key)) if one}

    def members(self, engine: Key) -> set[Key]:
        """Variants that use the engine, or are to use it."""
        return {*self._users[engine], *self._choosing[engine]}

    def users(self, engine: Key) -> set[Key]:
        """Variants that use the engine, or that might choose it."""
        return {*self._users[engine], *self._selecting[engine.namespace]}

    def usage(self, engine: Key) -> Usage:
        return sum_up(self._facts[key].usage for key in self._users[engine])

    def waiting(self) -> Iterator[Key]:
        """Variants whose pods have no node: those that a change of a node may help."""
        return (key for key, one in self._facts.items() if not one.scheduled)

    def _link(self, key: Key, one: Facts) -> None:
        if one.engine:
            self._users.add(one.engine, key)
        if one.selects:
            self._selecting.add(key.namespace, key)

    def _unlink(self, key: Key, one: Facts) -> None:
        if one.engine:
            self._users.discard(one.engine, key)
        self._selecting.discard(key.namespace, key)
