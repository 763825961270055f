"""What placement knows of a node, and what the labels of its GPUs mean.

The labels are those of NVIDIA's GPU feature discovery and of AMD's node labeller. They describe one kind of
card: a node with several kinds says of itself what is true for one of them, and is told apart by its counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

NVIDIA: Final = "nvidia.com/"
NVIDIA_GPU: Final = "nvidia.com/gpu"
NVIDIA_SHARED: Final = "nvidia.com/gpu.shared"
NVIDIA_MIG: Final = "nvidia.com/mig-"
AMD: Final = "amd.com/"
VENDORS: Final = (NVIDIA, AMD, "gpu.intel.com/")
"""How names of resources begin that are GPUs."""
HOSTNAME_LABEL: Final = "kubernetes.io/hostname"
MEMORY_LABEL: Final = "nvidia.com/gpu.memory"
PRODUCT_LABEL: Final = "nvidia.com/gpu.product"
MIG_STRATEGY_LABEL: Final = "nvidia.com/mig.strategy"
AMD_MEMORY_LABEL: Final = "amd.com/gpu.vram"
AMD_PRODUCT_LABEL: Final = "amd.com/gpu.product-name"
TIME_SLICING: Final = "time-slicing"
MPS: Final = "mps"
_SHARED_SUFFIX: Final = ".shared"
_MIG_PRODUCT: Final = re.compile(r"^(?P<card>.+)-MIG-(?P<profile>\d+g\.\d+gb[^-]*)(?:-SHARED)?$")
_AMD_SIZE: Final = re.compile(r"^(\d+)G$")
_GIB_IN_MIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Node:
    """A node, with what placement asks about."""

    name: str
    labels: Mapping[str, str]
    devices: Mapping[str, int]
    """Allocatable extended resources."""
    capacity: Mapping[str, int] = field(default_factory=dict)
    """The same with those devices that are out of order."""
    room: Mapping[str, int] = field(default_factory=dict)
    """Allocatable CPU in thousandths of a core, memory and ephemeral storage in bytes."""
    taints: tuple[tuple[str, str, str], ...] = ()
    """Key, value, effect; without those that come and go with a node's health."""
    cordoned: bool = False
    lost: bool = False
    """Its kubelet says nothing any more: what ends there is not seen to its end."""
    kubelet: str = ""
    """Its version, as in `v1.35.0`."""
    runtime: str = ""
    """As in `containerd://2.1.0`."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """How the devices behind a resource are shared out. One replica: not at all."""

    strategy: str
    replicas: int


def label_base(resource: str) -> str:
    """What the labels about a resource begin with: a renamed share is described under the device's name."""
    return resource.removesuffix(_SHARED_SUFFIX)


def sharing_of(node: Node, base: str) -> Sharing:
    replicas = _number(node.labels.get(f"{base}.replicas")) or 1
    strategy = node.labels.get(f"{base}.sharing-strategy", "")
    return Sharing(strategy, replicas) if replicas > 1 else Sharing("", 1)


def memory_of(node: Node, resource: str) -> int | None:
    """MiB that one unit of the resource has; None where no label says so.

    MPS gives each share an equal part. Time slicing gives all of them the whole, and none a part of its own.
    """
    if resource.startswith(AMD):
        size = _AMD_SIZE.match(node.labels.get(AMD_MEMORY_LABEL, ""))
        return int(size.group(1)) * _GIB_IN_MIB if size else None
    if not resource.startswith(NVIDIA):
        return None
    base = label_base(resource)
    memory = _number(node.labels.get(f"{base}.memory"))
    shared = sharing_of(node, base)
    return memory // shared.replicas if memory and shared.strategy == MPS else memory


def has_mixed_cards(node: Node, resource: str) -> bool:
    """Whether the labels tell of a part of the node's GPUs only.

    GPU feature discovery counts the cards of the kind that it describes; the kubelet counts all of them.
    AMD's labeller names no one size where there are several.
    """
    if resource.startswith(AMD):
        return AMD_MEMORY_LABEL not in node.labels and any(
            label.startswith(f"{AMD_MEMORY_LABEL}.") for label in node.labels
        )
    if resource not in (NVIDIA_GPU, NVIDIA_SHARED):
        return False
    described = _number(node.labels.get(f"{NVIDIA_GPU}.count"))
    if described is None:
        return False
    there = node.capacity.get(resource, 0) or node.devices.get(resource, 0)
    return there > described * sharing_of(node, NVIDIA_GPU).replicas


def mig_of(node: Node) -> tuple[str, str] | None:
    """Card and profile of a node whose `nvidia.com/gpu` are slices, all of one profile (strategy single)."""
    if node.labels.get(MIG_STRATEGY_LABEL) != "single":
        return None
    found = _MIG_PRODUCT.match(node.labels.get(PRODUCT_LABEL, ""))
    return (found["card"], found["profile"]) if found else None


def product_label(resource: str) -> str:
    return AMD_PRODUCT_LABEL if resource.startswith(AMD) else PRODUCT_LABEL


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() else None
