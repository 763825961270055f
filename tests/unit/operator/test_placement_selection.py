"""Hardware in the choice of an engine, and what a change of a node brings to a pass."""

from __future__ import annotations

from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import ENGINE, NODE, Key
from roundhouse_operator.core.placement import fleet, verdict
from roundhouse_operator.core.status.engine import Usage, engine_status
from tests.unit.operator.kinds_of_nodes import CPU, PLAIN
from tests.unit.operator.samples import engine, upstream, variant
from tests.unit.operator.worlds import NAMESPACE, NOW, Scene, conditions, node, pod, sent

SMALL, LARGE = "4G", "80G"
H100 = node("h100", 1, nvidia_com__gpu_memory="81559")
RUNNING: dict[str, Any] = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}


def needing(name: str, memory: str, created: str = "2026-01-01T00:00:00Z", **spec: Any) -> Manifest:
    one = engine(name, hardware={"gpu": {"mode": "Required", "minMemory": memory}}, **spec)
    return {**one, "metadata": {**one["metadata"], "creationTimestamp": created}}


def selecting() -> Manifest:
    return variant(engineRef=None, engineSelector={"stage": "Transcribe"})


def told(status: Manifest) -> list[tuple[str, str, str]]:
    return [(one["engine"], one["verdict"], one["reason"]) for one in status["selection"]["candidates"]]


def test_an_engine_whose_hardware_is_there_is_chosen_before_an_older_one_whose_is_not() -> None:
    scene = Scene(PLAIN, needing("old", LARGE, "2025-01-01T00:00:00Z"), needing("new", SMALL), selecting())
    status = scene.settle("kws-en")
    assert status["engine"]["name"] == "new"
    assert told(status) == [("new", "Chosen", "OnlyMatch"), ("old", "Rejected", "InsufficientVRAM")]
    [_, rejected] = status["selection"]["candidates"]
    assert rejected["message"] == "no node has what it needs: 1 × nvidia.com/gpu with 76294 MiB each (80G)"


def test_where_no_hardware_is_there_the_oldest_waits_for_it() -> None:
    scene = Scene(CPU, needing("old", LARGE, "2025-01-01T00:00:00Z"), needing("new", SMALL), selecting())
    status = scene.settle("kws-en")
    assert status["engine"]["name"] == "old"
    chosen = status["selection"]["candidates"][0]
    assert (chosen["verdict"], chosen["reason"]) == ("Chosen", "OldestMatch")
    assert chosen["message"].startswith("NoGPU: no node has what it needs")


def test_an_incumbent_that_waits_gives_way_and_the_next_one_stays() -> None:
    scene = Scene(CPU, needing("large", LARGE), selecting())
    scene.settle("kws-en")
    scene.put(PLAIN, needing("small", SMALL))
    assert scene.settle("kws-en")["engine"]["name"] == "small"
    scene.put(H100)
    assert scene.settle("kws-en")["engine"]["name"] == "small"


def test_pods_that_run_are_not_moved_when_their_node_goes() -> None:
    scene = Scene(H100, PLAIN, needing("large", LARGE), selecting())
    scene.settle("kws-en", **RUNNING)
    scene.put(pod(phase="Running", conditions=[{"type": "Ready", "status": "True"}]))
    scene.settle("kws-en", **RUNNING)
    scene.put(needing("small", SMALL))
    scene.cache.remove(NODE, sent(H100))
    assert scene.settle("kws-en", **RUNNING)["engine"]["name"] == "large"


def test_an_engine_that_is_not_accepted_is_passed_over() -> None:
    odd = needing(
        "odd",
        SMALL,
        "2025-01-01T00:00:00Z",
        workload={"image": "x", "podTemplate": {"spec": {"affinity": {}}}},
    )
    status = Scene(PLAIN, odd, needing("good", SMALL), selecting()).settle("kws-en")
    assert told(status) == [("good", "Chosen", "OnlyMatch"), ("odd", "Rejected", "NotAccepted")]


def test_an_upstream_needs_no_hardware() -> None:
    status = Scene(needing("large", LARGE), upstream("elsewhere"), selecting()).settle("kws-en")
    assert status["engine"]["name"] == "elsewhere"


def test_an_engine_that_is_named_is_told_of_too() -> None:
    status = Scene(PLAIN, needing("kws", SMALL), variant()).settle("kws-en")
    assert status["selection"] == {
        "candidates": [{"engine": "kws", "verdict": "Chosen", "reason": "Named"}],
        "omitted": 0,
    }


@pytest.mark.req("S3-18")
def test_an_engine_says_how_large_a_gpu_there_is() -> None:
    scene = Scene(PLAIN, H100, CPU, needing("kws", "20G"))
    found = scene.cache.resource(Key(ENGINE, NAMESPACE, "kws"))
    assert found
    status = engine_status(found, Usage(), scene.cache.fleet, now=NOW)
    assert status["placement"] == {"device": "GPU", "nodesFitting": 1, "largestGPUMemory": "81559Mi"}
    assert conditions(status)["HardwareAvailable"] == ("True", "HardwareFound")


def test_a_node_that_changes_no_verdict_brings_nothing_to_a_pass() -> None:
    scene = Scene(PLAIN, CPU, needing("kws", SMALL), variant())
    scene.settle("kws-en")
    touched = scene.cache.upsert(
        NODE, sent({**CPU, "metadata": {**CPU["metadata"], "labels": {"seen": "again"}}})
    )
    assert not touched.now | touched.soon
    touched = scene.cache.upsert(NODE, sent(H100))
    assert {str(key) for key in touched.soon} == {
        f"Engine {NAMESPACE}/kws",
        f"ModelVariant {NAMESPACE}/kws-en",
    }
    assert not touched.now


@pytest.mark.parametrize("engines", [10, 100])
def test_a_node_that_changes_costs_a_verdict_for_each_need_however_many_engines_share_it(
    engines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [node(f"n{place}", 1, nvidia_com__gpu_memory="15360") for place in range(50)]
    needs = [needing(f"e{place}", SMALL if place % 2 else LARGE) for place in range(engines)]
    scene = Scene(*nodes, *needs)
    asked: list[object] = []

    def counted(*question: Any) -> verdict.Verdict:
        asked.append(question)
        return verdict.judge(*question)

    def look_at_all() -> int:
        asked.clear()
        for one in scene.cache.resources():
            engine_status(one.read(), Usage(), scene.cache.fleet, now=NOW)
        return len(asked)

    monkeypatch.setattr(fleet, "judge", counted)
    assert look_at_all() == 2 * len(nodes)
    assert look_at_all() == 0
    scene.put(node("n7", 1, nvidia_com__gpu_memory="24564"))
    assert len(asked) == 2
    assert look_at_all() == 0
