"""An operator for each test, on the shared control plane with nodes that kwok plays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.local import Cluster, FakeNode
from tests.cluster.operator.harness import Kubectl, Operator

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
def start_operator(
    control_plane: Cluster, namespace: str, nodes: None, tmp_path: Path
) -> Iterator[StartOperator]:
    """Starts operators that serve the test's namespace; each must end in order when the test is over."""
    started: list[Operator] = []

    def start(**options: str) -> Operator:
        operator = Operator(control_plane, namespace, tmp_path / f"operator-{len(started)}.log")
        started.append(operator)
        return operator.start(**options)

    yield start
    for operator in started:
        if operator.alive():
            assert operator.stop() == 0, operator.log.read_text()[-3000:]


@pytest.fixture
def operator(start_operator: StartOperator) -> Operator:
    return start_operator()
