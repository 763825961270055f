"""GPUs that are claimed: the template, the pod that names it, and what the survey makes of devices."""

from __future__ import annotations

from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import DEVICE_CLASS, RESOURCE_SLICE
from roundhouse_operator.core.placement.devices import ClaimableDevice, admits, memory_selector
from tests.unit.operator.kinds_of_nodes import CPU, PLAIN
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import Scene, conditions, message, pod, sent

DRIVER = "gpu.example.com"
RUNNING: dict[str, Any] = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
CLASS = {
    "kind": "DeviceClass",
    "metadata": {"name": DRIVER, "namespace": ""},
    "spec": {"selectors": [{"cel": {"expression": f'device.driver == "{DRIVER}"'}}]},
}


def cards(node: str, *memories: str, generation: int = 1, name: str = "") -> Manifest:
    devices = [
        {
            "name": f"gpu-{place}",
            "attributes": {"product": {"string": "L4"}},
            "capacity": {"memory": {"value": memory}},
        }
        for place, memory in enumerate(memories)
    ]
    return {
        "kind": "ResourceSlice",
        "metadata": {"name": name or f"{node}-cards", "namespace": ""},
        "spec": {
            "driver": DRIVER,
            "nodeName": node,
            "pool": {"name": node, "generation": generation, "resourceSliceCount": 1},
            "devices": devices,
        },
    }


def claiming(**gpu: Any) -> Manifest:
    selectors = gpu.pop("selectors", [])
    allocation = {"type": "DRA", "dra": {"deviceClassName": DRIVER, "selectors": selectors}}
    return engine(hardware={"gpu": {"mode": "Required", "allocation": allocation, **gpu}})


def scene(*slices: Manifest, **gpu: Any) -> Scene:
    made = Scene(PLAIN, CPU, claiming(**gpu), variant())
    made.cache.serve_claims(served=True)
    made.cache.upsert(DEVICE_CLASS, sent(CLASS))
    for one in slices:
        made.cache.upsert(RESOURCE_SLICE, sent(one))
    return made


def applied(made: Scene) -> dict[str, Manifest]:
    return {one.kind.name: one.manifest for one in made.decide("kws-en").plan.applies}


def test_pods_claim_from_a_template_that_is_made_first() -> None:
    made = scene(minMemory="20G", selectors=["device.attributes['a'].b == 'c'"], count=2)
    plan = applied(made)
    kinds = list(plan)
    assert kinds.index("ResourceClaimTemplate") < kinds.index("Deployment")
    template, spec = plan["ResourceClaimTemplate"], plan["Deployment"]["spec"]["template"]["spec"]
    [request] = template["spec"]["spec"]["devices"]["requests"]
    assert (request["exactly"]["deviceClassName"], request["exactly"]["count"]) == (DRIVER, 2)
    assert [one["cel"]["expression"] for one in request["exactly"]["selectors"]] == [
        "device.attributes['a'].b == 'c'",
        memory_selector(19074),
    ]
    assert spec["resourceClaims"] == [
        {"name": "gpu", "resourceClaimTemplateName": template["metadata"]["name"]}
    ]
    assert spec["containers"][0]["resources"]["claims"] == [{"name": "gpu"}]
    assert "affinity" not in spec


def test_another_claim_is_another_template_and_the_old_one_goes_with_its_last_pod() -> None:
    made = scene(cards("plain", "24Gi"), minMemory="20G")
    made.settle("kws-en", **RUNNING)
    first = next(
        one.name for one in made.world("kws-en").children if one.kind.name == "ResourceClaimTemplate"
    )
    status = made.status("kws-en")
    over = {"gpu": {"minMemory": "10G"}}
    made.put({**variant(hardware=over), "status": status})
    plan = made.decide("kws-en").plan
    second = applied(made)["ResourceClaimTemplate"]["metadata"]["name"]
    assert second != first
    made.settle("kws-en", replicas=2, updatedReplicas=1, readyReplicas=1)
    assert not made.decide("kws-en").plan.deletes, "a pod of the old template may have to claim again"
    settled = next(one for one in plan.applies if one.kind.name == "Deployment").manifest
    made.put({**settled, "status": {"observedGeneration": 1, **RUNNING}})
    assert [one.name for one in made.decide("kws-en").plan.deletes] == [first]


def test_a_cluster_without_claims_says_so_and_makes_no_pod() -> None:
    made = Scene(PLAIN, claiming(), variant())
    status = made.settle("kws-en")
    assert made.decide("kws-en").plan.empty
    assert conditions(status)["Scheduled"] == ("False", "DRAUnavailable")
    assert conditions(status)["Ready"] == ("False", "DRAUnavailable")
    made.cache.serve_claims(served=True)
    assert not made.decide("kws-en").plan.empty


