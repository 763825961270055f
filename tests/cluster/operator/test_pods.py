"""Pods that do not get ready: the test plays the kubelet of a node and says what a kubelet would say."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.local import Cluster
from tests.cluster.operator.harness import Kubectl, Operator
from tests.unit.operator.samples import engine, variant

STARTED, ENDED = "2026-01-01T00:00:00Z", "2026-01-01T00:00:07Z"


@dataclass(frozen=True)
class PlayedNode:
    """A node without a kubelet. Its name is new: a node that comes again inherits its silence."""

    kubectl: Kubectl
    name: str

    def engine(self, **spec: Any) -> dict[str, Any]:
        """An engine whose pods land here, also once the node lacks a heartbeat."""
        hardware = {
            "gpu": {"mode": "None"},
            "nodeSelector": {"kubernetes.io/hostname": self.name},
            "tolerations": [{"operator": "Exists"}],
        }
        return engine(hardware=hardware, **spec)

    def pod(self) -> str:
        """The one pod, once it has its node."""
        pods = self.kubectl.wait_for(
            lambda: [
                one
                for one in self.kubectl.list("pods", "roundhouse.dev/managed=true")
                if one["spec"].get("nodeName") and "deletionTimestamp" not in one["metadata"]
            ],
            "a pod has its node",
        )
        name: str = pods[-1]["metadata"]["name"]
        return name

    def say(self, *, ready: bool = False, **container: Any) -> None:
        """What the kubelet reports of the engine's container."""
        status: dict[str, Any] = {
            "phase": "Running",
            "conditions": [
                {"type": "Ready", "status": str(ready)},
                {"type": "PodScheduled", "status": "True"},
            ],
            "containerStatuses": [
                {
                    "name": "engine",
                    "image": "x",
                    "imageID": "",
                    "ready": ready,
                    "started": ready,
                    "restartCount": 0,
                    **container,
                }
            ],
        }
        patch = json.dumps({"status": status})
        self.kubectl("patch", "pod", self.pod(), "--subresource=status", "--type=merge", "-p", patch)


@pytest.fixture
def node(control_plane: Cluster, kubectl: Kubectl) -> Iterator[PlayedNode]:
    name = f"operator-played-{secrets.token_hex(3)}"
    amounts = {"cpu": "64", "memory": "256Gi", "pods": "100"}
    manifest = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Played"}],
        },
    }
    control_plane.kubectl("create", "-f", "-", input=json.dumps(manifest))
    yield PlayedNode(kubectl, name)
    kubectl("delete", "mv,eng", "--all", "--timeout=200s")
    kubectl("delete", "pods", "--all", "--force", "--grace-period=0")
    control_plane.kubectl("delete", "node", name)


def terminated(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            "message": message,
            "startedAt": STARTED,
            "finishedAt": ENDED,
        }
    }


