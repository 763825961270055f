"""What the operator reaches on a real API server, with nodes that kwok plays."""

import asyncio
import os
import re
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.bench.burst import Times, bare_writer, burst, connect, templates_of_first_writes
from tests.bench.crowd import Crowd
from tests.bench.figure import Figure, Result
from tests.bench.fleet import nodes
from tests.bench.machine import cpu_seconds, resident_mb
from tests.cluster.local import Cluster, for_tests
from tests.cluster.operator.harness import Operator, wait_for_quiet, writes
from tests.support.waiting import wait_until

PAIRS: Final = 1000
VARIANTS: Final = 5000
FEW: Final = 100
EDITS: Final = 200
COST_EDITS: Final = 100
STEADY_SECONDS: Final = 30
STARTED_SECONDS: Final = 30
"""After it has settled: kopf lists everything too, and what it may have missed is listed once more."""
CLUSTER: Final = 3
SETTLE_SECONDS: Final = 400
QUIET_SECONDS: Final = 1.5
EDIT_BOUND_SECONDS: Final = 10
KUBEAI: Final = 0.33
"""Models a second: measured on 2 cores with a real API server. Its one worker sleeps 3 s for each."""
_BARE: Final = "bare aiohttp client"
_CRDS: Final = Path(__file__).parents[2] / "crds"

BURST: Final = Figure(
    "operator", "burst of 1,000 pairs", "writes/s", "higher", against=_BARE, budget=0.7, noise=0.1
)
BURST_KUBEAI: Final = Figure(
    "operator",
    "burst of 1,000 pairs, KubeAI",
    "pairs/s",
    "higher",
    against="KubeAI",
    budget=25,
    noise=0.3,
    aim=100,
)
READY: Final = Figure(
    "operator", "burst until all are ready", "pairs/s", "higher", against=_BARE, budget=0.5, noise=0.1
)
MEMORY: Final = Figure(
    "operator", "memory for each of 5,000 variants", "KB", "lower", budget=60, noise=0.1, aim=30
)
GROWN: Final = Figure(
    "operator", "the same in the process that saw them come", "KB", "lower", budget=60, noise=0.1
)
RESTART: Final = Figure("operator", "restart to settled, 5,000 variants", "s", "lower")
RESTART_WRITES: Final = Figure("operator", "writes from restart to settled", "writes", "lower", budget=0)
EDIT: Final = Figure("operator", "an edit to its Deployment, median", "s", "lower", budget=1, noise=0.2)
EDIT_P99: Final = Figure(
    "operator", "an edit to its Deployment, 99th percentile", "s", "lower", budget=3, noise=0.2
)
COST: Final = Figure(
    "operator",
    "cost of an edit, 5,000 there",
    "ms",
    "lower",
    against="100 there",
    budget=1.5,
    noise=0.3,
)
COST_MIDDLE: Final = Figure(
    "operator",
    "cost of an edit, 1,000 there",
    "ms",
    "lower",
    against="100 there",
    budget=1.5,
    noise=0.3,
)
STEADY_WRITES: Final = Figure("operator", "writes in 30 s of steady state", "writes", "lower", budget=0)
START: Final = Figure("operator", "processor time of a restart, 5,000 variants", "s", "lower")
STEADY: Final = Figure("operator", "steady state, 5,000 variants", "% of core", "lower", budget=2, noise=0.25)
FIGURES: Final = (
    *(BURST, BURST_KUBEAI, READY, COST_MIDDLE, COST, GROWN, EDIT, EDIT_P99),
    *(RESTART, RESTART_WRITES, MEMORY, START, STEADY_WRITES, STEADY),
)


