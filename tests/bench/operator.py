"""What the operator reaches on a real API server, with nodes that kwok plays."""

import asyncio
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.burst import bare_writer, burst, connect
from tests.bench.figure import Figure, Result
from tests.bench.machine import resident_mb
from tests.cluster.local import Cluster, FakeNode, down, start
from tests.cluster.operator.harness import Operator, wait_for_quiet, writes
from tests.support.waiting import wait_until

PAIRS: Final = 100
ROUNDS: Final = 3
STEADY_SECONDS: Final = 15
CLUSTER: Final = 3
KUBEAI: Final = 0.33
"""Models a second: measured on 2 cores with a real API server. Its one worker sleeps 3 s for each."""
_CRDS: Final = Path(__file__).parents[2] / "crds"

BURST: Final = Figure(
    "operator", "burst of 100 pairs", "pairs/s", "higher", against="bare aiohttp client", aim=0.7
)
BURST_KUBEAI: Final = Figure(
    "operator", "burst of 100 pairs, KubeAI", "pairs/s", "higher", against="KubeAI", budget=10, noise=0.2
)
MEMORY: Final = Figure("operator", "memory with 300 pairs", "MB", "lower")
RESTART_WRITES: Final = Figure("operator", "writes from restart to settled", "writes", "lower", budget=0)
STEADY_WRITES: Final = Figure("operator", "writes in 15 s of steady state", "writes", "lower", budget=0)
FIGURES: Final = (BURST, BURST_KUBEAI, MEMORY, RESTART_WRITES, STEADY_WRITES)


def measure() -> Iterator[Result]:
    with _cluster() as cluster, tempfile.TemporaryDirectory() as folder:
        run = secrets.token_hex(3)
        served = [f"bench-{run}-operator-{number}" for number in range(ROUNDS)]
        bare = [f"bench-{run}-bare-{number}" for number in range(ROUNDS)]
        for namespace in (*served, *bare):
            cluster.kubectl("create", "namespace", namespace)
            cluster.wait_for_service_account(namespace)
        settings = {"ROUNDHOUSE_OPERATOR_NAMESPACES": ",".join(served)}

        def an_operator(log: str) -> Operator:
            return Operator(cluster, served[0], Path(folder) / log, environment=settings)

        with _running(an_operator("first.log")) as operator:
            yield from _bursts(cluster, served, bare)
            operator.settle()
            yield Result(MEMORY, resident_mb(operator.pid))
        # Writes are those that the API server itself has counted, without the Lease's.
        wait_for_quiet(cluster)
        before = writes(cluster)
        with _running(an_operator("restarted.log")) as operator:
            operator.settle()
            yield Result(RESTART_WRITES, (writes(cluster) - before).total())
            before = writes(cluster)
            time.sleep(STEADY_SECONDS)
            yield Result(STEADY_WRITES, (writes(cluster) - before).total())


def _bursts(cluster: Cluster, served: list[str], bare: list[str]) -> Iterator[Result]:
    kubeconfig = cluster.kubeconfig.read_text()
    ours, theirs = [], []
    for ours_in, theirs_in in zip(served, bare, strict=True):
        ours.append(PAIRS / asyncio.run(_burst(kubeconfig, ours_in, by_operator=True)))
        _wait_until_ready(cluster, ours_in)
        theirs.append(PAIRS / asyncio.run(_burst(kubeconfig, theirs_in, by_operator=False)))
        _wait_until_ready(cluster, theirs_in)
    yield Result(BURST, median(ours), median(theirs))
    yield Result(BURST_KUBEAI, median(ours), KUBEAI)


async def _burst(kubeconfig: str, namespace: str, *, by_operator: bool) -> float:
    async def leave_it(_pair: object) -> None:
        """The operator sees it."""

    async with connect(kubeconfig) as client:
        return await burst(
            client, namespace, PAIRS, leave_it if by_operator else bare_writer(client, namespace)
        )


def _wait_until_ready(cluster: Cluster, namespace: str) -> None:
    """Until the cluster has done its part: what it still does would slow the next round."""

    def ready() -> bool:
        listed = json.loads(cluster.kubectl("get", "deployments", "-n", namespace, "-o", "json"))["items"]
        return len([one for one in listed if one["status"].get("readyReplicas")]) == PAIRS

    wait_until(ready, seconds=120, what=f"the pods in {namespace} are ready", every=1)


@contextmanager
def _running(operator: Operator) -> Iterator[Operator]:
    operator.start()
    try:
        yield operator
    finally:
        operator.stop()


@contextmanager
def _cluster() -> Iterator[Cluster]:
    number = CLUSTER + int(os.environ.get("ROUNDHOUSE_TEST_CLUSTER_BASE", "0"))
    cluster = start(number, "control-plane")
    try:
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(_CRDS))
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(_CRDS))
        cluster.fake_nodes([FakeNode("bench-1"), FakeNode("bench-2")])
        yield cluster
    finally:
        down(number)
