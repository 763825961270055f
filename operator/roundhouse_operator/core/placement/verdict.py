"""What speaks against a node, or nothing: the scheduler's rules over what the node could hold.

The verdict is that on the pod as it is written: a node is counted as fitting exactly where the scheduler
would put the pod while the node is empty. Which of a node's shortcomings is told is the one that is left when
the others are mended first: too little memory is nearer to fitting than no GPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.v1alpha1 import AllocationChosen
from roundhouse_operator.core.placement.devices import ClaimableDevice, DeviceClass, admits
from roundhouse_operator.core.placement.matching import keeps_out, meets
from roundhouse_operator.core.placement.need import Expression, Need, Term
from roundhouse_operator.core.placement.nodes import (
    AMD_MEMORY_LABEL,
    HOSTNAME_LABEL,
    VENDORS,
    Node,
    has_mixed_cards,
    memory_of,
    product_label,
)

NEARNESS: Final = (
    Reason.INSUFFICIENT_GPU,
    Reason.INSUFFICIENT_RESOURCES,
    Reason.INSUFFICIENT_VRAM,
    Reason.SHARED_GPU,
    Reason.MIXED_GPUS,
    Reason.UNKNOWN_VRAM,
    Reason.NO_GPU,
    Reason.NO_MATCHING_NODE,
)
"""Obstacles, that of the node which comes nearest to fitting first."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one node. `obstacle` None: it fits."""

    obstacle: Reason | None
    memory_mib: int | None = None
    """Of the largest device that the pod could get there, were it not for the obstacle."""
    offered: int = 0
    """Devices that the node has, where they are too few."""
    instead: tuple[str, ...] = ()
    """What it has in place of the GPU that is asked for: its product, or its resources."""
    unmet: tuple[str, ...] = ()
    """What of the author's own rules keeps it out."""
    room: tuple[tuple[str, int], ...] = ()
    """What it has in all of the CPU, memory or storage of which that is too little; as `Stated.requests`."""


@dataclass(frozen=True, slots=True)
class Claimables:
    """Devices that can be reached from a node, and the class that a pod claims from, if it is there."""

    device_class: DeviceClass | None
    devices: tuple[ClaimableDevice, ...]


@lru_cache(maxsize=4096)
def _verdict(  # noqa: PLR0913, PLR0917  # the fields of one
    obstacle: Reason | None,
    memory_mib: int | None = None,
    offered: int = 0,
    instead: tuple[str, ...] = (),
    unmet: tuple[str, ...] = (),
    room: tuple[tuple[str, int], ...] = (),
) -> Verdict:
    """One object for all nodes of which the same is true: there is one for each need and node."""
    return Verdict(obstacle, memory_mib, offered, instead, unmet, room)


def judge(need: Need, node: Node, claimables: Claimables) -> Verdict:
    if unmet := keeps_out(node, need.stated):
        return _verdict(Reason.NO_MATCHING_NODE, unmet=unmet)
    if need.allocation is None:
        return _by_room(need, node)
    if need.allocation is AllocationChosen.DRA:
        return _judge_claim(need, node, claimables)
    return _judge_resource(need, node, need.resource or "")


def _judge_resource(need: Need, node: Node, resource: str) -> Verdict:
    offered = node.devices.get(resource, 0)
    if not offered:
        return _verdict(Reason.NO_GPU, instead=_gpus(node))
    memory = memory_of(node, resource)
    if obstacle := _against_labels(need, node):
        product = node.labels.get(product_label(resource)) if obstacle is Reason.NO_GPU else None
        return _verdict(obstacle, memory, instead=(product,) if product else ())
    if offered < need.count:
        return _verdict(Reason.INSUFFICIENT_GPU, memory, offered)
    return _by_room(need, node, memory)


def _gpus(node: Node) -> tuple[str, ...]:
    return tuple(sorted(name for name, count in node.devices.items() if count and name.startswith(VENDORS)))


def _by_room(need: Need, node: Node, memory_mib: int | None = None) -> Verdict:
    """Where all else fits."""
    asked = ((name, amount, node.room.get(name, 0)) for name, amount in need.stated.requests)
    short = tuple((name, there) for name, amount, there in asked if there < amount)
    return _verdict(Reason.INSUFFICIENT_RESOURCES if short else None, memory_mib, room=short)


def _judge_claim(need: Need, node: Node, claimables: Claimables) -> Verdict:
    allocation = need.stated.allocation
    claim = allocation.dra if allocation else None
    if claim is None or claimables.device_class is None:
        return _verdict(Reason.NO_GPU)
    devices = [
        one
        for one in claimables.devices
        if admits(claimables.device_class.selectors, one) and admits(claim.selectors, one)
    ]
    if not devices:
        return _verdict(Reason.NO_GPU)
    sizes = [one.memory_mib for one in devices if one.memory_mib is not None]
    largest = max(sizes, default=None)
    wanted = need.memory_mib
    if wanted and largest is None:
        return _verdict(Reason.UNKNOWN_VRAM)
    enough = [one for one in sizes if one >= wanted] if wanted else devices
    if not enough:
        return _verdict(Reason.INSUFFICIENT_VRAM, largest)
    if len(enough) < need.count:
        return _verdict(Reason.INSUFFICIENT_GPU, largest, len(enough))
    return _by_room(need, node, largest)


def _against_labels(need: Need, node: Node) -> Reason | None:
    """The nearest of the terms' worst obstacles; None where a term is met."""
    if not need.terms:
        return None
    worst = [_worst(term, need, node) for term in need.terms]
    if None in worst:
        return None
    return nearest(reason for reason in worst if reason)


def _worst(term: Term, need: Need, node: Node) -> Reason | None:
    missed = (one for one in term if not meets(one, node.labels))
    return max((_cause(one, need, node) for one in missed), key=NEARNESS.index, default=None)


def _cause(missed: Expression, need: Need, node: Node) -> Reason:
    """What an expression that placement itself made is about."""
    if missed.key == HOSTNAME_LABEL:
        return Reason.MIXED_GPUS
    if missed.key == AMD_MEMORY_LABEL or missed.key.endswith(".memory"):
        if missed.key in node.labels:
            return Reason.INSUFFICIENT_VRAM
        return Reason.MIXED_GPUS if has_mixed_cards(node, need.resource or "") else Reason.UNKNOWN_VRAM
    if missed.key.endswith((".sharing-strategy", ".replicas")):
        return Reason.SHARED_GPU
    return Reason.NO_GPU


def nearest(reasons: Iterable[Reason]) -> Reason:
    return min(reasons, key=NEARNESS.index, default=Reason.NO_MATCHING_NODE)
