"""What a cluster has to offer, taken together: what a choice of resource and of labels is made from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

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


def take_stock(nodes: Iterable[Node]) -> Supply:
    nodes = tuple(nodes)
    return Supply(
        resources=frozenset(name for node in nodes for name, count in node.devices.items() if count),
        slices=_slices(nodes),
        shared=frozenset(
            (base, sharing)
            for node in nodes
            for base in {label_base(name) for name in node.devices if name.startswith(NVIDIA)}
            if (sharing := sharing_of(node, base)).replicas > 1
        ),
        mixed=tuple(sorted(_mixed(nodes)))[:MIXED_NODES],
        amd_sizes=frozenset(
            size
            for node in nodes
            if any(name.startswith(AMD) for name in node.devices)
            and (size := node.labels.get(AMD_MEMORY_LABEL))
        ),
    )


def _slices(nodes: tuple[Node, ...]) -> tuple[Slice, ...]:
    sizes: dict[tuple[str, str], int] = {}
    products: dict[tuple[str, str], set[str]] = {}
    for node in nodes:
        kinds = [
            (name.removeprefix(NVIDIA_MIG), name)
            for name, count in node.devices.items()
            if count and name.startswith(NVIDIA_MIG) and name == label_base(name)
        ]
        if (single := mig_of(node)) and node.devices.get(NVIDIA_GPU):
            kinds.append((single[1], NVIDIA_GPU))
            products.setdefault(kinds[-1], set()).add(node.labels[f"{NVIDIA_GPU}.product"])
        for kind in kinds:
            sizes[kind] = max(sizes.get(kind, 0), memory_of(node, kind[1]) or 0)
    return tuple(
        sorted(
            Slice(size, profile, resource, tuple(sorted(products.get((profile, resource), ()))))
            for (profile, resource), size in sizes.items()
        )
    )


def _mixed(nodes: tuple[Node, ...]) -> set[str]:
    return {
        node.labels.get(HOSTNAME_LABEL, node.name)
        for node in nodes
        if any(has_mixed_cards(node, name) for name in node.devices if name.startswith(NVIDIA))
    }
