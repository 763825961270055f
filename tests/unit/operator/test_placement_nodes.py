"""What each kind of node is to each kind of need: the pod's terms, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Hardware
from roundhouse_operator.core import placement
from roundhouse_operator.core.placement import Fleet, Need, Survey
from tests.unit.operator.kinds_of_nodes import (
    AMD,
    AMD_MIXED,
    CPU,
    INTEL,
    MIG_MIXED,
    MIG_SINGLE,
    MIXED_CARDS,
    MPS,
    PLAIN,
    RENAMED,
    TIME_SLICED,
    UNLABELLED,
)
from tests.unit.operator.worlds import fleet_of


def placed(fleet: Fleet, **gpu: Any) -> tuple[Need, Survey]:
    need = placement.place(
        placement.state(Hardware.model_validate({"gpu": {"mode": "Required", **gpu}})), fleet
    )
    return need, fleet.survey(need)


def plugin(resource: str) -> Manifest:
    return {"type": "DevicePlugin", "devicePlugin": {"resourceName": resource}}


@dataclass(frozen=True)
class Case:
    id: str
    nodes: tuple[Manifest, ...]
    gpu: Manifest
    resource: str | None
    obstacles: Manifest = field(default_factory=dict)
    """By node; the others fit."""


MIG: Manifest = {"type": "MIG"}
PROFILE: Manifest = {"type": "MIG", "mig": {"profile": "1g.5gb"}}

CASES = (
    Case("a whole card", (PLAIN, CPU), {"minMemory": "15G"}, "nvidia.com/gpu", {"cpu": "NoGPU"}),
    Case("any card will do on a slice", (MIG_SINGLE,), {}, "nvidia.com/gpu"),
    Case(
        "a slice of its own size counts as a card",
        (MIG_SINGLE,),
        {"minMemory": "15G"},
        "nvidia.com/gpu",
        {"mig-single": "InsufficientVRAM"},
    ),
    Case(
        "the smallest slice that fits",
        (MIG_MIXED,),
        {"minMemory": "6G", "allocation": MIG},
        "nvidia.com/mig-2g.10gb",
    ),
    Case("the smallest of all", (MIG_MIXED,), {"allocation": MIG}, "nvidia.com/mig-1g.5gb"),
    Case(
        "no slice is large enough: the largest is told",
        (MIG_MIXED,),
        {"minMemory": "30G", "allocation": MIG},
        "nvidia.com/mig-3g.20gb",
        {"mig-mixed": "InsufficientVRAM"},
    ),
    Case(
        "a profile",
        (MIG_MIXED, MIG_SINGLE),
        {"allocation": PROFILE},
        "nvidia.com/mig-1g.5gb",
        {"mig-single": "NoGPU"},
    ),
    Case(
        "a profile that nodes call a GPU",
        (MIG_SINGLE, PLAIN),
        {"allocation": {"type": "MIG", "mig": {"profile": "1g.10gb"}}},
        "nvidia.com/gpu",
        {"plain": "NoGPU"},
    ),
    Case(
        "a slice of another card",
        (MIG_SINGLE,),
        {"allocation": MIG, "products": ["NVIDIA-A30"]},
        "nvidia.com/gpu",
        {"mig-single": "NoGPU"},
    ),
    Case(
        "a slice of that card",
        (MIG_SINGLE,),
        {"allocation": MIG, "products": ["NVIDIA-A100-SXM4-80GB"]},
        "nvidia.com/gpu",
    ),
    Case(
        "a profile that no node has",
        (PLAIN,),
        {"allocation": PROFILE},
        "nvidia.com/mig-1g.5gb",
        {"plain": "NoGPU"},
    ),
    Case(
        "by itself a slice where no whole card is", (MIG_MIXED,), {"minMemory": "4G"}, "nvidia.com/mig-1g.5gb"
    ),
    Case(
        "a whole card before a slice",
        (MIG_MIXED, PLAIN),
        {"minMemory": "4G"},
        "nvidia.com/gpu",
        {"mig-mixed": "NoGPU"},
    ),
    Case(
        "where nothing fits, what comes nearest",
        (MIG_MIXED, CPU),
        {"minMemory": "30G"},
        "nvidia.com/mig-3g.20gb",
        {"cpu": "NoGPU", "mig-mixed": "InsufficientVRAM"},
    ),
    Case(
        "two slices are not one",
        (MIG_MIXED,),
        {"minMemory": "4G", "count": 2},
        "nvidia.com/gpu",
        {"mig-mixed": "NoGPU"},
    ),
    Case("a part of a card by MPS", (MPS, PLAIN), {"minMemory": "5G"}, "nvidia.com/gpu"),
    Case(
        "and its memory is that part",
        (MPS, PLAIN),
        {"minMemory": "6G"},
        "nvidia.com/gpu",
        {"mps": "InsufficientVRAM"},
    ),
    Case(
        "two parts may be of one card",
        (MPS, PLAIN),
        {"count": 2},
        "nvidia.com/gpu",
        {"mps": "SharedGPU", "plain": "InsufficientGPU"},
    ),
    Case(
        "a time slice has no memory of its own",
        (TIME_SLICED, PLAIN),
        {"minMemory": "1G"},
        "nvidia.com/gpu",
        {"time-sliced": "SharedGPU"},
    ),
    Case("and does where none is asked for", (TIME_SLICED,), {}, "nvidia.com/gpu"),
    Case("a renamed share where nothing else is", (RENAMED,), {}, "nvidia.com/gpu.shared"),
    Case(
        "a renamed time slice",
        (RENAMED,),
        {"minMemory": "1G", "allocation": plugin("nvidia.com/gpu.shared")},
        "nvidia.com/gpu.shared",
        {"renamed": "SharedGPU"},
    ),
    Case(
        "a node of mixed cards",
        (MIXED_CARDS, PLAIN),
        {"minMemory": "15G"},
        "nvidia.com/gpu",
        {"mixed-cards": "MixedGPUs"},
    ),
    Case("where any card will do", (MIXED_CARDS,), {}, "nvidia.com/gpu"),
    Case(
        "no label says how large",
        (UNLABELLED,),
        {"minMemory": "1G"},
        "nvidia.com/gpu",
        {"unlabelled": "UnknownVRAM"},
    ),
    Case("AMD by itself", (AMD, CPU), {"minMemory": "64G"}, "amd.com/gpu", {"cpu": "NoGPU"}),
    Case("AMD, too small", (AMD,), {"minMemory": "65Gi"}, "amd.com/gpu", {"amd": "InsufficientVRAM"}),
    Case("AMD, mixed", (AMD_MIXED,), {"minMemory": "8G"}, "amd.com/gpu", {"amd-mixed": "MixedGPUs"}),
    Case("AMD by product", (AMD,), {"products": ["Instinct_MI210"]}, "amd.com/gpu"),
    Case("NVIDIA before AMD", (AMD, PLAIN), {}, "nvidia.com/gpu", {"amd": "NoGPU"}),
    Case(
        "AMD where NVIDIA's are too small",
        (AMD, PLAIN),
        {"minMemory": "40G"},
        "amd.com/gpu",
        {"plain": "NoGPU"},
    ),
    Case("another vendor", (INTEL,), {}, "gpu.intel.com/xe"),
    Case(
        "whose memory nobody tells",
        (INTEL,),
        {"minMemory": "8G"},
        "nvidia.com/gpu",
        {"intel": "NoGPU"},
    ),
    Case("a resource of one's own", (INTEL,), {"allocation": plugin("gpu.intel.com/xe")}, "gpu.intel.com/xe"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_kind_of_node(case: Case) -> None:
    fleet = fleet_of(*case.nodes)
    need, found = placed(fleet, **case.gpu)
    assert need.resource == case.resource
    told = {example: reason.value for reason, count, example in found.rejected if count == 1}
    assert told == case.obstacles
    assert found.fitting == len(case.nodes) - len(case.obstacles)


def test_without_a_slice_and_a_profile_no_pod_can_be_described() -> None:
    need, _ = placed(fleet_of(PLAIN), allocation=MIG)
    assert need.unplaceable
    assert need.unplaceable.reason == "NoGPU"


def test_a_cluster_that_shares_and_mixes_nothing_gets_no_term_about_it() -> None:
    need, _ = placed(fleet_of(PLAIN, CPU, AMD), minMemory="15G")
    assert [[one.key for one in term] for term in need.terms] == [["nvidia.com/gpu.memory"]]


def test_the_largest_of_the_kind_is_told_as_a_share_has_it() -> None:
    _, found = placed(fleet_of(MPS), minMemory="6G")
    assert found.largest_mib == 15360 // 3


@pytest.mark.parametrize(
    ("requests", "reason", "words"),
    [
        ({"cpu": "9500m"}, "InsufficientResources", "9.5 CPUs are asked for, the most on one node is 8;"),
        (
            {"memory": "65Gi"},
            "InsufficientResources",
            "66560 MiB of memory are asked for, the most on one node is 65536 MiB;",
        ),
        ({"cpu": "8"}, None, "needs a node; 1 nodes fit"),
    ],
)
def test_cpu_and_memory_count_too(requests: Manifest, reason: str | None, words: str) -> None:
    hardware = Hardware.model_validate({"gpu": {"mode": "None"}, "resources": {"requests": requests}})
    need = placement.place(placement.state(hardware), fleet_of(CPU))
    found = fleet_of(CPU).survey(need)
    assert [one.value for one, _, _ in found.rejected] == ([reason] if reason else [])
    assert words in placement.explain(need, found)


ZONE = {"key": "zone", "operator": "In", "values": ["a"]}


@pytest.mark.parametrize(
    ("terms", "fits"),
    [
        ([{"matchExpressions": [ZONE]}], False),
        ([{"matchExpressions": [{**ZONE, "operator": "NotIn"}]}], True),
        (
            [
                {"matchExpressions": [ZONE]},
                {"matchFields": [{**ZONE, "key": "metadata.name", "values": ["cpu"]}]},
            ],
            True,
        ),
        ([{}], False),
        ([], False),
        ("odd", True),
    ],
    ids=["unmet", "met", "one of two", "empty", "none", "left to the API server"],
)
def test_the_authors_affinity_counts(terms: Any, fits: bool) -> None:
    affinity = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    }
    hardware = Hardware.model_validate({"gpu": {"mode": "None"}, "affinity": affinity})
    fleet = fleet_of(CPU)
    assert bool(fleet.survey(placement.place(placement.state(hardware), fleet)).fitting) is fits
