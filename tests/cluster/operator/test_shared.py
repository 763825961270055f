"""Engines that hold several variants, on a real API server: the test plays the kubelet and the engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typing_extensions import override

from tests.cluster.local import Cluster
from tests.cluster.operator.conftest import StartOperator
from tests.cluster.operator.harness import Kubectl, Operator, wait_for_quiet, writes
from tests.cluster.operator.test_pods import PlayedNode, node  # noqa: F401 - a fixture
from tests.unit.operator.samples import variant

SERVES = "serves.roundhouse.dev/"
BEAT_SECONDS = 8


class PlayedEngine:
    """Listens on loopback and has loaded what the pod's list says, but for what is to fail."""

    def __init__(self, kubectl: Kubectl, where: PlayedNode) -> None:
        self.kubectl = kubectl
        self.node = where
        self.failing: set[str] = set()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        played = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(played.told()).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            @override
            def log_message(self, *_: object) -> None:
                """Nothing: the operator asks each second."""

        return Handler

    def told(self) -> dict[str, Any]:
        listed = json.loads(self.kubectl.get("cm", "kws-0")["data"]["models.json"])
        return {"generation": listed["generation"], "data": [self._model(one) for one in listed["models"]]}

    def _model(self, listed: dict[str, Any]) -> dict[str, Any]:
        if listed["name"] in self.failing:
            return {"id": listed["name"], "state": "failed", "error": "no such file"}
        return {"id": listed["name"], "state": "ready"}

    def manifest(self, **serving: Any) -> dict[str, Any]:
        return self.node.engine(
            serving={"type": "Shared", **serving}, api={"port": self.server.server_address[1]}
        )

    def start(self) -> None:
        """The kubelet says that the pod's container runs, and where."""
        self.node.say(ready=True, state={"running": {}})
        patch = {"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}}
        self.kubectl.patch("pod", self.node.pod(), patch, "--subresource=status")

    def labels(self) -> set[str]:
        labels = self.kubectl.get("pod", self.node.pod())["metadata"]["labels"]
        return {label.removeprefix(SERVES) for label in labels if label.startswith(SERVES)}

    @contextmanager
    def listening(self) -> Iterator[None]:
        over = threading.Event()
        threads = [
            threading.Thread(target=self.server.serve_forever),
            threading.Thread(target=self._beat, args=(over,)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            self.server.shutdown()
            for thread in threads:
                thread.join()
            self.server.server_close()

    def _beat(self, over: threading.Event) -> None:
        """The node lives: the pods of one that is silent for too long are not ready."""
        while not over.wait(BEAT_SECONDS):
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            ready = {"type": "Ready", "status": "True", "reason": "Played", "lastHeartbeatTime": now}
            patch = json.dumps({"status": {"conditions": [ready]}})
            self.kubectl("patch", "node", self.node.name, "--subresource=status", "--type=merge", "-p", patch)


@pytest.fixture
def engine(kubectl: Kubectl, node: PlayedNode) -> Iterator[PlayedEngine]:  # noqa: F811
    played = PlayedEngine(kubectl, node)
    with played.listening():
        yield played


def model(name: str, **spec: Any) -> dict[str, Any]:
    return variant(name, engineModelName=name, **spec)


def test_variants_come_to_an_engines_pod_and_leave_it(
    operator: Operator, kubectl: Kubectl, engine: PlayedEngine
) -> None:
    engine.failing.add("b")
    kubectl.apply(engine.manifest(), model("a"), model("b"))
    engine.start()
    kubectl.wait("mv", "a", "Ready", "True", "Serving")
    found = kubectl.wait("mv", "b", "Ready", "False", "LoadFailed")
    assert found["message"].endswith("no such file")
    assert engine.labels() == {"a"}
    pod = engine.node.pod()
    engine.failing.clear()
    kubectl.apply(model("c"))
    for name in "abc":
        kubectl.wait("mv", name, "Ready", "True", "Serving")
    assert engine.labels() == {"a", "b", "c"}
    assert engine.node.pod() == pod
    service = kubectl.get("svc", "c")["spec"]
    assert service["selector"][f"{SERVES}c"] == "true"
    assert kubectl.get("mv", "c")["status"]["backends"][0]["name"] == "c"

    def counted() -> bool:
        status = kubectl.get("eng", "kws")["status"]
        return (status["replicas"], status["readyReplicas"], status["variants"]) == (1, 1, 3)

    kubectl.wait_for(counted, "the engine counts its variants")
    kubectl("delete", "mv/b", "mv/c")
    kubectl.wait_for(lambda: engine.labels() == {"a"}, "two have left")
    kubectl.wait_for(
        lambda: [one["variant"] for one in _listed(kubectl)] == ["a"], "and the list knows of them no more"
    )
    assert engine.node.pod() == pod


def test_an_operator_that_is_started_anew_writes_nothing(
    start_operator: StartOperator, control_plane: Cluster, kubectl: Kubectl, engine: PlayedEngine
) -> None:
    wait_for_quiet(control_plane)
    operator = start_operator()
    engine.failing.add("b")
    kubectl.apply(engine.manifest(), model("a"), model("b"))
    engine.start()
    kubectl.wait("mv", "a", "Ready", "True", "Serving")
    kubectl.wait("mv", "b", "Ready", "False", "LoadFailed")
    operator.settle()
    before = (writes(control_plane), _version(kubectl, "pod", engine.node.pod()), _version(kubectl, "cm"))
    operator.crash()
    start_operator().settle()
    after = (writes(control_plane), _version(kubectl, "pod", engine.node.pod()), _version(kubectl, "cm"))
    assert after == before


def test_what_a_person_changed_is_taken_back(
    operator: Operator, kubectl: Kubectl, engine: PlayedEngine
) -> None:
    kubectl.apply(engine.manifest(), model("a"))
    engine.start()
    kubectl.wait("mv", "a", "Ready", "True", "Serving")
    kubectl("label", "pod", engine.node.pod(), f"{SERVES}a-")
    kubectl.wait_for(lambda: engine.labels() == {"a"}, "the label is there again")
    kubectl("label", "pod", engine.node.pod(), f"{SERVES}other=true")
    kubectl.wait_for(lambda: engine.labels() == {"a"}, "a label of nobody is gone")
    kubectl("delete", "cm/kws-0")
    kubectl.wait_for(lambda: kubectl.get("cm", "kws-0") and _listed(kubectl), "the list is there again")
    kubectl("delete", "deploy/kws-0")
    kubectl.wait_for(lambda: kubectl.get("deploy", "kws-0"), "the Deployment is there again")


def test_a_deployment_of_somebody_else_is_not_taken_over(
    operator: Operator, kubectl: Kubectl, engine: PlayedEngine
) -> None:
    kubectl("create", "deployment", "kws-0", "--image=example.org/theirs:1")
    kubectl.apply(engine.manifest(), model("a"))
    found = kubectl.wait("mv", "a", "Ready", "False", "PodRefused")
    assert "'kws-0' exists and belongs to somebody else" in found["message"]
    kubectl.wait("eng", "kws", "Degraded", "True", "PodRefused")
    kubectl("delete", "deploy/kws-0")
    kubectl.wait_for(lambda: kubectl.get("deploy", "kws-0"), "ours is made", seconds=90)


def test_pods_go_with_their_engine(operator: Operator, kubectl: Kubectl, engine: PlayedEngine) -> None:
    kubectl.apply(engine.manifest(), model("a"))
    engine.start()
    kubectl.wait("mv", "a", "Ready", "True", "Serving")
    kubectl("delete", "eng/kws")
    kubectl.wait_for(lambda: not kubectl.get("deploy", "kws-0"), "the Deployment is gone")
    kubectl.wait("mv", "a", "Ready", "False", "EngineNotFound")


def _listed(kubectl: Kubectl) -> list[dict[str, Any]]:
    models: list[dict[str, Any]] = json.loads(kubectl.get("cm", "kws-0")["data"]["models.json"])["models"]
    return models


def _version(kubectl: Kubectl, kind: str, name: str = "kws-0") -> str:
    version: str = kubectl.get(kind, name)["metadata"]["resourceVersion"]
    return version
