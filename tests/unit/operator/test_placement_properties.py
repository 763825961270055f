"""Whatever is asked of whatever nodes: the verdict is the scheduler's, and what is remembered is what is."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Hardware
from roundhouse_operator.core import placement
from roundhouse_operator.core.placement import Fleet
from roundhouse_operator.project_fleet import project_node
from tests.unit.operator.kinds_of_nodes import ALL
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.scheduling import takes
from tests.unit.operator.worlds import Scene, fleet_of, sent

MEMORY = st.sampled_from(["1G", "4G", "5G", "6G", "9G", "15G", "16G", "39G", "64G", "15109Mi", "15361Mi"])
RESOURCES = [
    "nvidia.com/gpu",
    "nvidia.com/gpu.shared",
    "nvidia.com/mig-1g.5gb",
    "amd.com/gpu",
    "gpu.intel.com/xe",
]
ALLOCATIONS = st.one_of(
    st.just({"type": "Auto"}),
    st.just({"type": "MIG"}),
    st.sampled_from(["1g.5gb", "2g.10gb", "1g.10gb", "7g.80gb"]).map(
        lambda one: {"type": "MIG", "mig": {"profile": one}}
    ),
    st.sampled_from(RESOURCES).map(
        lambda one: {"type": "DevicePlugin", "devicePlugin": {"resourceName": one}}
    ),
)
PRODUCTS = st.lists(
    st.sampled_from(["Tesla-T4", "Tesla-T4-SHARED", "NVIDIA-A100-SXM4-80GB", "Instinct_MI210"]),
    min_size=1,
    max_size=2,
    unique=True,
)
GPU = st.fixed_dictionaries(
    {"mode": st.sampled_from(["Required", "Optional"])},
    optional={
        "count": st.integers(1, 4),
        "minMemory": MEMORY,
        "products": PRODUCTS,
        "allocation": ALLOCATIONS,
    },
) | st.just({"mode": "None"})
TERM = st.sampled_from(
    [
        {},
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
        {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]},
        {"matchExpressions": [{"key": "rank", "operator": "Lt", "values": ["3"]}]},
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n0"]}]},
    ]
)
AFFINITY = st.lists(TERM, min_size=1, max_size=2).map(
    lambda terms: {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    }
)
TOLERATION = st.sampled_from(
    [
        {"key": "gpu", "operator": "Exists"},
        {"operator": "Exists"},
        {"key": "gpu", "value": "yes", "effect": "NoExecute"},
    ]
)
HARDWARE = st.fixed_dictionaries(
    {"gpu": GPU},
    optional={
        "affinity": AFFINITY,
        "nodeSelector": st.just({"zone": "a"}),
        "tolerations": st.lists(TOLERATION, min_size=1, max_size=2),
        "resources": st.sampled_from(
            [{"requests": {"cpu": "7500m"}}, {"limits": {"cpu": "9", "memory": "1Gi"}}]
        ),
    },
)
TAINT = st.sampled_from(
    [
        {"key": "gpu", "value": "yes", "effect": "NoSchedule"},
        {"key": "gpu", "value": "yes", "effect": "NoExecute"},
        {"key": "gpu", "effect": "PreferNoSchedule"},
    ]
)


@st.composite
def nodes(draw: st.DrawFn) -> list[Manifest]:
    chosen = draw(st.lists(st.sampled_from(ALL), min_size=1, max_size=5))
    made = []
    for place, kind in enumerate(chosen):
        one = json.loads(json.dumps(kind))
        one["metadata"]["name"] = f"n{place}"
        labels = one["metadata"]["labels"]
        labels |= {
            "kubernetes.io/hostname": f"n{place}",
            **draw(st.sampled_from([{}, {"zone": "a"}, {"rank": "2"}])),
        }
        one["spec"] = draw(
            st.sampled_from([{}, {"unschedulable": True}]) | TAINT.map(lambda taint: {"taints": [taint]})
        )
        made.append(one)
    return made


def pod_of(scene: Scene) -> Manifest:
    intent = scene.decide("kws-en").intent
    assert intent
    plan = scene.decide("kws-en").plan
    found = [one.manifest for one in plan.applies if one.kind.name == "Deployment"]
    spec: Manifest = found[0]["spec"]["template"]["spec"]
    return spec


@settings(max_examples=400, deadline=None)
@given(nodes=nodes(), hardware=HARDWARE)
def test_a_node_fits_exactly_where_the_scheduler_takes_the_pod(
    nodes: list[Manifest], hardware: Manifest
) -> None:
    scene = Scene(*nodes, engine(hardware=hardware), variant())
    decision = scene.decide("kws-en")
    if decision.unplaced:
        return
    assert decision.survey
    pod = pod_of(scene)
    assert decision.survey.fitting == sum(takes(one, pod) for one in nodes)
    told = sum(count for _, count, _ in decision.survey.rejected)
    assert decision.survey.fitting + told == len(nodes)


@settings(max_examples=200, deadline=None)
@given(nodes=nodes(), hardware=HARDWARE)
def test_a_decision_told_and_read_again_is_the_same(nodes: list[Manifest], hardware: Manifest) -> None:
    fleet = fleet_of(*nodes)
    stated = placement.state(Hardware.model_validate(hardware))
    need = placement.place(stated, fleet)
    told = placement.as_status(need, fleet.survey(need))
    if need.unplaceable is None:
        assert placement.keep(stated, json.loads(json.dumps(told))) == need


@settings(max_examples=200, deadline=None)
@given(
    nodes=nodes(),
    asked=st.lists(HARDWARE, min_size=1, max_size=3),
    changes=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(ALL) | st.none()), max_size=8),
)
def test_surveys_are_mended_as_if_they_were_made_anew(
    nodes: list[Manifest], asked: list[Manifest], changes: list[tuple[int, Manifest | None]]
) -> None:
    kept = fleet_of(*nodes)
    stated = [placement.state(Hardware.model_validate(one)) for one in asked]
    needs = [placement.place(one, kept) for one in stated]
    for need in needs:
        kept.survey(need)
    there = {one["metadata"]["name"]: one for one in nodes}
    for place, kind in changes:
        before = _answers(kept, stated, needs)
        name = f"n{place}"
        changed = kept.put_node(name, project_node(sent(_named(kind, name))) if kind else None)
        there.pop(name, None)
        if kind:
            there[name] = _named(kind, name)
        fresh = fleet_of(*there.values())
        assert _answers(kept, stated, needs) == _answers(fresh, stated, needs)
        assert changed or before == _answers(kept, stated, needs)


def _named(kind: Manifest, name: str) -> Manifest:
    labels = {**kind["metadata"]["labels"], "kubernetes.io/hostname": name}
    return {**kind, "metadata": {**kind["metadata"], "name": name, "labels": labels}}


def _answers(fleet: Fleet, stated: list[placement.Stated], needs: list[placement.Need]) -> list[Any]:
    return [*(fleet.survey(need) for need in needs), *(placement.place(one, fleet) for one in stated)]
