"""What is decided once stands while pods run, and what brings a new decision about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.decide import decide
from roundhouse_operator.core.decision import Decision
from roundhouse_operator.core.outcome import DONE
from roundhouse_operator.core.reports import EngineReport, ModelReport
from roundhouse_operator.core.status.variant import variant_status
from tests.unit.operator.kinds_of_nodes import AMD, CPU, MIG_MIXED, MIXED_CARDS, MPS, PLAIN, TIME_SLICED
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import NOW, Scene, conditions, message, node, pod

RUNNING: dict[str, Any] = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
GIB = 1 << 30


def gpu(**asked: Any) -> Manifest:
    return {"gpu": {"mode": "Required", **asked}}


def running(*manifests: Manifest, hardware: Manifest, **spec: Any) -> Scene:
    scene = Scene(*manifests, engine(hardware=hardware), variant(**spec))
    scene.settle("kws-en", **RUNNING)
    scene.put(pod(phase="Running", conditions=[{"type": "Ready", "status": "True"}]))
    scene.settle("kws-en")
    return scene


def changed(scene: Scene) -> list[str]:
    return [one.kind.name for one in scene.decide("kws-en").plan.applies]


def edit(scene: Scene, **spec: Any) -> None:
    """By its author, while it runs."""
    scene.put({**variant(**spec), "status": scene.status("kws-en")})


def needed(decision: Decision) -> tuple[str | None, int | None]:
    assert decision.intent
    return decision.intent.need.resource, decision.intent.need.memory_mib


@pytest.mark.parametrize(
    "newcomer", [AMD, MPS, TIME_SLICED, MIXED_CARDS, MIG_MIXED, CPU], ids=lambda one: one["metadata"]["name"]
)
@pytest.mark.parametrize("asked", [{}, {"minMemory": "9G"}, {"mode": "Optional"}], ids=str)
def test_a_node_that_comes_replaces_no_pod(newcomer: Manifest, asked: Manifest) -> None:
    scene = running(PLAIN, hardware=gpu(**asked))
    scene.put(newcomer)
    assert changed(scene) == []


def test_a_node_that_goes_replaces_no_pod() -> None:
    scene = running(MIXED_CARDS, PLAIN, MPS, hardware=gpu(minMemory="5G"))
    for gone in (MIXED_CARDS, MPS, PLAIN):
        scene.cache.fleet.put_node(gone["metadata"]["name"], None)
    assert changed(scene) == []


def test_pods_that_all_wait_for_a_node_are_placed_anew() -> None:
    scene = Scene(engine(hardware=gpu(minMemory="15G")), variant())
    scene.settle("kws-en", replicas=1, updatedReplicas=1)
    scene.put(pod(node=""))
    assert needed(scene.decide("kws-en"))[0] == "nvidia.com/gpu"
    scene.put(AMD)
    assert needed(scene.decide("kws-en"))[0] == "amd.com/gpu"
    assert changed(scene) == ["Deployment"]


def test_an_optional_gpu_is_taken_where_one_fits_and_a_cpu_elsewhere() -> None:
    hardware = gpu(mode="Optional", minMemory="16G")
    small = node("old-t4", 1, nvidia_com__gpu_memory="15109")
    on_cpu = running(small, hardware=hardware)
    status = on_cpu.status("kws-en")
    assert (status["placement"]["device"], status["effective"]["gpuMode"]) == ("CPU", "Optional")
    assert running(PLAIN, hardware=hardware).status("kws-en")["placement"]["device"] == "GPU"
    on_cpu.put(PLAIN)
    assert changed(on_cpu) == []


@pytest.mark.req("S0-3")
def test_displayed_memory_never_schedules() -> None:
    scene = running(PLAIN, hardware=gpu(displayMemory="80G"))
    status = scene.status("kws-en")
    assert status["placement"]["nodesFitting"] == 1
    assert "required" not in status["placement"]
    assert status["effective"]["displayMemory"] == "80G"


def report(vram: int | None) -> Mapping[str, EngineReport]:
    return {"kws-en-1": EngineReport(0, {"kws-en": ModelReport("ready", vram)})}


def told(scene: Scene, vram: int | None) -> Manifest:
    """Hears what the engine measured, and writes the status."""
    world = replace(scene.world("kws-en"), reports=report(vram))
    decision = decide(world)
    assert not decision.plan.applies, "a measurement replaces no pod"
    status = variant_status(world, decision, DONE, now=NOW)
    scene.write("kws-en", status)
    placement: Manifest = status["placement"]
    return placement


def test_measured_memory_counts_when_pods_are_placed_anew() -> None:
    large = node("large", 1, nvidia_com__gpu_memory="24564")
    scene = running(PLAIN, large, hardware=gpu(minMemory="10G"))
    placed = told(scene, 16 * GIB)
    assert (placed["measuredPeakMemory"], placed["required"]["total"]) == ("16384Mi", "9537Mi")
    assert told(scene, None)["measuredPeakMemory"] == "16384Mi", "silence is no zero"
    assert told(scene, 12 * GIB)["measuredPeakMemory"] == "16384Mi", "a peak"
    edit(scene, args=["--beam=5"])
    assert needed(scene.decide("kws-en")) == ("nvidia.com/gpu", 16384)
    status = scene.settle("kws-en", **RUNNING)
    assert status["placement"]["required"] == {"total": "16384Mi"}
    assert (status["placement"]["nodesFitting"], status["placement"]["nodesRejected"]) == (
        1,
        [{"reason": "InsufficientVRAM", "count": 1, "example": "plain"}],
    )


def test_a_measurement_below_what_is_stated_changes_nothing() -> None:
    scene = running(PLAIN, hardware=gpu(minMemory="10G"))
    told(scene, 1 * GIB)
    edit(scene, args=["--beam=5"])
    assert needed(scene.decide("kws-en")) == ("nvidia.com/gpu", 9537)


def test_a_measurement_is_of_one_model() -> None:
    scene = running(PLAIN, hardware=gpu(minMemory="10G"))
    told(scene, 14 * GIB)
    edit(scene, engineModelName="another")
    assert needed(scene.decide("kws-en")) == ("nvidia.com/gpu", 9537)
    assert "measuredPeakMemory" not in scene.status("kws-en")["placement"]


def test_a_scaled_variant_keeps_its_place() -> None:
    scene = running(PLAIN, hardware=gpu(minMemory="10G"))
    told(scene, 14 * GIB)
    scene.put(MIXED_CARDS)
    edit(scene, replicas=3)
    applies = scene.decide("kws-en").plan.applies
    wanted = next(one.manifest for one in applies if one.kind.name == "Deployment")
    live = next(one.live for one in scene.world("kws-en").children if one.kind.name == "Deployment")
    assert wanted["spec"]["template"] == live["spec"]["template"]
    assert wanted["spec"]["replicas"] == 3


def test_another_need_is_placed_anew() -> None:
    scene = running(PLAIN, hardware=gpu(minMemory="10G"))
    edit(scene, hardware=gpu(minMemory="12G"))
    assert needed(scene.decide("kws-en")) == ("nvidia.com/gpu", 11445)


def test_a_placement_of_an_older_version_stands() -> None:
    scene = running(PLAIN, hardware=gpu(minMemory="10G"))
    status = scene.status("kws-en")
    older = {name: status["placement"][name] for name in ("device", "allocation", "resourceName")}
    scene.write("kws-en", {**status, "placement": older})
    scene.put(MIXED_CARDS, MPS)
    assert changed(scene) == []


def test_required_memory_is_shown_with_what_is_known_of_the_weights() -> None:
    source = {"type": "Builtin", "size": "6Gi"}
    status = running(PLAIN, hardware=gpu(minMemory="10240Mi"), source=source).status("kws-en")
    assert status["placement"]["required"] == {"weights": "6144Mi", "overhead": "4096Mi", "total": "10240Mi"}


def test_a_need_that_no_node_meets_says_by_how_much() -> None:
    scene = Scene(
        node("old-t4", 1, nvidia_com__gpu_memory="15109"), engine(hardware=gpu(minMemory="16G")), variant()
    )
    scene.settle("kws-en", replicas=1, updatedReplicas=1)
    words = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    scene.put(pod(node="", conditions=[refused]))
    status = scene.settle("kws-en")
    assert conditions(status)["Scheduled"] == ("False", "InsufficientVRAM")
    assert message(status, "Scheduled").startswith(
        "The pod needs 1 × nvidia.com/gpu with 15259 MiB each (16G); "
        "the largest that is too small has 15109 MiB, 150 MiB less than needed; "
    )
    assert message(status, "Scheduled").endswith(f"The scheduler finds no node: {words}")


def test_the_schedulers_word_on_taken_gpus_stands_where_a_node_would_do() -> None:
    scene = Scene(PLAIN, engine(hardware=gpu()), variant())
    scene.settle("kws-en", replicas=1, updatedReplicas=1)
    words = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    scene.put(pod(node="", conditions=[refused]))
    assert conditions(scene.settle("kws-en"))["Scheduled"] == ("False", "InsufficientGPU")


MUCH = {"cpu": "1500m", "memory": "2Gi"}


@pytest.mark.parametrize(
    ("requests", "short", "asked"),
    [
        (MUCH, "1 Insufficient cpu", "The pod asks for 1.5 CPUs, of which no node "),
        (MUCH, "1 Insufficient memory", "The pod asks for 2048 MiB of memory, of which no node "),
        (
            MUCH,
            "1 Insufficient cpu, 2 Insufficient memory",
            "The pod asks for 1.5 CPUs, 2048 MiB of memory, of which no node ",
        ),
        ({}, "1 Insufficient cpu", "The scheduler finds no node: "),
    ],
)
def test_what_a_node_would_do_for_and_others_hold_is_told_by_its_amount(
    requests: Manifest, short: str, asked: str
) -> None:
    hardware = {"gpu": {"mode": "None"}, "resources": {"requests": requests}}
    scene = Scene(PLAIN, engine(hardware=hardware), variant())
    scene.settle("kws-en", replicas=1, updatedReplicas=1)
    words = f"0/1 nodes are available: {short}."
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    scene.put(pod(node="", conditions=[refused]))
    status = scene.settle("kws-en")
    assert conditions(status)["Scheduled"] == ("False", "InsufficientResources")
    assert message(status, "Scheduled").startswith(asked)
    assert message(status, "Scheduled").endswith(f"The scheduler finds no node: {words}")
