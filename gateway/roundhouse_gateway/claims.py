"""Which variant answers to which name: those it has published, unless an earlier namespace has them.

Within a namespace the operator sees to it that names have one owner. While its news of that are on the way
two may still claim one: then an id goes before an alternate name, that before an alias, and the variant that
is first by name keeps it. Only those whose claims touch, in one step or more, are settled anew.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace and name of a variant."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a variant answers to besides its id."""

    alternate_names: tuple[str, ...]
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """The names that a variant has published; `rank` is the place of its namespace."""

    rank: int
    key: Key
    id: str
    names: Names

    @property
    def all(self) -> tuple[str, ...]:
        return (self.id, *self.names.alternate_names, *self.names.aliases)


class Claims:
    """All claims, and what came of them."""

    def __init__(self) -> None:
        self._claims: dict[Key, Claim] = {}
        self._claimants: dict[str, set[Key]] = {}
        self._won: dict[Key, Names] = {}
        self._touched: set[Key] = set()
        self._lost: dict[Key, dict[str, Key]] = {}

    def won(self, key: Key) -> Names | None:
        """None where the variant answers to nothing, as its id is another's, or as of the last `settle`."""
        return self._won.get(key)

    def put(self, key: Key, claim: Claim | None) -> None:
        before = self._claims.get(key)
        if before == claim:
            return
        self._touched.add(key)
        for name in before.all if before else ():
            self._claimants[name].discard(key)
            self._touched |= self._claimants[name]
            if not self._claimants[name]:
                del self._claimants[name]
        if claim is None:
            del self._claims[key]
            return
        self._claims[key] = claim
        for name in claim.all:
            self._claimants.setdefault(name, set()).add(key)

    def settle(self) -> set[Key]:
        """Awards the names anew; whose have changed."""
        concerned = self._touching(self._touched)
        awarded = award(self._claims[key] for key in concerned if key in self._claims)
        changed = {key for key in concerned if self._won.get(key) != awarded.get(key)}
        for key in changed:
            self._won.pop(key, None)
        self._won |= awarded
        self._touched = set()
        for key in concerned:
            self._tell_lost(key)
        return changed

    def _tell_lost(self, key: Key) -> None:
        """Once for each name that an earlier namespace has: the variant's own status knows nothing of it."""
        claim = self._claims.get(key)
        owners = {name: self._earlier(claim, name) for name in claim.all} if claim else {}
        lost = {name: owner for name, owner in owners.items() if owner}
        for name, owner in sorted(lost.items()):
            if self._lost.get(key, {}).get(name) != owner:
                log.warning(
                    "%r leads to %s/%s, not to %s/%s, which publishes it too: of the namespaces that are "
                    "served the earlier one keeps a name; rename one, or order them anew",
                    name,
                    *owner,
                    *key,
                )
        self._lost.pop(key, None)
        if lost:
            self._lost[key] = lost

    def _earlier(self, claim: Claim, name: str) -> Key | None:
        """Who answers to it instead, of an earlier namespace."""
        for key in sorted(self._claimants[name]):
            names = self._won.get(key)
            other = self._claims[key]
            if (
                names
                and other.rank < claim.rank
                and name in (other.id, *names.alternate_names, *names.aliases)
            ):
                return key
        return None

    def _touching(self, keys: Iterable[Key]) -> set[Key]:
        found: set[Key] = set()
        ahead = list(keys)
        while ahead:
            key = ahead.pop()
            if key not in found:
                found.add(key)
                claim = self._claims.get(key)
                ahead += [other for name in (claim.all if claim else ()) for other in self._claimants[name]]
        return found


def award(claims: Iterable[Claim]) -> dict[Key, Names]:
    """Who answers to what, of those who answer to anything."""
    taken: set[str] = set()
    won: dict[Key, Names] = {}
    for _, group in groupby(sorted(claims, key=lambda claim: (claim.rank, claim.key)), attrgetter("rank")):
        held = set(taken)

        def win(names: Iterable[str], held: set[str] = held) -> tuple[str, ...]:
            free = tuple(name for name in names if name not in held)
            held.update(free)
            return free

        present = [claim for claim in group if win([claim.id])]
        alternates = [win(claim.names.alternate_names) for claim in present]
        aliases = [win(claim.names.aliases) for claim in present]
        for claim, *found in zip(present, alternates, aliases, strict=True):
            won[claim.key] = Names(*found)
        taken = held
    return won
