"""Real pods for the tests of the local cluster: they run its probe image and tell what they see."""

import json
import socket
from typing import Any

from tests.cluster.local import Cluster
from tests.cluster.local.node import PROBE_IMAGE
from tests.support.waiting import wait_until


def pod(name: str, *arguments: str, image: str = PROBE_IMAGE, gpus: int = 0) -> dict[str, Any]:
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {}
    container = {"name": "probe", "image": image, "args": list(arguments), "resources": resources}
    # The fixture's cluster may hold fake nodes, where nothing would run.
    spec = {"restartPolicy": "Never", "nodeName": "node1", "containers": [container]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": spec,
    }


def run_pod(cluster: Cluster, namespace: str, manifest: dict[str, Any]) -> str:
    """Run a pod to its end and give what it printed."""
    name = manifest["metadata"]["name"]
    cluster.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(manifest))

    def phase() -> str:
        return cluster.kubectl("get", "pod", name, "-n", namespace, "-o", "jsonpath={.status.phase}")

    wait_until(lambda: phase() in {"Succeeded", "Failed"}, seconds=60, what=f"pod {name} ended")
    words = cluster.kubectl("logs", name, "-n", namespace)
    assert phase() == "Succeeded", words
    return words


def serve(cluster: Cluster, namespace: str) -> None:
    """A Deployment that answers on port 7000, and its Service."""
    labels = {"app": "serve"}
    template = {"metadata": {"labels": labels}, "spec": pod("serve", "serve", "7000")["spec"]}
    template["spec"] |= {"restartPolicy": "Always", "terminationGracePeriodSeconds": 1}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    meta = {"name": "serve", "namespace": namespace}
    ports = [{"name": "probe", "port": 80, "targetPort": 7000}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"selector": labels, "ports": ports},
    }
    cluster.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}, service)
    cluster.kubectl("rollout", "status", "deployment/serve", "-n", namespace, "--timeout=300s")


def ask(port: int, size: int) -> str:
    """Send, end the sending half, and read the answer: the forwarder must pass the half-close on."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(bytes(size))
        client.shutdown(socket.SHUT_WR)
        return client.recv(100).decode()


def answer(port: int) -> str:
    """Who answers a line of ten bytes; "" where nobody does."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(b"123456789\n")
            return client.recv(100).decode()
    except OSError:
        return ""
