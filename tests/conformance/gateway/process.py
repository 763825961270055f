"""`roundhouse-gateway` as a process of a test: how it is started, asked and ended."""

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest

from tests.conformance.gateway import client
from tests.conformance.gateway.manifests import NAMESPACE, Manifest
from tests.support.ports import free_port

COMMAND = str(Path(sys.executable).with_name("roundhouse-gateway"))
PATIENT = {
    "DRAIN_DELAY_SECONDS": "0",
    "DRAIN_SECONDS": "5",
    "CLIENT_IDLE_SECONDS": "60",
    "ENGINE_IDLE_SECONDS": "60",
    "CONNECT_TIMEOUT_SECONDS": "10",
}
"""What a busy machine does not exceed: a test that is not about a limit of time meets none."""
IMPATIENT = {"CLIENT_IDLE_SECONDS": "2", "ENGINE_IDLE_SECONDS": "2", "CONNECT_TIMEOUT_SECONDS": "1"}
"""For tests of just those limits (`@pytest.mark.impatient`), which would take minutes otherwise."""


@dataclass
class GatewayProcess:
    """`roundhouse-gateway`, started by its command and known by its ports and its log."""

    process: subprocess.Popen[bytes]
    port: int
    metrics_port: int
    log_path: Path
    key: str = ""
    """An API key to send along with each request."""
    tls: ssl.SSLContext | None = None
    clients: list[openai.OpenAI] = field(default_factory=list)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> client.Reply:
        key = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return client.request(self.port, method, path, body, {**key, **(headers or {})}, tls=self.tls)

    def get(self, path: str) -> client.Reply:
        return self.request("GET", path)

    def transcribe(self, *parts: bytes, headers: Mapping[str, str] | None = None) -> client.Reply:
        body = client.form(*parts)
        return self.request("POST", "/v1/audio/transcriptions", body, {**client.FORM_TYPE, **(headers or {})})

    def openai(self) -> openai.OpenAI:
        """The official client, which repeats nothing by itself."""
        made = openai.OpenAI(base_url=self.base_url, api_key=self.key or "sk-test-secret", max_retries=0)
        self.clients.append(made)
        return made

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name that carry the labels."""
        lines = client.request(self.metrics_port, "GET", "/metrics").body.decode().splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        found = [line for line in lines if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found if all(each in line for each in wanted))

    def log(self) -> list[Manifest]:
        """Whole lines: the last one may be half written."""
        return [json.loads(line) for line in self.log_path.read_text().split("\n")[:-1]]

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024

    def stop(self, seconds: float = 60) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Ends it for good, and the clients that talked to it."""
        for each in self.clients:
            each.close()
        self.process.kill()
        self.process.wait()


def kubeconfig_for(url: str) -> str:
    cluster = {"name": "fake", "cluster": {"server": url}}
    context = {"name": "fake", "context": {"cluster": "fake", "user": "gateway"}}
    user = {"name": "gateway", "user": {"token": "a-token"}}
    return json.dumps(
        {"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "fake"}
    )


def launch(folder: Path, kubeconfig: Path, settings: Mapping[str, str]) -> GatewayProcess:
    """Starts the command; it may not be ready yet."""
    return start([COMMAND], {"KUBECONFIG": str(kubeconfig)}, folder, settings)


def start(
    command: Sequence[str], access: Mapping[str, str], folder: Path, settings: Mapping[str, str]
) -> GatewayProcess:
    """Starts a gateway whose way to the API server the environment `access` names."""
    port, metrics_port = free_port(), free_port()
    values = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "METRICS_PORT": str(metrics_port),
        "NAMESPACES": NAMESPACE,
        **PATIENT,
        **settings,
    }
    environment = {f"ROUNDHOUSE_GATEWAY_{name}": value for name, value in values.items()}
    environment |= {**access, "PATH": os.environ["PATH"], "TMPDIR": str(folder)}
    log_path = folder / "gateway.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    cert = settings.get("TLS_CERT_FILE")
    tls = ssl.create_default_context(cafile=cert) if cert and Path(cert).exists() else None
    return GatewayProcess(process, port, metrics_port, log_path, tls=tls)


def is_ready(gateway: GatewayProcess) -> bool:
    if gateway.process.poll() is not None:
        pytest.fail(f"the gateway ended: {gateway.log_path.read_text()}")
    try:
        return gateway.get("/readyz").status == 200
    except ConnectionError:
        return False
