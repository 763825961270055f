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
from tests.unit.operator.test_releases import RELEASED, read

LABELS = {"zone": "a", "nvidia.com/gpu.memory": "15360", "nvidia.com/gpu.product": "Tesla-T4"}
GPUS = FakeNode("upgrade-gpus", gpus=8, labels=LABELS)


@pytest.fixture
def spaces(control_plane: Cluster, namespace: str) -> Iterator[list[Kubectl]]:
    """A namespace for each case, because cases share names, and a node with GPUs."""
    control_plane.fake_nodes([GPUS])
    names = [f"{namespace}-{number}" for number in range(len(RELEASED))]
    for name in names:
        control_plane.kubectl("create", "namespace", name)
        control_plane.wait_for_service_account(name)
    yield [Kubectl(control_plane, name) for name in names]
    control_plane.kubectl("delete", "namespace", *names)
    control_plane.kubectl("delete", "node", GPUS.name)


@pytest.mark.timeout(300)
def test_an_upgrade_of_the_operator_restarts_no_model(
    start_operator: StartOperator, namespace: str, spaces: list[Kubectl]
) -> None:
    for path, kubectl in zip(RELEASED, spaces, strict=True):
        resources, children = read(path)
        kubectl.apply(*(one for one in resources if one["kind"] != "Node"))
        put_as_released(kubectl, children, manager=f"roundhouse/{namespace}/roundhouse")
    wait_until(lambda: running(spaces) >= len(spaces) - 3, seconds=60, what="pods run")
    before = [templates(kubectl) for kubectl in spaces]
    served = ",".join(kubectl.namespace for kubectl in spaces)
    operator = start_operator(environment={"ROUNDHOUSE_OPERATOR_NAMESPACES": served})
    operator.settle()
    assert [templates(kubectl) for kubectl in spaces] == before
    for kubectl in spaces:
        [one] = kubectl.list("modelvariants")
        accepted = kubectl.condition("mv", one["metadata"]["name"], "Accepted")
        assert accepted["status"] == "True", accepted


def put_as_released(kubectl: Kubectl, children: list[dict[str, Any]], *, manager: str) -> None:
    """Children under the operator's own field manager, owned by their variant, and where it was placed."""
    [one] = kubectl.list("modelvariants")
    for child in children:
        child["metadata"]["namespace"] = kubectl.namespace
        child["metadata"]["ownerReferences"][0]["uid"] = one["metadata"]["uid"]
    listed = {"apiVersion": "v1", "kind": "List", "items": children}
    kubectl("apply", "--server-side", f"--field-manager={manager}", "-f", "-", input=json.dumps(listed))
    deployment = next(child for child in children if child["kind"] == "Deployment")
    limits = deployment["spec"]["template"]["spec"]["containers"][0].get("resources", {}).get("limits", {})
    device = next((name for name in limits if "/" in name), None)
    placement = {"device": "GPU", "resourceName": device} if device else {"device": "CPU"}
    status = {"status": {"placement": placement}}
    kubectl.patch("mv", one["metadata"]["name"], status, "--subresource=status")


def running(spaces: list[Kubectl]) -> int:
    """How many of the cases have a pod with a node: three ask for what is not there."""
    pods = (kubectl.list("pods", "roundhouse.dev/managed=true") for kubectl in spaces)
    return sum(any(one["spec"].get("nodeName") for one in each) for each in pods)


def templates(kubectl: Kubectl) -> list[tuple[str, Any]]:
    """Pod templates, and the ReplicaSets that were made of them."""
    return [
        (kind, one["spec"]["template"])
        for kind in ("deployments", "replicasets")
        for one in kubectl.list(kind, "roundhouse.dev/managed=true")
    ]
