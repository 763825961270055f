"""Nodes of every kind that placement knows, labelled as the vendors' own tools label them."""

from __future__ import annotations

from roundhouse_api.model import Manifest


def _node(name: str, devices: dict[str, int], labels: dict[str, str]) -> Manifest:
    amounts = {"cpu": "8", "memory": "64Gi", "pods": "110", "ephemeral-storage": "100Gi"}
    amounts |= {resource: str(count) for resource, count in devices.items()}
    hostname = {"kubernetes.io/hostname": name}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "namespace": "", "labels": {**hostname, **labels}},
        "spec": {},
        "status": {"allocatable": amounts, "capacity": amounts},
    }


def _nvidia(product: str, memory: int, count: int, **more: str) -> dict[str, str]:
    described = {"product": product, "memory": str(memory), "count": str(count), "replicas": "1"}
    described |= {"sharing-strategy": "none", **{key.replace("_", "-"): value for key, value in more.items()}}
    return {f"nvidia.com/gpu.{key}": value for key, value in described.items()}


def _slice(profile: str, memory: int, count: int) -> dict[str, str]:
    base = f"nvidia.com/mig-{profile}"
    product = f"NVIDIA-A100-SXM4-40GB-MIG-{profile}"
    return {f"{base}.memory": str(memory), f"{base}.count": str(count), f"{base}.product": product}


CPU = _node("cpu", {}, {})
PLAIN = _node("plain", {"nvidia.com/gpu": 1}, _nvidia("Tesla-T4", 15360, 1))
UNLABELLED = _node("unlabelled", {"nvidia.com/gpu": 1}, {})
MIG_SINGLE = _node(
    "mig-single",
    {"nvidia.com/gpu": 7},
    {
        **_nvidia("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", 9728, 7),
        "nvidia.com/mig.strategy": "single",
        "nvidia.com/mig.capable": "true",
    },
)
MIG_MIXED = _node(
    "mig-mixed",
    {
        "nvidia.com/mig-1g.5gb": 2,
        "nvidia.com/mig-2g.10gb": 1,
        "nvidia.com/mig-3g.20gb": 1,
        "nvidia.com/gpu": 0,
    },
    {
        **_nvidia("NVIDIA-A100-SXM4-40GB", 40536, 1, replicas="0"),
        "nvidia.com/mig.strategy": "mixed",
        **_slice("1g.5gb", 4864, 2),
        **_slice("2g.10gb", 9856, 1),
        **_slice("3g.20gb", 19968, 1),
    },
)
MPS = _node(
    "mps",
    {"nvidia.com/gpu": 3},
    _nvidia("Tesla-T4-SHARED", 15360, 1, replicas="3", sharing_strategy="mps"),
)
TIME_SLICED = _node(
    "time-sliced",
    {"nvidia.com/gpu": 4},
    _nvidia("Tesla-T4-SHARED", 15360, 1, replicas="4", sharing_strategy="time-slicing"),
)
RENAMED = _node(
    "renamed",
    {"nvidia.com/gpu.shared": 4},
    _nvidia("Tesla-T4", 15360, 1, replicas="4", sharing_strategy="time-slicing"),
)
MIXED_CARDS = _node("mixed-cards", {"nvidia.com/gpu": 3}, _nvidia("NVIDIA-H100-80GB-HBM3", 81559, 1))
AMD = _node(
    "amd", {"amd.com/gpu": 4}, {"amd.com/gpu.vram": "64G", "amd.com/gpu.product-name": "Instinct_MI210"}
)
AMD_MIXED = _node("amd-mixed", {"amd.com/gpu": 2}, {"amd.com/gpu.vram.16G": "1", "amd.com/gpu.vram.64G": "1"})
INTEL = _node("intel", {"gpu.intel.com/xe": 1}, {})

ALL = (
    CPU,
    PLAIN,
    UNLABELLED,
    MIG_SINGLE,
    MIG_MIXED,
    MPS,
    TIME_SLICED,
    RENAMED,
    MIXED_CARDS,
    AMD,
    AMD_MIXED,
    INTEL,
)
