"""From manifests of nodes, device classes and resource slices to what placement looks at."""

from __future__ import annotations

from typing import Final

from roundhouse_api.model import Manifest
from roundhouse_api.quantity import Quantity
from roundhouse_operator.core.placement.devices import ClaimableDevice, DeviceClass, DeviceSlice
from roundhouse_operator.core.placement.need import amount_of
from roundhouse_operator.core.placement.nodes import Node

_ROOM: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
_HEALTH_TAINTS: Final = "node.kubernetes.io/"
_LOST: Final = _HEALTH_TAINTS + "unreachable"


def project_node(manifest: Manifest) -> Node:
    metadata, spec = manifest["metadata"], manifest.get("spec") or {}
    allocatable = (manifest.get("status") or {}).get("allocatable") or {}
    taints = [(one["key"], one.get("value", ""), one["effect"]) for one in spec.get("taints") or ()]
    capacity = (manifest.get("status") or {}).get("capacity") or {}
    info = (manifest.get("status") or {}).get("nodeInfo") or {}
    return Node(
        name=metadata["name"],
        labels=metadata.get("labels") or {},
        devices=_devices(allocatable),
        capacity=_devices(capacity),
        room={
            name: amount_of(name, Quantity.parse(allocatable[name])) for name in _ROOM & allocatable.keys()
        },
        taints=tuple(sorted(taint for taint in taints if not taint[0].startswith(_HEALTH_TAINTS))),
        cordoned=bool(spec.get("unschedulable")),
        lost=any(key == _LOST for key, *_ in taints),
        kubelet=info.get("kubeletVersion", ""),
        runtime=info.get("containerRuntimeVersion", ""),
    )


def _devices(amounts: Manifest) -> dict[str, int]:
    """Extended resources have a domain, and are whole."""
    return {key: int(count) for key, count in amounts.items() if "/" in key and count.isdecimal()}


def project_class(manifest: Manifest) -> DeviceClass:
    selectors = manifest["spec"].get("selectors") or ()
    return DeviceClass(tuple(one["cel"]["expression"] for one in selectors if "cel" in one))


def project_slice(manifest: Manifest) -> DeviceSlice:
    """Devices whose nodes are named by labels or one by one are left to the scheduler."""
    spec = manifest["spec"]
    reachable = "nodeName" in spec or spec.get("allNodes")
    return DeviceSlice(
        pool=(spec["driver"], spec["pool"]["name"]),
        generation=spec["pool"].get("generation", 0),
        node=spec.get("nodeName", ""),
        devices=tuple(_device(spec["driver"], one) for one in spec.get("devices") or ()) if reachable else (),
    )


def _device(driver: str, device: Manifest) -> ClaimableDevice:
    def qualified(name: str) -> str:
        return name if "/" in name else f"{driver}/{name}"

    return ClaimableDevice(
        driver=driver,
        attributes={
            qualified(name): next(iter(value.values()))
            for name, value in (device.get("attributes") or {}).items()
        },
        capacity={
            qualified(name): Quantity.parse(amount["value"]).bytes
            for name, amount in (device.get("capacity") or {}).items()
        },
    )
