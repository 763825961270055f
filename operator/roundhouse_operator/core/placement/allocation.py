"""By which mechanism a pod gets its GPU, and by which resource: chosen from what the nodes offer.

Whole GPUs come before shares, shares before slices; of slices the smallest that fits is taken. What is
chosen is kept while pods run: a node that comes or goes replaces none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_api.quantity import Quantity
from roundhouse_api.v1alpha1 import AllocationChosen, AllocationType, Device, GPUMode
from roundhouse_operator.core.placement.fleet import Fleet
from roundhouse_operator.core.placement.need import Expression, Need, Stated, Unplaceable
from roundhouse_operator.core.placement.nodes import NVIDIA_GPU, NVIDIA_MIG, NVIDIA_SHARED
from roundhouse_operator.core.placement.supply import Slice
from roundhouse_operator.core.placement.terms import build_terms, plain_terms, tells_memory
from roundhouse_operator.core.placement.verdict import NEARNESS

KNOWN_RESOURCES: Final = (
    NVIDIA_GPU,
    "amd.com/gpu",
    "gpu.intel.com/xe",
    "gpu.intel.com/i915",
    NVIDIA_SHARED,
)
"""Of these the first that some fitting node offers is taken where the spec names none."""


def place(
    stated: Stated, fleet: Fleet, *, measured_mib: int | None = None, prefer: Manifest | None = None
) -> Need:
    """A decision made anew. `prefer` is the `status.placement` of pods that run."""
    on_cpu = Need(stated)
    if stated.mode is GPUMode.NONE:
        return on_cpu
    before = prefer or {}
    if stated.mode is GPUMode.OPTIONAL and before.get("device") == Device.CPU:
        return on_cpu
    stated_mib = stated.memory.mib if stated.memory else None
    memory_mib = max(stated_mib or 0, measured_mib or 0) or None
    chosen = _choose(list(_candidates(stated, fleet, memory_mib, before)), fleet)
    kept = before.get("device") == Device.GPU
    if stated.mode is GPUMode.OPTIONAL and not kept and not _fits(chosen, fleet):
        return on_cpu
    return chosen


def keep(stated: Stated, before: Manifest) -> Need | None:
    """The decision that `status.placement` tells of, if it was made for the same needs."""
    if "device" not in before or before.get("revision", stated.revision) != stated.revision:
        return None
    if before["device"] == Device.CPU:
        return Need(stated) if stated.mode is not GPUMode.REQUIRED else None
    if stated.mode is GPUMode.NONE or before.get("allocation") not in set(AllocationChosen):
        return None
    resource, allocation = before.get("resourceName"), AllocationChosen(before["allocation"])
    if "revision" not in before:
        # By a version that knew of no more than this.
        memory = stated.memory.mib if stated.memory else None
        return Need(stated, allocation, resource, memory, plain_terms(stated, resource or ""))
    total = (before.get("required") or {}).get("total")
    terms = tuple(
        tuple(
            Expression(one["key"], one["operator"], tuple(one["values"])) for one in term["matchExpressions"]
        )
        for term in before.get("nodeSelectorTerms") or ()
    )
    return Need(stated, allocation, resource, Quantity(total).mib if total else None, terms)


def _choose(candidates: list[Need], fleet: Fleet) -> Need:
    """The first that a node meets; where none does, the first of those that come nearest to it."""

    def distance(need: Need) -> int:
        obstacle = need.unplaceable.reason if need.unplaceable else fleet.survey(need).obstacle
        return NEARNESS.index(obstacle) if obstacle in NEARNESS else len(NEARNESS)

    return next((one for one in candidates if _fits(one, fleet)), None) or min(candidates, key=distance)


def _fits(need: Need, fleet: Fleet) -> bool:
    return need.unplaceable is None and fleet.survey(need).fitting > 0


def _candidates(stated: Stated, fleet: Fleet, memory_mib: int | None, before: Manifest) -> Iterator[Need]:
    """At least one."""
    allocation = stated.allocation
    match allocation.type if allocation else AllocationType.AUTO:
        case AllocationType.DRA:
            yield _claim(stated, fleet, memory_mib)
        case AllocationType.MIG:
            profile = allocation.mig.profile if allocation and allocation.mig else None
            yield from _sliced(stated, fleet, memory_mib, profile)
        case AllocationType.DEVICE_PLUGIN:
            plugin = allocation.device_plugin if allocation else None
            names = (plugin.resource_name,) if plugin else _whole(fleet, memory_mib, before)
            yield from (_plugin(stated, fleet, memory_mib, name) for name in names)
        case AllocationType.AUTO:
            whole = _whole(fleet, memory_mib, before)
            yield from (_plugin(stated, fleet, memory_mib, name) for name in whole)
            if stated.count == 1 and fleet.supply.slices:
                yield from _sliced(stated, fleet, memory_mib, None)


def _whole(fleet: Fleet, memory_mib: int | None, before: Manifest) -> tuple[str, ...]:
    """Resources in the order in which they are tried: that of running pods, then those on offer."""
    mine = before.get("resourceName") if before.get("allocation") == AllocationChosen.DEVICE_PLUGIN else None
    there = [
        name
        for name in KNOWN_RESOURCES
        if name in fleet.supply.resources and (memory_mib is None or tells_memory(name))
    ]
    names = dict.fromkeys([*([mine] if mine in KNOWN_RESOURCES else []), *there])
    return tuple(names) or KNOWN_RESOURCES[:1]


def _plugin(stated: Stated, fleet: Fleet, memory_mib: int | None, resource: str) -> Need:
    """A slice that is asked for by its resource's name is one none the less."""
    kind = AllocationChosen.MIG if resource.startswith(NVIDIA_MIG) else AllocationChosen.DEVICE_PLUGIN
    memory_mib = memory_mib if tells_memory(resource) else None
    return Need(stated, kind, resource, memory_mib, build_terms(stated, resource, memory_mib, fleet.supply))


