"""What a cluster has to offer, taken together: what a choice of resource and of labels is made from."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

from roundhouse_operator.core.placement.counted import Counted
from roundhouse_operator.core.placement.nodes import (
    AMD,
    AMD_MEMORY_LABEL,
    HOSTNAME_LABEL,
    NVIDIA,
    NVIDIA_GPU,
    NVIDIA_MIG,
    Node,
    Sharing,
    has_mixed_cards,
    label_base,
    memory_of,
    mig_of,
    sharing_of,
)

MIXED_NODES: Final = 32
"""Nodes with several kinds of cards that can be kept out by name."""


@dataclass(frozen=True, slots=True, order=True)
class Slice:
    """A kind of MIG slice. `products`: how nodes that call it `nvidia.com/gpu` are labelled."""

    memory_mib: int
    """Of the largest of this profile; 0 where no node says."""
    profile: str
    resource: str
    products: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Supply:
    resources: frozenset[str] = frozenset()
    """Extended resources that some node offers."""
    slices: tuple[Slice, ...] = ()
    """Smallest first."""
    shared: frozenset[tuple[str, Sharing]] = frozenset()
    """Which resources are shared out, by the base of their labels, and how."""
    mixed: tuple[str, ...] = ()
    """Host names of nodes whose labels tell of a part of their cards."""
    amd_sizes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Offer:
    """What one node adds to the supply."""

    resources: frozenset[str] = frozenset()
    slices: frozenset[tuple[str, str, int]] = frozenset()
    """Profile, resource and memory."""
    products: frozenset[tuple[str, str, str]] = frozenset()
    """Profile, resource and product."""
    shared: frozenset[tuple[str, Sharing]] = frozenset()
    amd_sizes: frozenset[str] = frozenset()
    mixed: frozenset[str] = frozenset()


class Stock:
    """The supply of nodes that come and go: a change of one costs what that node offers."""

    def __init__(self) -> None:
        self._resources: Counted[str] = Counted()
        self._slices: Counted[tuple[str, str, int]] = Counted()
        self._products: Counted[tuple[str, str, str]] = Counted()
        self._shared: Counted[tuple[str, Sharing]] = Counted()
        self._amd_sizes: Counted[str] = Counted()
        self._mixed: Counted[str] = Counted()
        self._names: list[str] = []
        """Of nodes with mixed cards, in order."""
        self.supply = Supply()

    def put(self, before: Node | None, after: Node | None) -> bool:
        """A node as it was and as it is. Returns whether the supply is another one now."""
        old, new = _offer(before), _offer(after)
        if old == new:
            return False
        counted = (
            self._resources.put(old.resources, new.resources),
            self._slices.put(old.slices, new.slices),
            self._products.put(old.products, new.products),
            self._shared.put(old.shared, new.shared),
            self._amd_sizes.put(old.amd_sizes, new.amd_sizes),
        )
        named = self._name(old.mixed, new.mixed)
        if not (any(counted) or named):
            return False
        known, self.supply = self.supply, self._sum_up()
        return known != self.supply

    def _name(self, old: frozenset[str], new: frozenset[str]) -> bool:
        """Whether others are named now: where all nodes have mixed cards, those in front alone are."""
        first = self._names[:MIXED_NODES]
        for name in self._mixed.put(old, new):
            place = bisect_left(self._names, name)
            if name in self._mixed:
                self._names.insert(place, name)
            else:
                del self._names[place]
        return first != self._names[:MIXED_NODES]

    def _sum_up(self) -> Supply:
        sizes: dict[tuple[str, str], int] = {}
        products: dict[tuple[str, str], list[str]] = {}
        for profile, resource, size in self._slices:
            sizes[profile, resource] = max(sizes.get((profile, resource), 0), size)
        for profile, resource, product in self._products:
            products.setdefault((profile, resource), []).append(product)
        return Supply(
            resources=frozenset(self._resources),
            slices=tuple(
                sorted(
                    Slice(size, profile, resource, tuple(sorted(products.get((profile, resource), ()))))
                    for (profile, resource), size in sizes.items()
                )
            ),
            shared=frozenset(self._shared),
            mixed=tuple(self._names[:MIXED_NODES]),
            amd_sizes=frozenset(self._amd_sizes),
        )


def _offer(node: Node | None) -> _Offer:
    if node is None or not node.devices:
        return _NOTHING
    nvidia = [name for name in node.devices if name.startswith(NVIDIA)]
    slices, products = _sliced(node)
    bases = ((base, sharing_of(node, base)) for base in {label_base(name) for name in nvidia})
    amd = any(name.startswith(AMD) for name in node.devices) and node.labels.get(AMD_MEMORY_LABEL)
    mixed = any(has_mixed_cards(node, name) for name in nvidia)
    return _Offer(
        resources=frozenset(name for name, count in node.devices.items() if count),
        slices=slices,
        products=products,
        shared=frozenset((base, sharing) for base, sharing in bases if sharing.replicas > 1),
        amd_sizes=frozenset([amd] if amd else ()),
        mixed=frozenset([node.labels.get(HOSTNAME_LABEL, node.name)] if mixed else ()),
    )


def _sliced(node: Node) -> tuple[frozenset[tuple[str, str, int]], frozenset[tuple[str, str, str]]]:
    """Kinds of MIG slices, and how a node that calls its slices `nvidia.com/gpu` is labelled."""
    kinds = [
        (name.removeprefix(NVIDIA_MIG), name)
        for name, count in node.devices.items()
        if count and name.startswith(NVIDIA_MIG) and name == label_base(name)
    ]
    products: set[tuple[str, str, str]] = set()
    if (single := mig_of(node)) and node.devices.get(NVIDIA_GPU):
        kinds.append((single[1], NVIDIA_GPU))
        products.add((*kinds[-1], node.labels[f"{NVIDIA_GPU}.product"]))
    slices = ((profile, resource, memory_of(node, resource) or 0) for profile, resource in kinds)
    return frozenset(slices), frozenset(products)


_NOTHING: Final = _Offer()
