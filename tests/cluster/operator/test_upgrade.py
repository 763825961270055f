"""An upgrade of the operator over children that an older release made: nothing of their pods changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.local import Cluster, FakeNode
from tests.cluster.operator.conftest import StartOperator
from tests.cluster.operator.harness import Kubectl
from tests.support.waiting import wait_until
from tests.unit.operator.test_releases import RELEASED, read, released_status

LABELS = {"zone": "a", "nvidia.com/gpu.memory": "15360", "nvidia.com/gpu.product": "Tesla-T4"}
GPUS = FakeNode("upgrade-gpus", gpus=8, labels=LABELS)
AMD = FakeNode("upgrade-amd", gpus=4, resource="amd.com/gpu")


@pytest.fixture
def spaces(control_plane: Cluster, namespace: str) -> Iterator[list[Kubectl]]:
    """A namespace for each case, because cases share names, and nodes with GPUs."""
    control_plane.fake_nodes([GPUS, AMD])
    names = [f"{namespace}-{number}" for number in range(len(RELEASED))]
    for name in names:
        control_plane.kubectl("create", "namespace", name)
        control_plane.wait_for_service_account(name)
    yield [Kubectl(control_plane, name) for name in names]
    control_plane.kubectl("delete", "namespace", *names)
    control_plane.kubectl("delete", "node", GPUS.name, AMD.name)


def test_an_upgrade_of_the_operator_restarts_no_model(
    start_operator: StartOperator, namespace: str, spaces: list[Kubectl]
) -> None:
    for path, kubectl in zip(RELEASED, spaces, strict=True):
        resources, children = read(path)
        kubectl.apply(*(one for one in resources if one["kind"] != "Node"))
        manager = f"roundhouse/{namespace}/roundhouse"
        put_as_released(kubectl, children, released_status(path), manager=manager)
    wait_until(lambda: running(spaces) >= len(spaces) - 2, seconds=60, what="pods run")
    before = [templates(kubectl) for kubectl in spaces]
    served = ",".join(kubectl.namespace for kubectl in spaces)
    operator = start_operator(environment={"ROUNDHOUSE_OPERATOR_NAMESPACES": served})
    operator.settle()
    assert [templates(kubectl) for kubectl in spaces] == before
    for path, kubectl in zip(RELEASED, spaces, strict=True):
        [one] = kubectl.list("modelvariants")
        accepted = kubectl.condition("mv", one["metadata"]["name"], "Accepted")
        assert accepted["status"] == "True", accepted
        assert decided(one["status"]) == decided(released_status(path)), path.stem


def decided(status: dict[str, Any]) -> dict[str, Any]:
    """Where pods run, and the memory that they were seen to take; without counts of nodes."""
    placement = status["placement"]
    return {name: placement[name] for name in placement if name not in ("nodesFitting", "nodesRejected")}


def put_as_released(
    kubectl: Kubectl, children: list[dict[str, Any]], status: dict[str, Any], *, manager: str
) -> None:
    """Children under the operator's own field manager, owned by their variant, and what was told of it."""
    [one] = kubectl.list("modelvariants")
    [engine] = kubectl.list("engines")
    for child in children:
        child["metadata"]["namespace"] = kubectl.namespace
        child["metadata"]["ownerReferences"][0]["uid"] = one["metadata"]["uid"]
    listed = {"apiVersion": "v1", "kind": "List", "items": children}
    kubectl("apply", "--server-side", f"--field-manager={manager}", "-f", "-", input=json.dumps(listed))
    status["engine"]["uid"] = engine["metadata"]["uid"]
    kubectl.patch("mv", one["metadata"]["name"], {"status": status}, "--subresource=status")


def running(spaces: list[Kubectl]) -> int:
    """How many of the cases have a pod with a node: two ask for what is not there."""
    pods = (kubectl.list("pods", "roundhouse.dev/managed=true") for kubectl in spaces)
    return sum(any(one["spec"].get("nodeName") for one in each) for each in pods)


def templates(kubectl: Kubectl) -> list[tuple[str, Any]]:
    """Pod templates, and the ReplicaSets that were made of them."""
    return [
        (kind, one["spec"]["template"])
        for kind in ("deployments", "replicasets")
        for one in kubectl.list(kind, "roundhouse.dev/managed=true")
    ]
