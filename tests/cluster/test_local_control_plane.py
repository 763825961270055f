"""The control plane with fake nodes: what the fast tests stand on."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.cluster.local import Cluster, FakeNode
from tests.support.waiting import wait_until

ECHO = """
import socket, sys
server = socket.create_server((sys.argv[1], 8000))
print("listening", flush=True)
connection, _ = server.accept()
connection.sendall(connection.recv(100).upper())
"""


def deployment(name: str, gpus: int) -> dict[str, object]:
    container = {"name": "c", "image": "nowhere/none", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


@pytest.fixture
def gpu_node(control_plane: Cluster) -> Iterator[FakeNode]:
    node = FakeNode("local-gpu", gpus=2, labels={"nvidia.com/gpu.memory": "24576"})
    control_plane.fake_nodes([node])
    yield node
    control_plane.kubectl("delete", "node", node.name)  # others look for GPUs where there are none


def fake_pod_address(control_plane: Cluster, namespace: str, gpu_node: FakeNode) -> str:
    control_plane.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(deployment("one", gpus=1)))
    control_plane.kubectl("-n", namespace, "rollout", "status", "deployment/one", "--timeout=300s")
    pod = json.loads(control_plane.kubectl("-n", namespace, "get", "pod", "-l", "app=one", "-o", "json"))[
        "items"
    ][0]
    assert pod["spec"]["nodeName"] == gpu_node.name
    return str(pod["status"]["podIP"])


def test_a_fake_pod_is_scheduled_onto_its_gpu_and_can_be_given_a_voice(
    control_plane: Cluster, namespace: str, gpu_node: FakeNode
) -> None:
    address = fake_pod_address(control_plane, namespace, gpu_node)
    engine = control_plane.run_in_fake_pod_net([sys.executable, "-c", ECHO, address], stdout=subprocess.PIPE)
    try:
        assert engine.stdout
        assert engine.stdout.readline() == b"listening\n"
        with socket.create_connection((address, 8000), timeout=60) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"HELLO"
    finally:
        engine.kill()
        engine.communicate()


def test_a_pod_that_wants_more_gpus_than_there_are_stays_pending(
    control_plane: Cluster, namespace: str, gpu_node: FakeNode
) -> None:
    control_plane.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(deployment("greedy", gpus=3)))

    def told() -> bool:
        template = "jsonpath={.items[*].status.conditions[?(@.type=='PodScheduled')].message}"
        message = control_plane.kubectl("-n", namespace, "get", "pod", "-l", "app=greedy", "-o", template)
        assert "Insufficient nvidia.com/gpu" in message, message
        return True

    wait_until(told, seconds=30, what="the scheduler says what is lacking")
