"""Gateways of a test's own, in the network of the fake pods, and how an operator finds them."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.local import Cluster
from tests.conformance.gateway import client
from tests.support.waiting import wait_until

COMMAND = str(Path(sys.executable).with_name("roundhouse-gateway"))
ROOT = Path(__file__).parents[3]
PORT, METRICS_PORT = 8080, 8081


@dataclass
class Gateway:
    """The command itself, on an address that no fake pod will get."""

    cluster: Cluster
    namespace: str
    log: Path
    address: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Gateway:
        environment = {
            "KUBECONFIG": str(self.cluster.layout.inner_kubeconfig("admin")),
            "PATH": "/usr/bin:/bin",
            "ROUNDHOUSE_GATEWAY_HOST": self.address,
            "ROUNDHOUSE_GATEWAY_PORT": str(PORT),
            "ROUNDHOUSE_GATEWAY_METRICS_PORT": str(METRICS_PORT),
            "ROUNDHOUSE_GATEWAY_NAMESPACE": self.namespace,
            "ROUNDHOUSE_GATEWAY_DRAIN_DELAY_SECONDS": "0",
        }
        with self.log.open("ab") as log:
            self.process = self.cluster.run_in_fake_pod_net(
                [COMMAND], env=environment, stdout=log, stderr=log
            )
        wait_until(self.ready, seconds=60, what="the gateway is ready", every=0.1)
        return self

    def ready(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            return self.get("/readyz").status == 200
        except OSError:
            return False

    def get(self, path: str) -> client.Reply:
        return client.request(PORT, "GET", path, host=self.address)

    def transcribe(self, model: str) -> client.Reply:
        body = client.form(client.field("model", model), client.file())
        path = "/v1/audio/transcriptions"
        return client.request(PORT, "POST", path, body, client.FORM_TYPE, host=self.address, seconds=120)

    def ask(self, pool: ThreadPoolExecutor, model: str) -> Future[client.Reply]:
        return pool.submit(self.transcribe, model)

    def end(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


def addresses(cluster: Cluster, count: int) -> list[str]:
    """From the end of the fake pods' range; kwok gives from its beginning."""
    last = int(cluster.fake_pods.broadcast_address)
    return [str(type(cluster.fake_pods.broadcast_address)(last - 1 - number)) for number in range(count)]


def slice_of_gateways(namespace: str, release: str, where: list[str]) -> dict[str, Any]:
    """As the chart's Service for metrics makes one."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "gateway-metrics-a",
            "namespace": namespace,
            "labels": {
                "app.kubernetes.io/component": "gateway",
                "app.kubernetes.io/instance": release,
                "kubernetes.io/service-name": "gateway-metrics",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "metrics", "port": METRICS_PORT, "protocol": "TCP"}],
        "endpoints": [{"addresses": [one], "conditions": {"ready": True}} for one in where],
    }