@dataclass(slots=True)
class Size:
    """How many variants the crowd has."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class Bench:
    """A cluster, and the namespaces in which things are made."""

    cluster: Cluster
    kubeconfig: str
    folder: Path
    paired: str
    bare: str
    crowded: str
    crowd: Size = field(default_factory=Size)

    def operator(self, name: str, *, namespaces: str = "") -> Operator:
        served = namespaces or f"{self.paired},{self.crowded}"
        settings = {"ROUNDHOUSE_OPERATOR_NAMESPACES": served}
        return Operator(self.cluster, self.paired, self.folder / f"{name}.log", environment=settings)


def measure() -> Iterator[Result]:
    with _bench() as bench:
        with _running(bench.operator("empty", namespaces=bench.bare)) as empty:
            empty.settle()
            base = resident_mb(empty.pid)
        with _running(bench.operator("first")) as operator:
            few = asyncio.run(_cost_at(bench, operator, FEW))
            yield from _bursts(bench, operator)
            yield Result(COST_MIDDLE, asyncio.run(_cost_at(bench, operator, FEW)), few)
            yield Result(COST, asyncio.run(_cost_at(bench, operator, VARIANTS - PAIRS)), few)
            yield Result(GROWN, (resident_mb(operator.pid) - base) * 1000 / VARIANTS)
            _say(f"{EDITS} edits, one after the other")
            seconds = asyncio.run(_latencies(bench))
            yield Result(EDIT, statistics.median(seconds))
            yield Result(EDIT_P99, seconds[int(len(seconds) * 0.99)])
            _settle(operator)
        yield from _restart(bench, base)


def _bursts(bench: Bench, operator: Operator) -> Iterator[Result]:
    _say(f"{PAIRS} pairs for the operator")
    told: list[float] = []

    def count() -> None:
        told.append(_writes_of(operator))

    _settle(operator)
    before = _writes_of(operator)
    ours = asyncio.run(_burst(bench, bench.paired, count))
    _settle(operator)
    _say(f"{PAIRS} pairs for the bare client; the operator's took {ours}")
    theirs = asyncio.run(_burst(bench, bench.bare))
    _say(f"the bare client's took {theirs}")
    applied = 2 * PAIRS
    bare_writes = applied + PAIRS * sum(map(len, templates_of_first_writes(bench.bare)))
    yield Result(
        BURST,
        (applied + told[0] - before) / ours.to_last_child,
        bare_writes / theirs.to_last_child,
    )
    yield Result(BURST_KUBEAI, PAIRS / ours.to_last_child, KUBEAI)
    yield Result(READY, PAIRS / ours.to_all_ready, PAIRS / theirs.to_all_ready)


def _restart(bench: Bench, base: float) -> Iterator[Result]:
    """Writes are those that the API server itself has counted, without the Lease's."""
    _say("restart")
    wait_for_quiet(bench.cluster)
    before, began = writes(bench.cluster), time.monotonic()
    with _running(bench.operator("restarted")) as operator:
        yield Result(RESTART, _settle(operator) - began)
        yield Result(RESTART_WRITES, (writes(bench.cluster) - before).total())
        yield Result(MEMORY, (resident_mb(operator.pid) - base) * 1000 / VARIANTS)
        time.sleep(STARTED_SECONDS)
        before, used = writes(bench.cluster), cpu_seconds(operator.pid)
        yield Result(START, used)
        _say(f"{STEADY_SECONDS} s of steady state")
        time.sleep(STEADY_SECONDS)
        used = cpu_seconds(operator.pid) - used
        yield Result(STEADY_WRITES, (writes(bench.cluster) - before).total())
        yield Result(STEADY, 100 * used / STEADY_SECONDS)


async def _burst(bench: Bench, namespace: str, at_last_child: Callable[[], None] | None = None) -> Times:
    """By the bare client, or by the operator if there is somebody to tell of the last child."""

    async def leave_it(_pair: object) -> None:
        """The operator sees it."""

    async with connect(bench.kubeconfig) as client:
        if at_last_child is None:
            return await burst(client, namespace, PAIRS, bare_writer(client, namespace))
        return await burst(client, namespace, PAIRS, leave_it, at_last_child)


async def _cost_at(bench: Bench, operator: Operator, count: int) -> float:
    """Milliseconds of processor that an edit costs, of the same few variants, while there are `count`."""
    _say(f"up to {count} variants beside the pairs")
    async with connect(bench.kubeconfig) as client:
        crowd = Crowd(client, bench.crowded, count=bench.crowd.count)
        await crowd.grow(count)
        bench.crowd.count = crowd.count
        _settle(operator)
        before = cpu_seconds(operator.pid)
        for _ in range(COST_EDITS):
            await crowd.edit(crowd.probed())
            await asyncio.sleep(0.05)  # as edits come: each is looked at by itself
        _settle(operator)
        return 1000 * (cpu_seconds(operator.pid) - before) / COST_EDITS


async def _latencies(bench: Bench) -> list[float]:
    async with connect(bench.kubeconfig) as client:
        crowd = Crowd(client, bench.crowded, count=bench.crowd.count)
        return await crowd.latencies(EDITS, EDIT_BOUND_SECONDS)


def _settle(operator: Operator) -> float:
    """Until it leads and nothing is left to do, looked at twice; when it first was so."""
    first = 0.0

    def idle() -> bool:
        nonlocal first
        if not operator.alive():
            raise RuntimeError(f"the operator has ended:\n{operator.log.read_text()[-3000:]}")
        if not operator.idle():
            first = 0.0
            return False
        first = first or time.monotonic()
        return time.monotonic() - first > QUIET_SECONDS

    wait_until(idle, seconds=SETTLE_SECONDS, what="the operator has settled", every=0.25)
    return first


def _writes_of(operator: Operator) -> float:
    """Those that were taken, but for the Lease's."""
    text = operator.get("/metrics")[1]
    told = re.findall(r"^roundhouse_operator_writes_total\{(.*)\} ([0-9.e+]+)$", text, re.MULTILINE)
    return sum(float(n) for labels, n in told if 'result="success"' in labels and "Lease" not in labels)


def _say(text: str) -> None:
    print(f"operator: {text}", file=sys.stderr, flush=True)


@contextmanager
def _running(operator: Operator) -> Iterator[Operator]:
    operator.start()
    try:
        yield operator
    finally:
        operator.stop()


@contextmanager
def _bench() -> Iterator[Bench]:
    number = CLUSTER + int(os.environ.get("ROUNDHOUSE_TEST_CLUSTER_BASE", "0"))
    _say("a control plane with 200 nodes")
    with for_tests(number, "control-plane") as cluster:
        cluster.define(*sorted(_CRDS.glob("*.yaml")))
        cluster.fake_nodes(list(nodes()))
        run = secrets.token_hex(3)
        spaces = [f"bench-{run}-{name}" for name in ("paired", "bare", "crowded")]
        for namespace in spaces:
            cluster.kubectl("create", "namespace", namespace)
            cluster.wait_for_service_account(namespace)
        with tempfile.TemporaryDirectory() as folder:
            paired, bare, crowded = spaces
            yield Bench(cluster, cluster.kubeconfig.read_text(), Path(folder), paired, bare, crowded)
