"""A gateway process in front of a fake API server and scripted engines, all on loopback."""

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest

from tests.conformance.gateway import client
from tests.conformance.gateway.fake_api_server import FakeApiServer
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.manifests import NAMESPACE, Manifest, Variant, engine, slice_of
from tests.conformance.gateway.scripted_engine import ScriptedEngine
from tests.support.ports import free_port
from tests.support.waiting import wait_until

COMMAND = str(Path(sys.executable).with_name("roundhouse-gateway"))
QUICK = {
    "DRAIN_DELAY_SECONDS": "0",
    "DRAIN_SECONDS": "5",
    "CLIENT_IDLE_SECONDS": "2",
    "ENGINE_IDLE_SECONDS": "2",
    "CONNECT_TIMEOUT_SECONDS": "1",
}


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
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024

    def stop(self, seconds: float = 15) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Ends it for good, and the clients that talked to it."""
        for each in self.clients:
            each.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


def kubeconfig_for(url: str) -> str:
    cluster = {"name": "fake", "cluster": {"server": url}}
    context = {"name": "fake", "context": {"cluster": "fake", "user": "gateway"}}
    user = {"name": "gateway", "user": {"token": "a-token"}}
    return json.dumps(
        {"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "fake"}
    )


def launch(folder: Path, kubeconfig: Path, settings: Mapping[str, str]) -> GatewayProcess:
    """Starts the command; it may not be ready yet."""
    port, metrics_port = free_port(), free_port()
    values = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "METRICS_PORT": str(metrics_port),
        "NAMESPACES": NAMESPACE,
        **QUICK,
        **settings,
    }
    environment = {f"ROUNDHOUSE_GATEWAY_{name}": value for name, value in values.items()}
    environment |= {"KUBECONFIG": str(kubeconfig), "PATH": os.environ["PATH"], "TMPDIR": str(folder)}
    log_path = folder / "gateway.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen([COMMAND], env=environment, stdout=log, stderr=subprocess.STDOUT)
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


@dataclass
class World:
    """One gateway, its API server and the engines that a test has set up."""

    gateway: GatewayProcess
    api: FakeApiServer
    thread: LoopThread
    engines: list[ScriptedEngine] = field(default_factory=list)
    fast: bool = False
    """Whether JSON requests are to find kept connections, and so to take the fast lane."""

    def engine(self, tls: ssl.SSLContext | None = None) -> ScriptedEngine:
        made = ScriptedEngine(self.thread, tls=tls)
        self.engines.append(made)
        return made

    def serve(self, variant: Variant, *engines: ScriptedEngine) -> ScriptedEngine:
        """Publishes the variant with these engines behind it (one new one where none is given) and waits."""
        behind = engines or (self.engine(),)
        for number, each in enumerate(behind):
            piece = slice_of(variant.name, each.port, namespace=variant.namespace, suffix=str(number))
            self.api.put("endpointslices", piece)
        self.publish(variant)
        self.wait_for(variant.id, "running")
        return behind[0]

    def publish(self, variant: Variant) -> None:
        if ("engines", variant.namespace, variant.engine) not in self.api.state.objects:
            self.api.put("engines", engine(variant.engine, variant.namespace))
        self.api.put("modelvariants", variant.manifest())

    def wait_for(self, model: str, status: str) -> None:
        wait_until(
            lambda: self.gateway.get(f"/v1/models/{model}").json.get("status") == status,
            seconds=10,
            what=f"{model} is {status}",
            every=0.02,
        )

    def clear(self) -> None:
        for each in self.engines:
            each.stop()
        self.engines.clear()
        self.api.clear()
        wait_until(
            lambda: self.gateway.get("/v1/engines").json == {"engines": [], "total": 0, "runtimes": []},
            seconds=10,
            what="the gateway has seen all objects go",
            every=0.02,
        )


@contextmanager
def a_world(thread: LoopThread, folder: Path, settings: Mapping[str, str]) -> Iterator[World]:
    """A gateway of its own with its own API server, ended with the block."""
    api = FakeApiServer(thread)
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(kubeconfig_for(api.url))
    gateway = launch(folder, kubeconfig, settings)
    try:
        wait_until(lambda: is_ready(gateway), seconds=30, what="the gateway is ready", every=0.05)
        world = World(gateway, api, thread)
        yield world
        for each in world.engines:
            each.stop()
        said = gateway.log_path.read_text().splitlines()
        faults = [line for line in said if any(each in line for each in ("Traceback", "ASGI"))]
        assert faults == [], "the gateway met faults of its own"
    finally:
        gateway.kill()
        api.stop()


@pytest.fixture(scope="session")
def shared_world(loop_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(loop_thread, tmp_path_factory.mktemp("gateway"), {}) as made:
        yield made


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """The gateway that most tests share, empty before and after."""
    yield shared_world
    if not shared_world.api.running:  # of a test that failed before it came back
        shared_world.api.start()
    shared_world.clear()


@pytest.fixture(scope="session")
def slow_world(loop_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(loop_thread, tmp_path_factory.mktemp("slow-gateway"), {"FAST_LANE": "false"}) as made:
        yield made


@pytest.fixture(params=["fast lane", "ordinary routes"])
def either_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A gateway with the fast lane, and one without: nobody is to see a difference."""
    fast = request.param == "fast lane"
    made: World = request.getfixturevalue("shared_world" if fast else "slow_world")
    made.fast = fast
    yield made
    made.clear()


@pytest.fixture
def own_world(loop_thread: LoopThread, tmp_path: Path) -> Iterator[Callable[[Mapping[str, str]], World]]:
    """Starts a gateway with settings of the test's own."""
    with ExitStack() as stack:
        yield lambda settings: stack.enter_context(a_world(loop_thread, tmp_path, settings))
