"""What a pod of an engine needs: GPUs, how they are allocated, and where it may run.

An Engine states it, a ModelVariant overrides it field by field; no field has a default.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Len, MaxLen

from roundhouse_api.enums import AllocationType, GPUMode, TaintEffect
from roundhouse_api.model import Model, rule
from roundhouse_api.quantity import Quantity
from roundhouse_api.scalars import (
    INT32_MAX,
    Atomic,
    Between,
    Labels,
    Name,
    Opaque,
    Quantities,
    ResourceName,
    SetOf,
    Word,
)


class DevicePluginAllocation(Model):
    """GPUs as an extended resource of the node."""

    resource_name: ResourceName
    """The extended resource to request, for example nvidia.com/gpu or amd.com/gpu."""


class MIGAllocation(Model):
    """A slice of an NVIDIA GPU."""

    profile: Annotated[str, Len(1, 32)]
    """The slice to request, for example 1g.10gb. Leave `mig` out for the smallest that fits."""


class DRAAllocation(Model):
    """GPUs by dynamic resource allocation (resource.k8s.io)."""

    device_class_name: Name
    """The DeviceClass to claim from."""
    selectors: Annotated[tuple[Annotated[str, Len(1, 1024)], ...], Atomic(8)] = ()
    """Further CEL expressions of resource.k8s.io that a device must meet; one on memory is added."""


class Allocation(Model):
    """By which mechanism of Kubernetes a pod gets its GPUs."""

    type: AllocationType
    """Auto: chosen from what the cluster offers and written to `status.placement`. DevicePlugin: an
    extended resource. MIG: a slice of a GPU. DRA: a ResourceClaim."""
    device_plugin: DevicePluginAllocation | None = None
    """Set only with type DevicePlugin."""
    mig: MIGAllocation | None = None
    """Set only with type MIG. Absent there: the smallest slice that fits."""
    dra: DRAAllocation | None = None
    """Set exactly with type DRA."""

    @rule(
        "has(self.devicePlugin) ? self.type == 'DevicePlugin' : true",
        "`devicePlugin` may only be set when `type` is DevicePlugin",
    )
    def device_plugin_has_its_type(self) -> bool:
        return self.device_plugin is None or self.type is AllocationType.DEVICE_PLUGIN

    @rule("has(self.mig) ? self.type == 'MIG' : true", "`mig` may only be set when `type` is MIG")
    def mig_has_its_type(self) -> bool:
        return self.mig is None or self.type is AllocationType.MIG

    @rule("(self.type == 'DRA') == has(self.dra)", "`dra` must be set exactly when `type` is DRA")
    def dra_has_its_type(self) -> bool:
        return (self.type is AllocationType.DRA) == (self.dra is not None)


class GPU(Model):
    """The GPUs of one pod."""

    mode: GPUMode | None = None
    """Required: a pod without a GPU is not made. Optional: a GPU pod if the cluster has one that fits,
    else a CPU pod; `status.placement.device` says which. None: CPUs only. An Engine must state it."""
    count: Annotated[int, Between(1, 16)] | None = None
    """GPUs for each pod. Absent: 1."""
    min_memory: Quantity | None = None
    """Memory that each GPU must have; placement compares it. Write what the model needs in decimal
    units (15G for a 16 GB card): a card reports less than its name says."""
    display_memory: Quantity | None = None
    """Memory to show to clients, as published by the model's authors. Never schedules."""
    products: Annotated[tuple[Word, ...], SetOf(32)] | None = None
    """Acceptable GPUs, as the node label nvidia.com/gpu.product spells them. Absent: any."""
    allocation: Allocation | None = None
    """By which mechanism the pod gets its GPUs. Absent: Auto."""

    @rule(
        "!has(self.mode) || self.mode != 'None'"
        " || !(has(self.count) || has(self.minMemory) || has(self.products) || has(self.allocation))",
        "only `mode` may be set when `mode` is None",
    )
    def none_stands_alone(self) -> bool:
        others = (self.count, self.min_memory, self.products, self.allocation)
        return self.mode is not GPUMode.NONE or all(other is None for other in others)


class ResourceNeeds(Model):
    """CPU, memory and ephemeral storage of the engine's container."""

    requests: Quantities | None = None
    """What is set aside for the container: cpu, memory, ephemeral-storage. GPUs belong to `gpu`."""
    limits: Quantities | None = None
    """What the container may use at most: cpu, memory, ephemeral-storage. GPUs belong to `gpu`."""

    def above_limits(self) -> list[str]:
        """Resources of which more is requested than the limit allows."""
        requests, limits = self.requests or {}, self.limits or {}
        return sorted(name for name in requests.keys() & limits if requests[name].exact > limits[name].exact)

    @rule(
        "!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits)"
        " || quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)",
        "each of `requests` must be less than or equal to its limit in `limits`",
    )
    def requests_are_within_limits(self) -> bool:
        return not self.above_limits()


class Toleration(Model):
    """A taint that the pod puts up with, as in core/v1."""

    key: Annotated[str, MaxLen(316)] | None = None
    """The taint's key. Absent: all keys, with operator Exists."""
    operator: Annotated[str, MaxLen(16)] | None = None
    """Exists or Equal. Absent: Equal."""
    value: Annotated[str, MaxLen(63)] | None = None
    """The taint's value, with operator Equal."""
    effect: TaintEffect | None = None
    """The taint's effect. Absent: all effects."""
    toleration_seconds: Annotated[int, Between(0, INT32_MAX)] | None = None
    """How long in seconds a running pod puts up with NoExecute. Absent: for ever."""


class Hardware(Model):
    """What a pod needs and where it may run."""

    gpu: GPU | None = None
    """The pod's GPUs."""
    resources: ResourceNeeds | None = None
    """The container's CPU, memory and ephemeral storage."""
    node_selector: Labels | None = None
    """Labels that a node must carry."""
    tolerations: Annotated[tuple[Toleration, ...], Atomic(16)] | None = None
    """Taints that the pod puts up with."""
    affinity: Opaque | None = None
    """A core/v1 Affinity, joined by AND with the one that placement makes."""
