"""Slices of devices by pool and by node: which devices can be reached from a node.

A driver that changes a pool writes slices of a newer generation, and removes the older ones by and by: these
count no more.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from roundhouse_operator.core.placement.devices import ClaimableDevice, DeviceSlice

EVERYWHERE: Final = ""
"""The node of slices that every node can reach."""
_NONE: Final = frozenset[str]()


class Pools:
    def __init__(self) -> None:
        self._slices: dict[str, DeviceSlice] = {}
        self._at: defaultdict[str, set[str]] = defaultdict(set)
        self._of: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._newest: dict[tuple[str, str], int] = {}

    def put(self, name: str, part: DeviceSlice | None) -> frozenset[str]:
        """None for a slice that is gone. Returns the nodes that reach other devices now."""
        before = self._slices.get(name)
        if before == part:
            return frozenset()
        concerned: set[str] = set()
        if before:
            del self._slices[name]
            self._at[before.node].discard(name)
            if not self._at[before.node]:
                del self._at[before.node]
            self._of[before.pool].discard(name)
            concerned |= {before.node, *self._renewed(before.pool)}
        if part:
            self._slices[name] = part
            self._at[part.node].add(name)
            self._of[part.pool].add(name)
            concerned |= {part.node, *self._renewed(part.pool)}
        return frozenset(concerned)

    def at(self, node: str) -> tuple[ClaimableDevice, ...]:
        """Of the newest generation of each pool."""
        there = self._at.get(node, _NONE) | self._at.get(EVERYWHERE, _NONE)
        parts = (self._slices[name] for name in sorted(there))
        return tuple(
            device for part in parts if part.generation == self._newest[part.pool] for device in part.devices
        )

    def _renewed(self, pool: tuple[str, str]) -> set[str]:
        """Nodes of the pool, where another of its generations counts now."""
        parts = [self._slices[name] for name in self._of[pool]]
        before = self._newest.pop(pool, None)
        if not parts:
            del self._of[pool]
            return set()
        self._newest[pool] = max(part.generation for part in parts)
        return set() if before == self._newest[pool] else {part.node for part in parts}
