"""Nodes of every kind of GPU that kwok plays, and devices to claim on some of them."""

from __future__ import annotations

import json
from typing import Any

from roundhouse_api.model import Manifest
from tests.cluster.local import Cluster
from tests.cluster.local.config import FAKE_NODE_ANNOTATION
from tests.unit.operator.kinds_of_nodes import ALL, PLAIN

PREFIX = "placement-"
DRIVER = "gpu.roundhouse.test"
DEVICE_CLASS: Manifest = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "DeviceClass",
    "metadata": {"name": DRIVER},
    "spec": {"selectors": [{"cel": {"expression": f'device.driver == "{DRIVER}"'}}]},
}


def plain_but(name: str, *, amounts: dict[str, str] | None = None, **spec: Any) -> Manifest:
    """A node of one GPU that lets not every pod in, or has little else."""
    there = {**PLAIN["status"]["allocatable"], **(amounts or {})}
    metadata = {**PLAIN["metadata"], "name": name}
    return {**PLAIN, "metadata": metadata, "spec": spec, "status": {"allocatable": there, "capacity": there}}


SELECTIVE = (
    plain_but("tainted", taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]),
    plain_but("soft", taints=[{"key": "gpu", "value": "yes", "effect": "PreferNoSchedule"}]),
    plain_but("cordoned", unschedulable=True),
    plain_but("small", amounts={"cpu": "1", "memory": "1Gi"}),
)
KINDS = (*ALL, *SELECTIVE)


def gpu_node(kind: Manifest) -> Manifest:
    key, value = FAKE_NODE_ANNOTATION.split("=")
    name = PREFIX + kind["metadata"]["name"]
    labels = {**kind["metadata"]["labels"], "kubernetes.io/hostname": name}
    return {**kind, "metadata": {"name": name, "labels": labels, "annotations": {key: value}}}


def resource_slice(node: str, *memories: str, driver: str = DRIVER) -> Manifest:
    """What a driver says of a node's cards. A device without memory tells none."""
    devices = [
        {
            "name": f"gpu-{place}",
            "attributes": {"productName": {"string": "NVIDIA-L4"}},
            **({"capacity": {"memory": {"value": memory}}} if memory else {}),
        }
        for place, memory in enumerate(memories)
    ]
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"{node}-{driver}"},
        "spec": {"driver": driver, "nodeName": node, "pool": pool, "devices": devices},
    }


SLICES = (
    resource_slice(f"{PREFIX}cpu", "23034Mi"),
    resource_slice(f"{PREFIX}plain", "15360Mi", "15360Mi"),
    resource_slice(f"{PREFIX}amd", ""),
)


def put_up(cluster: Cluster) -> None:
    nodes = [gpu_node(kind) for kind in KINDS]
    names = [one["metadata"]["name"] for one in nodes]
    take_down(cluster)
    cluster.kubectl(
        "create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes})
    )
    cluster.apply(DEVICE_CLASS, *SLICES)
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=300s", *(f"node/{name}" for name in names))


def take_down(cluster: Cluster) -> None:
    names = [PREFIX + kind["metadata"]["name"] for kind in KINDS]
    cluster.kubectl("delete", "node", "--ignore-not-found", *names)
    slices = [one["metadata"]["name"] for one in SLICES]
    cluster.kubectl("delete", "resourceslices", "--ignore-not-found", *slices)
    cluster.kubectl("delete", "deviceclass", "--ignore-not-found", DRIVER)
