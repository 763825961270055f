"""An Engine's change on its way through ten variants, one of which fails."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.cluster.operator.conftest import StartOperator
from tests.cluster.operator.harness import Kubectl
from tests.cluster.operator.test_pods import PlayedNode, node
from tests.unit.operator.samples import engine, variant

__all__ = ["node"]

NAMES = [f"kws-{number:02}" for number in range(10)]
FAILING = NAMES[4]
IMAGES = [f"example.org/kws:{number}" for number in range(4)]


class Watcher:
    """What the Deployments of the test look like, and whether the order is kept."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl

    def changed(self, image: str) -> list[str]:
        """Variants whose Deployment has the image; never are two of them in flight."""
        found, in_flight = [], []
        for one in self.kubectl.list("deployments", "roundhouse.dev/managed=true"):
            if one["spec"]["template"]["spec"]["containers"][0]["image"] == image:
                found.append(one["metadata"]["name"])
                if not complete(one):
                    in_flight.append(one["metadata"]["name"])
        assert sorted(found) == [*NAMES[: len(found)]] or found == [FAILING], found
        if len(in_flight) > 1:
            raise RuntimeError(f"two at once: {in_flight}")
        return sorted(found)

    def wait_for(self, image: str, count: int) -> None:
        self.kubectl.wait_for(lambda: len(self.changed(image)) >= count, f"{count} of {image}", seconds=240)


def complete(deployment: dict[str, Any]) -> bool:
    status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    figures = [status.get(name) for name in ("updatedReplicas", "replicas", "readyReplicas")]
    current: bool = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    return current and figures == [wanted, wanted, wanted]


def newest_pod(kubectl: Kubectl, name: str, image: str) -> str:
    def found() -> list[str]:
        return [
            one["metadata"]["name"]
            for one in kubectl.list("pods", f"roundhouse.dev/variant={name}")
            if one["spec"].get("nodeName") and one["spec"]["containers"][0]["image"] == image
        ]

    return str(kubectl.wait_for(found, f"a pod of {name} with {image}")[0])


def say(kubectl: Kubectl, node: str, pod: str, *, ready: bool, **state: Any) -> None:
    """What a kubelet would report of the engine's container, and that it is alive itself."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    alive = {"type": "Ready", "status": "True", "reason": "Played", "lastHeartbeatTime": now}
    beat = json.dumps({"status": {"conditions": [alive]}})
    kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", beat)
    container = {"name": "engine", "image": "x", "imageID": "", "restartCount": 0, "ready": ready}
    conditions = [
        {"type": "Ready", "status": str(ready), "lastTransitionTime": now},
        {"type": "PodScheduled", "status": "True"},
    ]
    status = {
        "phase": "Running",
        "conditions": conditions,
        "containerStatuses": [{**container, "started": ready, "state": state}],
    }
    patch = json.dumps({"status": status})
    kubectl("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", patch)


RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


@pytest.mark.timeout(900)
def test_ten_variants_follow_in_order_and_stop_at_the_one_that_fails(
    start_operator: StartOperator, kubectl: Kubectl, node: PlayedNode
) -> None:
    operator = start_operator()
    watcher = Watcher(kubectl)
    on_played_node = {
        "nodeSelector": {"kubernetes.io/hostname": node.name},
        "tolerations": [{"operator": "Exists"}],
    }
    elsewhere = {"nodeSelector": {"kubernetes.io/os": "linux"}}
    kubectl.apply(
        engine(workload={"image": IMAGES[0]}),
        *(variant(name, hardware=on_played_node if name == FAILING else elsewhere) for name in NAMES),
    )
    say(kubectl, node.name, newest_pod(kubectl, FAILING, IMAGES[0]), ready=True, **RUNNING)
    for name in NAMES:
        kubectl.wait("mv", name, "Ready", "True", seconds=240)
    operator.settle()

    kubectl.patch("eng", "kws", {"spec": {"workload": {"image": IMAGES[1]}}})
    kubectl.wait("mv", NAMES[-1], "UpToDate", "False", "WaitingForTurn")
    watcher.wait_for(IMAGES[1], 2)
    operator.crash()  # in the midst of it
    operator = start_operator()
    watcher.wait_for(IMAGES[1], 5)
    gone = {"waiting": {"reason": "ErrImagePull", "message": f"{IMAGES[1]}: not found"}}
    say(kubectl, node.name, newest_pod(kubectl, FAILING, IMAGES[1]), ready=False, **gone)
    kubectl.wait("mv", FAILING, "UpToDate", "False", "ImagePull")
    for name in NAMES[5:]:
        assert FAILING in kubectl.wait("mv", name, "UpToDate", "False", "RolloutPaused")["message"]
    told = f"Stopped at variant {FAILING!r}, which fails with it (ImagePull); 5 of 10 variants wait"
    kubectl.wait_for(lambda: kubectl.condition("eng", "kws", "UpToDate")["message"] == told, told)
    for name in NAMES[:4] + NAMES[5:]:
        assert kubectl.condition("mv", name, "Ready")["status"] == "True", name
    operator.crash()
    start_operator().settle()
    assert len(watcher.changed(IMAGES[1])) == 5, "nor does a restart carry it further"

    kubectl.patch("eng", "kws", {"spec": {"workload": {"image": IMAGES[2]}}})
    kubectl.wait_for(lambda: watcher.changed(IMAGES[2]) == [FAILING], "the one that failed is first")
    say(kubectl, node.name, newest_pod(kubectl, FAILING, IMAGES[2]), ready=True, **RUNNING)
    kubectl.wait("eng", "kws", "UpToDate", "True", "RolledOut", seconds=240)
    for name in NAMES:
        kubectl.wait("mv", name, "UpToDate", "True", "RolledOut")