def test_an_image_that_cannot_be_pulled(operator: Operator, kubectl: Kubectl, node: PlayedNode) -> None:
    kubectl.apply(node.engine(), variant())
    node.say(state={"waiting": {"reason": "ErrImagePull", "message": "example.org/kws:1: not found"}})
    found = kubectl.wait("mv", "kws-en", "Ready", "False", "ImagePull")
    assert "example.org/kws:1: not found" in found["message"]
    operator.settle()
    before = kubectl.get("mv", "kws-en")["metadata"]["resourceVersion"]
    # The kubelet goes to and fro between two words for one trouble.
    node.say(state={"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}})
    operator.settle()
    assert kubectl.get("mv", "kws-en")["metadata"]["resourceVersion"] == before
    node.say(ready=True, state={"running": {"startedAt": STARTED}})
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")


def test_a_crash_loop_tells_exit_code_and_last_words(
    operator: Operator, kubectl: Kubectl, node: PlayedNode
) -> None:
    kubectl.apply(node.engine(), variant())
    words = "loading\nfatal: api_key=sk-abcdef1234567890 refused"
    node.say(
        restartCount=3,
        state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        lastState=terminated(3, message=words),
    )
    found = kubectl.wait("mv", "kws-en", "Available", "False", "CrashLoop")
    assert "exit code 3: loading | fatal:" in found["message"]
    assert "abcdef" not in found["message"]
    assert kubectl.get("mv", "kws-en")["status"]["phase"] == "Unhealthy"
    operator.settle()
    before = kubectl.get("mv", "kws-en")["metadata"]["resourceVersion"]
    node.say(
        restartCount=4, state={"running": {"startedAt": STARTED}}, lastState=terminated(3, message="other")
    )
    operator.settle()
    assert kubectl.get("mv", "kws-en")["metadata"]["resourceVersion"] == before
    kubectl.patch("eng", "kws", {"spec": {"workload": {"image": "example.org/kws:2"}}})
    kubectl.wait_for(
        lambda: any(
            one["spec"]["containers"][0]["image"] == "example.org/kws:2"
            for one in kubectl.list("pods", "roundhouse.dev/managed=true")
        ),
        "a pod of the new image",
    )
    kubectl.wait_for(lambda: rollout(kubectl)["reason"] == "NothingReady", "a broken pod is not kept", 60)
    # The old pod counts no more once it ends, so the rollout may be over before anybody looks.
    states = (one["status"]["conditions"] for one in kubectl.since("mv", "kws-en", before))
    assert "RollingOut" in {one["reason"] for told in states for one in told if one["type"] == "UpToDate"}
    for pod in kubectl.list("pods", "roundhouse.dev/managed=true"):
        if pod["spec"]["containers"][0]["image"] == "example.org/kws:1":
            assert "deletionTimestamp" in pod["metadata"], "it has gone first"
            kubectl("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0")
    node.say(ready=True, state={"running": {"startedAt": STARTED}})
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")
    kubectl.wait_for(lambda: rollout(kubectl)["strategy"] == "Surge", "the next one surges again", 60)


def rollout(kubectl: Kubectl) -> dict[str, Any]:
    told: dict[str, Any] = kubectl.get("mv", "kws-en")["status"]["rollout"]
    return told


def test_out_of_memory(operator: Operator, kubectl: Kubectl, node: PlayedNode) -> None:
    kubectl.apply(node.engine(), variant())
    node.say(
        restartCount=1, state={"running": {"startedAt": STARTED}}, lastState=terminated(137, "OOMKilled")
    )
    kubectl.wait("mv", "kws-en", "Ready", "False", "OOMKilled")


def test_an_engine_that_never_gets_ready(operator: Operator, kubectl: Kubectl, node: PlayedNode) -> None:
    kubectl.apply(node.engine(probes={"startupTimeoutSeconds": 5}), variant())
    node.say(state={"running": {"startedAt": STARTED}})
    kubectl.wait("mv", "kws-en", "Ready", "False", "Starting")
    node.say(restartCount=1, state={"running": {"startedAt": ENDED}}, lastState=terminated(137))
    found = kubectl.wait("mv", "kws-en", "Ready", "False", "StartTimeout")
    assert "5 s" in found["message"]


def test_an_endpoint_that_is_lost_is_not_a_start(
    operator: Operator, kubectl: Kubectl, node: PlayedNode
) -> None:
    kubectl.apply(node.engine(), variant())
    node.say(ready=True, state={"running": {"startedAt": STARTED}})
    kubectl.wait("mv", "kws-en", "Ready", "True")
    node.say(ready=False, started=True, state={"running": {"startedAt": STARTED}})
    kubectl.wait("mv", "kws-en", "Ready", "False", "EndpointLost")
    assert kubectl.get("mv", "kws-en")["status"]["phase"] == "Unhealthy"
    node.say(ready=True, state={"running": {"startedAt": STARTED}})
    kubectl.wait("mv", "kws-en", "Ready", "True")


def test_a_container_that_cannot_be_made(operator: Operator, kubectl: Kubectl, node: PlayedNode) -> None:
    kubectl.apply(node.engine(), variant())
    node.say(state={"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s" not found'}})
    found = kubectl.wait("mv", "kws-en", "Ready", "False", "SecretNotFound")
    assert 'secret "s" not found' in found["message"]