def test_pods_that_run_stay_when_claims_are_no_longer_served() -> None:
    made = scene(cards("plain", "24Gi"))
    made.settle("kws-en", **RUNNING)
    made.put(pod(phase="Running", conditions=[{"type": "Ready", "status": "True"}]))
    made.settle("kws-en", **RUNNING)
    made.cache.serve_claims(served=False)
    assert made.decide("kws-en").plan.empty


def counted(made: Scene) -> dict[str, int]:
    survey = made.decide("kws-en").survey
    assert survey
    return {"fitting": survey.fitting, **{reason.value: count for reason, count, _ in survey.rejected}}


def test_the_survey_counts_devices() -> None:
    slices = (cards("plain", "15360Mi", "24Gi"), cards("cpu", "15360Mi"))
    assert counted(scene(*slices)) == {"fitting": 2}
    assert counted(scene(*slices, minMemory="16Gi")) == {"fitting": 1, "InsufficientVRAM": 1}
    assert counted(scene(*slices, count=2)) == {"fitting": 1, "InsufficientGPU": 1}
    assert counted(scene(*slices, minMemory="16Gi", count=2)) == {
        "fitting": 0,
        "InsufficientGPU": 1,
        "InsufficientVRAM": 1,
    }
    assert counted(scene(slices[0])) == {"fitting": 1, "NoGPU": 1}


def test_mixed_cards_are_seen_one_by_one() -> None:
    assert counted(scene(cards("plain", "15360Mi", "81559Mi"), minMemory="80G"))["fitting"] == 1


def test_only_the_newest_generation_of_a_pool_counts() -> None:
    made = scene(cards("plain", "24Gi"), minMemory="20G")
    made.cache.upsert(RESOURCE_SLICE, sent(cards("plain", "8Gi", generation=2, name="newer")))
    assert counted(made)["fitting"] == 0


def test_a_driver_that_learns_of_a_card_brings_the_waiting_to_a_pass() -> None:
    made = scene(minMemory="20G")
    made.settle("kws-en")
    touched = made.cache.upsert(RESOURCE_SLICE, sent(cards("plain", "24Gi")))
    assert {key.kind.name for key in touched.soon} == {"Engine", "ModelVariant"}
    assert counted(made)["fitting"] == 1


def test_a_class_that_is_not_there_is_told() -> None:
    made = Scene(PLAIN, claiming(), variant())
    made.cache.serve_claims(served=True)
    assert counted(made) == {"fitting": 0, "NoGPU": 1}


def test_claims_that_the_scheduler_cannot_allocate() -> None:
    made = scene(cards("plain", "24Gi"))
    made.settle("kws-en", replicas=1, updatedReplicas=1)
    words = "0/2 nodes are available: 2 cannot allocate all claims."
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    made.put(pod(node="", conditions=[refused]))
    status = made.settle("kws-en")
    assert conditions(status)["Scheduled"] == ("False", "InsufficientGPU")
    assert words in message(status, "Scheduled")


DEVICE = ClaimableDevice(
    DRIVER,
    {f"{DRIVER}/product": "L4", f"{DRIVER}/rank": 2, f"{DRIVER}/ok": True},
    {f"{DRIVER}/memory": 24 << 30},
)


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        (f'device.driver == "{DRIVER}"', True),
        ("device.driver != 'other'", True),
        (f'device.attributes["{DRIVER}"].product == "L4"', True),
        (f'device.attributes["{DRIVER}"].product == "T4"', False),
        (f'device.attributes["{DRIVER}"].rank == 2 && device.attributes["{DRIVER}"].ok == true', True),
        (f'device.attributes["{DRIVER}"].rank != 2', False),
        (f'device.attributes["{DRIVER}"].absent == "x"', False),
        (f'device.capacity["{DRIVER}"].memory.compareTo(quantity("24Gi")) >= 0', True),
        (f'device.capacity["{DRIVER}"].memory.compareTo(quantity("24Gi")) > 0', False),
        (f'device.capacity["{DRIVER}"].memory.compareTo(quantity("odd")) >= 0', True),
        (f'device.attributes["{DRIVER}"].product.startsWith("T")', True),
        (f'device.driver == "x" || device.driver == "{DRIVER}"', True),
    ],
)
def test_selectors_are_understood_or_left_to_the_scheduler(expression: str, holds: bool) -> None:
    assert admits([expression], DEVICE) is holds
