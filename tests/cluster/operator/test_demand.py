"""Demand on a real API server: gateways hold, the operator scales to and from zero, and nobody fights."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster.local import Cluster
from tests.cluster.operator.conftest import StartOperator
from tests.cluster.operator.gateways import ROOT, Gateway, addresses, slice_of_gateways
from tests.cluster.operator.harness import Kubectl, Operator, wait_for_quiet, writes
from tests.support.waiting import wait_until
from tests.unit.operator.samples import engine, variant

IDLE_SECONDS = 10
SCALING = {"mode": "Demand", "idleSeconds": IDLE_SECONDS, "maxReplicas": 3, "maxHoldSeconds": 90}
LONGER_SECONDS = IDLE_SECONDS + 3
"""In which our scaler would have written, if it were about to."""
SCALED = "PATCH modelvariants/scale 200"

StartGateways = Callable[[int], list[Gateway]]
Voice = Callable[[float], None]


@pytest.fixture
def voice(control_plane: Cluster) -> Iterator[Voice]:
    """Lets fake pods answer, each request after so many seconds."""
    with ExitStack() as stack:

        def speak(seconds: float) -> None:
            command = [sys.executable, "-m", "tests.cluster.operator.voice", str(seconds)]
            process = control_plane.run_in_fake_pod_net(command, cwd=ROOT, stdout=subprocess.PIPE)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            assert process.stdout
            assert process.stdout.readline() == b"listening\n"

        yield speak


@pytest.fixture
def start_gateways(
    control_plane: Cluster, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> Iterator[StartGateways]:
    with ExitStack() as stack:

        def start(count: int) -> list[Gateway]:
            where = addresses(control_plane, count)
            started = []
            for number, address in enumerate(where):
                gateway = Gateway(control_plane, namespace, tmp_path / f"gateway-{number}.log", address)
                stack.callback(gateway.end)
                started.append(gateway.start())
            kubectl.apply(slice_of_gateways(namespace, "roundhouse", where))
            return started

        yield start


def hears(operator: Operator, count: int) -> None:
    wait_until(
        lambda: operator.metric("roundhouse_operator_load_gateways") == count,
        seconds=30,
        what=f"the operator hears {count} gateways",
        every=0.1,
    )


def replicas(kubectl: Kubectl, name: str = "kws-en") -> int:
    return int(kubectl.get("mv", name)["spec"]["replicas"])


@pytest.mark.req("S1-14", "S1-17")
@pytest.mark.timeout(900)
def test_to_zero_and_back_with_two_gateways_and_an_operator_that_is_killed_in_the_midst(
    control_plane: Cluster,
    start_operator: StartOperator,
    start_gateways: StartGateways,
    voice: Voice,
    kubectl: Kubectl,
) -> None:
    operator, gateways = start_operator(), start_gateways(2)
    voice(0.2)
    kubectl.apply(engine(concurrency={"maxInFlightPerReplica": 2}), variant(scaling=SCALING))
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving", seconds=60)
    hears(operator, 2)

    kubectl.wait("mv", "kws-en", "Ready", "True", "Idle", seconds=60)
    found = kubectl.get("mv", "kws-en")
    assert (found["spec"]["replicas"], found["status"]["phase"]) == (0, "Idle")
    assert kubectl.condition("mv", "kws-en", "Available")["reason"] == "Idle"
    kubectl.wait("mv", "kws-en", "Scheduled", "True", "Feasible")
    kubectl.wait_for(lambda: not kubectl.list("pods"), "no pod is left")
    kubectl.wait_for(
        lambda: all(one.get("/v1/models").json["data"] == [] for one in gateways), "no gateway lists it"
    )

    with ThreadPoolExecutor(4) as pool:
        asked = [gateway.ask(pool, "kws-en") for gateway in gateways for _ in range(2)]
        wait_until(lambda: replicas(kubectl), seconds=30, what="it is woken", every=0.02)
        operator.crash()
        successor = start_operator()
        replies = [reply.result() for reply in asked]
    assert [reply.status for reply in replies] == [200] * 4
    assert max(reply.json["at_once"] for reply in replies) <= 4
    kubectl.wait("mv", "kws-en", "Ready", "True")
    hears(successor, 2)
    kubectl.wait("mv", "kws-en", "Ready", "True", "Idle", seconds=60)
    assert 1 <= (successor.metric("roundhouse_operator_scale_writes_total") or 0) <= 4, "each step once"
    successor.settle()
    wait_for_quiet(control_plane)
    before = writes(control_plane)
    time.sleep(LONGER_SECONDS)  # asleep is asleep: watching is the test
    assert writes(control_plane) == before


@pytest.mark.timeout(900)
def test_a_steady_load_is_scaled_for_once_and_silence_takes_nothing_away(
    control_plane: Cluster,
    operator: Operator,
    start_gateways: StartGateways,
    voice: Voice,
    kubectl: Kubectl,
) -> None:
    (gateway,) = start_gateways(1)
    voice(1.0)
    kubectl.apply(engine(concurrency={"maxInFlightPerReplica": 2}), variant(scaling=SCALING))
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving", seconds=60)
    hears(operator, 1)
    wait_for_quiet(control_plane)
    before, enough = writes(control_plane)[SCALED], threading.Event()

    def keep_asking() -> set[int]:
        statuses = set()
        while not enough.is_set():
            statuses.add(gateway.transcribe("kws-en").status)
        return statuses

    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(keep_asking) for _ in range(6)]
        try:
            wait_until(lambda: replicas(kubectl) == 3, seconds=60, what="it is scaled for all six")
            time.sleep(8)  # in which more would be written, if it were to be
        finally:
            enough.set()
        statuses = [each.result() for each in asked]
    gateway.end()  # before our scaler sees that nobody asks any more
    assert statuses == [{200}] * 6
    assert replicas(kubectl) == 3, "six at once, two for each"
    assert writes(control_plane)[SCALED] - before <= 3, "no more than the steps up"
    scaled = writes(control_plane)[SCALED]
    wait_until(
        lambda: (operator.metric("roundhouse_operator_load_silence_seconds") or 0) > LONGER_SECONDS,
        seconds=60,
        what="the gateway is silent for longer than idleSeconds",
    )
    assert (replicas(kubectl), writes(control_plane)[SCALED]) == (3, scaled)
    gateway.start()
    kubectl.wait("mv", "kws-en", "Ready", "True", "Idle", seconds=90)


@pytest.mark.timeout(900)
def test_a_person_s_word_is_taken_and_another_controller_s_stops_ours(
    control_plane: Cluster,
    operator: Operator,
    start_gateways: StartGateways,
    kubectl: Kubectl,
) -> None:
    start_gateways(1)
    kubectl.apply(engine(), variant(scaling=SCALING, replicas=0))
    kubectl.wait("mv", "kws-en", "Ready", "True", "Idle")
    kubectl("scale", "mv/kws-en", "--replicas=2")
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")
    kubectl.wait("mv", "kws-en", "Ready", "True", "Idle", seconds=60)
    found = kubectl.get("mv", "kws-en")
    assert "Degraded" not in {one["type"] for one in found["status"]["conditions"]}

    kubectl.patch("mv", "kws-en", {"spec": {"replicas": 2}}, "--field-manager=fleet")
    conflict = kubectl.wait("mv", "kws-en", "Degraded", "True", "ScalerConflict")
    assert "'fleet'" in conflict["message"]
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")
    wait_for_quiet(control_plane)
    before = writes(control_plane)[SCALED]
    time.sleep(LONGER_SECONDS)
    assert (replicas(kubectl), writes(control_plane)[SCALED]) == (2, before)

    kubectl("scale", "mv/kws-en", "--replicas=1")
    kubectl.wait("mv", "kws-en", "Ready", "True", "Idle", seconds=60)
    assert "Degraded" not in {one["type"] for one in kubectl.get("mv", "kws-en")["status"]["conditions"]}


def test_contradictions_and_what_has_no_pods_are_refused_with_a_reason(
    operator: Operator, kubectl: Kubectl
) -> None:
    kubectl.apply(
        engine(scaling={"minReplicas": 3}), variant(scaling={"mode": "Demand", "maxReplicas": 2}, replicas=1)
    )
    refused = kubectl.wait("mv", "kws-en", "Accepted", "False", "InvalidSpec")
    assert "minReplicas 3 is above maxReplicas 2" in refused["message"]
    with pytest.raises(Exception, match="must be less than or equal to `maxReplicas`"):
        kubectl.patch("mv", "kws-en", {"spec": {"scaling": {"minReplicas": 5}}})
