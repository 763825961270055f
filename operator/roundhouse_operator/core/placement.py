"""Where a variant's pods can run: GPU or CPU, by which resource, and what speaks against each node.

Looks at what nodes could hold, not at what is free now: the scheduler knows that, and its word is read
from the pods. GPU or CPU, once chosen, is kept while pods run, so that a node that comes or goes rolls
none of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import (
    AllocationChosen,
    Device,
    GPUMode,
    Hardware,
    Placement,
    RejectedNodes,
    Toleration,
)
from roundhouse_operator.core.observed import Node

NVIDIA: Final = "nvidia.com/"
KNOWN_RESOURCES: Final = ("nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/xe", "gpu.intel.com/i915")
"""Of these the first that a node offers is taken where the spec names none."""
MEMORY_LABEL: Final = "nvidia.com/gpu.memory"
PRODUCT_LABEL: Final = "nvidia.com/gpu.product"


@dataclass(frozen=True, slots=True)
class Need:
    """What one pod needs of a node. No resource: it runs on the CPU."""

    resource: str | None
    count: int
    memory_mib: int | None
    products: tuple[str, ...]
    node_selector: tuple[tuple[str, str], ...]
    tolerations: tuple[Toleration, ...]

    @property
    def device(self) -> Device:
        return Device.GPU if self.resource else Device.CPU


@dataclass(frozen=True, slots=True)
class Survey:
    """Nodes counted under what speaks against them; an example of each."""

    fitting: int
    rejected: tuple[tuple[Reason, int, str], ...]
    largest_mib: int | None = None

    @property
    def obstacle(self) -> Reason:
        """Why no node fits: that of the nodes which came nearest."""
        order = list(_NEARNESS)
        reasons = [reason for reason, _, _ in self.rejected]
        return min(reasons, key=order.index, default=Reason.NO_MATCHING_NODE)


_NEARNESS: Final = (Reason.INSUFFICIENT_GPU, Reason.INSUFFICIENT_VRAM, Reason.NO_GPU, Reason.NO_MATCHING_NODE)


def need(hardware: Hardware, nodes: Iterable[Node], *, keep: Manifest | None = None) -> Need:
    """`keep` is the `status.placement` of pods that run; without one, the nodes decide what is open."""
    gpu = hardware.gpu
    mode = gpu.mode if gpu and gpu.mode else GPUMode.NONE
    resource: str | None = None
    if mode is not GPUMode.NONE:
        nodes = tuple(nodes)
        allocation = gpu.allocation if gpu else None
        plugin = allocation.device_plugin if allocation else None
        resource = (
            plugin.resource_name
            if plugin
            else (keep or {}).get("resourceName") or _offered(nodes) or KNOWN_RESOURCES[0]
        )
        if mode is GPUMode.OPTIONAL and not _wants_gpu(resource, nodes, keep):
            resource = None
    wanted = gpu if resource else None
    nvidia = resource is not None and resource.startswith(NVIDIA)
    return Need(
        resource=resource,
        count=(wanted and wanted.count) or 1,
        # Only NVIDIA's feature discovery labels nodes with memory; `support` says so for the others.
        memory_mib=wanted.min_memory.mib if nvidia and wanted and wanted.min_memory else None,
        products=tuple(sorted(wanted.products or ())) if wanted else (),
        node_selector=tuple(sorted((hardware.node_selector or {}).items())),
        tolerations=hardware.tolerations or (),
    )


def survey(need: Need, nodes: Iterable[Node]) -> Survey:
    fitting, largest = 0, None
    rejected: dict[Reason, list[str]] = defaultdict(list)
    for node in nodes:
        obstacle = _obstacle(need, node)
        if obstacle is None:
            fitting += 1
        else:
            rejected[obstacle].append(node.name)
        if need.resource and node.devices.get(need.resource) and (memory := _memory_mib(node)):
            largest = max(largest or 0, memory)
    counts = sorted((reason, len(names), min(names)) for reason, names in rejected.items())
    return Survey(fitting, tuple(counts), largest)


def as_status(need: Need, found: Survey) -> Manifest:
    """`status.placement` of a variant."""
    return Placement(
        device=need.device,
        allocation=AllocationChosen.DEVICE_PLUGIN if need.resource else None,
        resource_name=need.resource,
        nodes_fitting=found.fitting,
        nodes_rejected=tuple(
            RejectedNodes(reason=reason.value, count=count, example=example)
            for reason, count, example in found.rejected
        ),
    ).model_dump(by_alias=True, exclude_defaults=True, mode="json")


def explain(need: Need, found: Survey) -> str:
    """For people: what is needed and what there is."""
    wanted = f"{need.count} × {need.resource}" if need.resource else "a node"
    if need.memory_mib:
        wanted += f" with {need.memory_mib} MiB each"
    if need.products:
        wanted += f" of {', '.join(need.products)}"
    against = ", ".join(f"{count} {reason.value} (as {example})" for reason, count, example in found.rejected)
    return f"needs {wanted}; {found.fitting} nodes fit" + (f"; not: {against}" if against else "")


def _offered(nodes: Iterable[Node]) -> str | None:
    offered = {name for node in nodes for name, count in node.devices.items() if count}
    return next((name for name in KNOWN_RESOURCES if name in offered), None)


def _wants_gpu(resource: str, nodes: Iterable[Node], keep: Manifest | None) -> bool:
    if keep and keep.get("device"):
        return bool(keep["device"] == Device.GPU)
    return any(node.devices.get(resource) for node in nodes)


def _obstacle(need: Need, node: Node) -> Reason | None:
    """The first thing that keeps a pod off the node, or None."""
    if (
        node.cordoned
        or any(node.labels.get(key) != value for key, value in need.node_selector)
        or not all(_tolerated(taint, need.tolerations) for taint in node.taints)
    ):
        return Reason.NO_MATCHING_NODE
    if need.resource is None:
        return None
    offered = node.devices.get(need.resource, 0)
    if not offered or (need.products and node.labels.get(PRODUCT_LABEL) not in need.products):
        return Reason.NO_GPU
    if need.memory_mib and (_memory_mib(node) or 0) < need.memory_mib:
        return Reason.INSUFFICIENT_VRAM
    return Reason.INSUFFICIENT_GPU if offered < need.count else None


def _tolerated(taint: tuple[str, str, str], tolerations: Iterable[Toleration]) -> bool:
    key, value, effect = taint
    if effect == "PreferNoSchedule":
        return True
    return any(
        (each.effect is None or each.effect.value == effect)
        and (not each.key or each.key == key)
        and (each.operator == "Exists" or (each.value or "") == value)
        for each in tolerations
    )


def _memory_mib(node: Node) -> int | None:
    label = node.labels.get(MEMORY_LABEL, "")
    return int(label) if label.isdecimal() else None
