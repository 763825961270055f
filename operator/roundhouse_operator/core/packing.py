"""Which variants of an engine go into which of its pods: as few pods as hold them, and as few moves.

First-fit decreasing over what is there: what has a place keeps it as long as that place holds it, what has
none takes the first that does, and a pod is emptied where all that it holds has room elsewhere. Whether a
move has happened, and in which steps it does, is decided in `core.shared`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Item:
    """A variant that wants `copies` places, each in another pod.

    `mib` None: nobody knows what it needs, so it gets a pod of its own where memory counts. Two items of
    the same `model` cannot be in one pod: its engine tells them apart by that name.
    """

    name: str
    model: str
    mib: int | None
    copies: int = 1


@dataclass(frozen=True, slots=True)
class Bin:
    """A pod that is there, with the names of what it is to hold. `mib` None: its memory does not count."""

    index: int
    mib: int | None
    held: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Packing:
    """Names by index of the bin, empty ones left out; and how many copies of which items fit nowhere."""

    bins: dict[int, frozenset[str]]
    mib: dict[int, int | None]
    """Memory of each of those bins."""
    unplaced: dict[str, int]


@dataclass(slots=True)
class _Open:
    """A bin while it is packed."""

    index: int
    mib: int | None
    most: int | None
    items: dict[str, Item] = field(default_factory=dict)

    def takes(self, item: Item) -> bool:
        return self._apart(item) and self._room(item) and (self.most is None or len(self.items) < self.most)

    def _apart(self, item: Item) -> bool:
        return all(one.model != item.model for one in self.items.values())

    def _room(self, item: Item) -> bool:
        if self.mib is None or not self.items:
            return self.mib is None or (item.mib or 0) <= self.mib
        if item.mib is None or any(one.mib is None for one in self.items.values()):
            return False
        return self.used + item.mib <= self.mib

    @property
    def used(self) -> int:
        return sum(one.mib or 0 for one in self.items.values())

    @property
    def over(self) -> bool:
        if self.most is not None and len(self.items) > self.most:
            return True
        alone = len(self.items) > 1 and any(one.mib is None for one in self.items.values())
        return self.mib is not None and (alone or self.used > self.mib)


def pack(
    items: Iterable[Item],
    bins: Iterable[Bin],
    *,
    new_mib: int | None,
    most: int | None = None,
    taken: Callable[[int], bool] = lambda _: False,
) -> Packing:
    """`new_mib`: memory of a new pod; `most`: variants that one may hold; `taken`: may an index not be used?

    The same items and bins in any order give the same packing, and packing its result again changes nothing.
    """
    wanted = {item.name: item for item in items if item.copies > 0}
    opened = [_keep(bin_, wanted, most) for bin_ in sorted(bins, key=lambda one: one.index)]
    for one in opened:
        _relieve(one)
    for item in sorted(wanted.values(), key=_decreasing):
        _thin_out(item, opened)
    unplaced: dict[str, int] = {}
    used = {one.index for one in opened}
    for item in sorted(wanted.values(), key=_decreasing):
        missing = item.copies - sum(item.name in one.items for one in opened)
        for _ in range(missing):
            place = _place(item, opened, _Open(_free_index(used, taken), new_mib, most))
            if place is None:
                unplaced[item.name] = unplaced.get(item.name, 0) + 1
                continue
            used.add(place.index)
            place.items[item.name] = item
    _consolidate(opened)
    full = [one for one in opened if one.items]
    return Packing(
        bins={one.index: frozenset(one.items) for one in full},
        mib={one.index: one.mib for one in full},
        unplaced=unplaced,
    )


def _keep(bin_: Bin, wanted: dict[str, Item], most: int | None) -> _Open:
    models: set[str] = set()
    held: dict[str, Item] = {}
    for name in sorted(bin_.held & wanted.keys()):
        if wanted[name].model not in models:
            held[name] = wanted[name]
            models.add(wanted[name].model)
    return _Open(bin_.index, bin_.mib, most, held)


def _decreasing(item: Item) -> tuple[bool, int, str]:
    """Those that nobody knows the need of come last: each takes a pod."""
    return (item.mib is None, -(item.mib or 0), item.name)


def _relieve(bin_: _Open) -> None:
    """Needs have grown: as few as possible give up their place, and of those the smallest that will do."""
    while bin_.over and len(bin_.items) > 1:
        by_size = sorted(bin_.items.values(), key=_decreasing)
        excess = bin_.used - (bin_.mib or 0)
        enough = [one for one in by_size if (one.mib or 0) >= excess]
        del bin_.items[(enough[-1] if enough else by_size[0]).name]
    if bin_.over:
        bin_.items.clear()


def _thin_out(item: Item, opened: list[_Open]) -> None:
    """More copies than wanted: those go that stand in the emptiest pods."""
    holding = [one for one in opened if item.name in one.items]
    holding.sort(key=lambda one: (len(one.items), one.used, -one.index))
    for one in holding[: max(len(holding) - item.copies, 0)]:
        del one.items[item.name]


def _free_index(used: Collection[int], taken: Callable[[int], bool]) -> int:
    return next(number for number in itertools.count() if number not in used and not taken(number))


def _place(item: Item, opened: list[_Open], fresh: _Open) -> _Open | None:
    """The first pod with room that has something, then one that is empty, then a new one."""
    ordered = [*(one for one in opened if one.items), *(one for one in opened if not one.items)]
    place = next((one for one in ordered if one.takes(item)), None)
    if place is None and fresh.takes(item):
        opened.append(fresh)
        return fresh
    return place


def _consolidate(opened: list[_Open]) -> None:
    """Empty pods whose variants all fit into others, those first whose emptying moves the least."""
    for one in sorted(opened, key=lambda each: (len(each.items), each.used, -each.index)):
        others = sorted(
            (each for each in opened if each is not one and each.items), key=lambda each: each.index
        )
        moves: list[tuple[Item, _Open]] = []
        for item in sorted(one.items.values(), key=_decreasing):
            place = next((each for each in others if each.takes(item)), None)
            if place is None:
                break
            place.items[item.name] = item
            moves.append((item, place))
        if len(moves) == len(one.items):
            one.items.clear()
        else:
            for item, place in moves:
                del place.items[item.name]