def _claim(stated: Stated, fleet: Fleet, memory_mib: int | None) -> Need:
    need = Need(stated, AllocationChosen.DRA, None, memory_mib)
    if fleet.claims_served:
        return need
    words = "The cluster does not serve resource.k8s.io/v1, so no device can be claimed"
    return replace(need, unplaceable=Unplaceable(Reason.DRA_UNAVAILABLE, words))


def _sliced(stated: Stated, fleet: Fleet, memory_mib: int | None, profile: str | None) -> Iterator[Need]:
    """Smallest first; where none is large enough, the largest, so that it can be said what it lacks."""
    plain = profile.replace("+", ".") if profile else None
    slices = [one for one in fleet.supply.slices if plain is None or one.profile.replace("+", ".") == plain]
    enough = [one for one in slices if not memory_mib or one.memory_mib >= memory_mib]
    for one in enough or slices[-1:]:
        yield _slice(stated, fleet, memory_mib, one)
    if not slices:
        need = Need(stated, AllocationChosen.MIG, f"{NVIDIA_MIG}{plain}" if plain else None, memory_mib)
        if need.resource:
            yield replace(need, terms=build_terms(stated, need.resource, memory_mib, fleet.supply))
        else:
            words = "No node offers a MIG slice, and `allocation.mig.profile` names none"
            yield replace(need, unplaceable=Unplaceable(Reason.NO_GPU, words))


def _slice(stated: Stated, fleet: Fleet, memory_mib: int | None, one: Slice) -> Need:
    cards = stated.products
    products = tuple(
        name for name in one.products if not cards or name in cards or name.partition("-MIG-")[0] in cards
    )
    if one.products and not products:
        products = cards  # no slice of these cards: no node will do
    terms = build_terms(stated, one.resource, memory_mib, fleet.supply, products)
    return Need(stated, AllocationChosen.MIG, one.resource, memory_mib, terms)
