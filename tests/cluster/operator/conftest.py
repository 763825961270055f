"""An operator for each test, on the shared control plane with nodes that kwok plays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.local import Cluster, FakeNode
from tests.cluster.operator.api import Api
from tests.cluster.operator.harness import Kubectl, Operator
from tests.cluster.operator.nursery import Nursery
from tests.cluster.operator.proxy import Proxy, proxied

NODES = (FakeNode("operator-cpu-1"), FakeNode("operator-cpu-2"))

StartOperator = Callable[..., Operator]


@pytest.fixture(scope="session")
def nodes(control_plane: Cluster) -> Iterator[None]:
    control_plane.fake_nodes(NODES)
    yield
    control_plane.kubectl("delete", "node", "--ignore-not-found", *(node.name for node in NODES))


@pytest.fixture
def kubectl(control_plane: Cluster, namespace: str) -> Kubectl:
    return Kubectl(control_plane, namespace)


@pytest.fixture
def proxy(control_plane: Cluster, nodes: None) -> Iterator[Proxy]:
    """For who meddles with what the operator asks of the API server."""
    with proxied(control_plane.kubeconfig) as one:
        yield one


@pytest.fixture
def api(proxy: Proxy, namespace: str) -> Api:
    return Api(proxy.url, namespace)


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    one = Nursery(tmp_path_factory.mktemp("nursery"))
    yield one
    one.close()


@pytest.fixture
def start_operator(
    control_plane: Cluster, namespace: str, nodes: None, nursery: Nursery, tmp_path: Path
) -> Iterator[StartOperator]:
    """Starts operators that serve the test's namespace; each must end in order when the test is over.

    With `anew=True` it is a Python of its own and no fork of one that has loaded everything.
    """
    started: list[Operator] = []

    def start(environment: dict[str, str] | None = None, *, anew: bool = False, **options: str) -> Operator:
        log = tmp_path / f"operator-{len(started)}.log"
        operator = Operator(control_plane, namespace, log, environment=environment or {})
        if not anew:
            operator.spawn = nursery.spawn
        started.append(operator)
        return operator.start(**options)

    yield start
    for operator in started:
        if operator.alive():
            assert operator.stop() == 0, operator.log.read_text()[-3000:]


@pytest.fixture
def operator(start_operator: StartOperator) -> Operator:
    return start_operator()


@pytest.fixture
def looser_variants(control_plane: Cluster) -> Iterator[None]:
    """The definition of ModelVariant as a newer version might have it: a field takes more values."""
    name, field = (
        "crd/modelvariants.roundhouse.dev",
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
    )
    path = f"{field}/properties/downloadPolicy/enum"
    found = json.loads(control_plane.kubectl("get", name, "-o", "json"))
    schema = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    values = schema["properties"]["downloadPolicy"]["enum"]

    def allow(allowed: list[str]) -> None:
        change = [{"op": "replace", "path": path, "value": allowed}]
        control_plane.kubectl("patch", name, "--type=json", "-p", json.dumps(change))

    allow([*values, "Sometimes"])
    yield
    allow(values)
