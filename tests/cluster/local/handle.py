"""What a test or the demo holds of a cluster: kubectl, fake nodes, and a way into the fake pods' network."""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from . import lifecycle
from .api_server import ApiServer, api_server
from .config import FAKE_NODE_ANNOTATION
from .errors import ClusterError
from .exposing import expose
from .layout import Layout
from .loading import load
from .processes import kubectl, say_to_stderr

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FakeNode:
    """A node that kwok plays. Its pods are Running at once, with an address of the cluster's `fake_pods`."""

    name: str
    gpus: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    cpu: str = "64"
    memory: str = "256Gi"
    pods: str = "1000"
    resource: str = "nvidia.com/gpu"
    """Which resource its GPUs are."""

    def manifest(self) -> Manifest:
        key, value = FAKE_NODE_ANNOTATION.split("=")
        amounts = {"cpu": self.cpu, "memory": self.memory, "pods": self.pods, "ephemeral-storage": "1Ti"}
        if self.gpus:
            amounts[self.resource] = str(self.gpus)
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self.name,
                "annotations": {key: value},
                "labels": {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", **self.labels},
            },
            "status": {"capacity": amounts, "allocatable": amounts},
        }


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running local cluster."""

    layout: Layout

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, through the machine's loopback."""
        return self.layout.kubeconfig

    @property
    def number(self) -> int:
        return self.layout.addresses.number

    @property
    def fake_pods(self) -> IPv4Network:
        """Fake pods' addresses. This machine reaches all of them; nobody answers until a test listens."""
        return self.layout.addresses.fake_pods

    @property
    def gateway_url(self) -> str:
        """Where `expose` puts Roundhouse's gateway on the machine's loopback."""
        return self.layout.addresses.gateway_url

    @property
    def environment(self) -> dict[str, str]:
        """For a process that works on this cluster: KUBECONFIG, and its kubectl and helm first on PATH."""
        path = os.pathsep.join((str(self.layout.binaries), os.environ.get("PATH", os.defpath)))
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def kubectl(self, *arguments: str, input: str | None = None) -> str:  # noqa: A002 - subprocess's own word
        """Its standard output. A failure is a ClusterError with what kubectl said."""
        return kubectl(self.layout.binaries, self.kubeconfig, *arguments, stdin=input or "")

    @property
    def api(self) -> ApiServer:
        """Its API server, for what is read again and again."""
        return api_server(self.kubeconfig)

    def apply(self, *manifests: Manifest) -> None:
        """Server-side apply."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(listed))

    def define(self, *files: Path, within_seconds: float = 120) -> None:
        """Apply CustomResourceDefinitions, until each is served.

        Not by `kubectl wait`, which fails on a definition that has no conditions at all yet.
        """
        paths = (f"--filename={file}" for file in files)
        applied = self.kubectl("apply", "--server-side", "--force-conflicts", "--output=name", *paths)
        names = [line.partition("/")[2] for line in applied.split()]
        deadline = time.monotonic() + within_seconds
        while late := [name for name in names if not self._serves(name)]:
            if time.monotonic() > deadline:
                raise ClusterError(f"{', '.join(late)}: not established in {within_seconds:.0f} s")
            time.sleep(0.05)

    def _serves(self, definition: str) -> bool:
        found = self.api.get("customresourcedefinitions", definition, "") or {}
        said = found.get("status", {}).get("conditions") or ()
        return any(each["type"] == "Established" and each["status"] == "True" for each in said)

    def fake_nodes(self, nodes: Sequence[FakeNode]) -> None:
        """Create nodes that kwok plays, as they are described; those of the same name are replaced."""
        self.kubectl("delete", "node", "--ignore-not-found", *(node.name for node in nodes))
        listed = {"apiVersion": "v1", "kind": "List", "items": [node.manifest() for node in nodes]}
        self.kubectl("create", "-f", "-", input=json.dumps(listed))
        names = [f"node/{node.name}" for node in nodes]
        self.kubectl("wait", "--for=condition=Ready", "--timeout=300s", *names)

    def patch_node_gpus(self, node: str, gpus: int, labels: Mapping[str, str] | None = None) -> None:
        """Tell a real node that it has GPUs: scheduler and kubelet both take its word."""
        amounts = {"nvidia.com/gpu": str(gpus)}
        patch = json.dumps({"status": {"capacity": amounts, "allocatable": amounts}})
        self.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", patch)
        if labels:
            self.kubectl(
                "label", "node", node, "--overwrite", *(f"{key}={value}" for key, value in labels.items())
            )

    def load(self, *archives: Path) -> None:
        """Put image archives (docker or OCI) into the node's containerd, those that it lacks."""
        load(self.layout, [str(archive) for archive in archives], say_to_stderr)

    def expose(self, namespace: str, service: str, port: int, target: str | None = None) -> str:
        """Forward 127.0.0.1:`port` to the Service's port named `target`, or its first, until `down`."""
        return expose(self.layout, namespace, service, port, target)

    def wait_for_service_account(self, namespace: str, within_seconds: float = 120) -> None:
        """Until the namespace takes pods: they are refused before its default service account is made."""
        deadline = time.monotonic() + within_seconds
        while not self.api.get("serviceaccounts", "default", namespace):
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"namespace {namespace!r} got no default service account in {within_seconds:.0f} s"
                )
            time.sleep(0.02)

    def run_in_fake_pod_net(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process that may listen on any of `fake_pods`. Options are Popen's; the caller ends it.

        It shares the machine's files and processes, and the cluster's network namespace only.
        """
        pid = lifecycle.first_process(self.layout)
        return subprocess.Popen(["nsenter", f"--net=/proc/{pid}/ns/net", *argv], **options)
