"""Manifests by golden pairs: `golden/<case>.yaml` holds resources and, after them, what they become.

`ROUNDHOUSE_UPDATE_GOLDEN=1 pytest tests/unit/operator/test_desired.py` writes the second half anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from roundhouse_api.model import Manifest
from roundhouse_operator.core.desired import Intent, desired_children
from roundhouse_operator.core.desired.cache import (
    LoaderRun,
    build_claim,
    build_job,
    build_record,
    claim_size,
)
from roundhouse_operator.core.desired.overlay import overlay_problems, strategic_merge
from roundhouse_operator.core.fields import differences, has_leftovers
from roundhouse_operator.core.weights.delivery import Way
from roundhouse_operator.core.weights.state import JobPurpose, Report
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import Scene, applied, node, owned

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.yaml"))
INPUTS = ("Node", "Engine", "ModelVariant")


class _Plain(yaml.SafeDumper):
    """Writes everything out, as a person would."""

    @override
    def ignore_aliases(self, data: object) -> bool:
        return True


def read(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text()))


def children(*manifests: Manifest) -> list[Manifest]:
    return list(desired_children(intent_of(*manifests)))


def intent_of(*manifests: Manifest) -> Intent:
    name = next(one["metadata"]["name"] for one in manifests if one["kind"] == "ModelVariant")
    intent = Scene(*manifests).decide(name).intent
    assert intent
    return intent


def cache(intent: Intent) -> list[Manifest]:
    """What fetches the weights of a variant, where a Job does."""
    delivery = intent.delivery
    if delivery.way is not Way.CACHE:
        return []
    run = LoaderRun(JobPurpose.FETCH, claim_uid="uid-claim")
    report = Report(complete=True, revision="c0ffee", digest="sha256:1", total_bytes=1000)
    made = [
        build_job(intent, run),
        build_record(intent, report, claim_uid="uid-claim", complete=True),
    ]
    return (
        [build_claim(intent, delivery.own, claim_size(intent, delivery.own)), *made] if delivery.own else made
    )


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    inputs = [one for one in read(path) if one["kind"] in INPUTS]
    made = [*children(*inputs), *cache(intent_of(*inputs))]
    if os.environ.get("ROUNDHOUSE_UPDATE_GOLDEN"):
        path.write_text(yaml.dump_all([*inputs, *made], Dumper=_Plain, sort_keys=False))
    assert made == [one for one in read(path) if one["kind"] not in INPUTS]


words = st.text("abc", min_size=1, max_size=3)
specs = st.fixed_dictionaries(
    {},
    optional={
        "args": st.lists(words, max_size=3),
        "env": st.lists(
            st.builds(lambda name, value: {"name": name, "value": value}, words, words),
            max_size=3,
            unique_by=lambda one: one["name"],
        ),
        "replicas": st.integers(0, 5),
        "suspend": st.booleans(),
        "concurrency": st.fixed_dictionaries({"maxInFlightPerReplica": st.integers(1, 9)}),
        "rollout": st.fixed_dictionaries(
            {
                "strategy": st.sampled_from(["Auto", "Surge", "Recreate"]),
                "drainTimeoutSeconds": st.integers(0, 99),
            }
        ),
        "hardware": st.fixed_dictionaries(
            {
                "gpu": st.sampled_from(
                    [
                        {"mode": "None"},
                        {"mode": "Required"},
                        {"mode": "Required", "minMemory": "15G"},
                        {"mode": "Optional"},
                    ]
                )
            }
        ),
    },
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(specs, specs)
def test_manifests_are_deterministic_and_settle(spec: Manifest, other: Manifest) -> None:
    first, again = children(engine(), variant(**spec)), children(engine(), variant(**spec))
    assert first == again
    for mine, theirs in zip(first, children(engine(), variant(**other)), strict=False):
        assert differences(mine, mine, owned(mine)) == []
        assert not has_leftovers(mine, owned(mine))
        assert bool(differences(mine, theirs, owned(theirs)) or has_leftovers(mine, owned(theirs))) == (
            mine != theirs
        )


@pytest.mark.req("S2-1")
def test_who_writes_variants_cannot_reach_the_contract() -> None:
    deployment = children(engine(), variant(env=[{"name": "A", "value": "1"}]))[0]
    env = {one["name"]: one for one in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["A"] == {"name": "A", "value": "1"}
    assert (
        env["ROUNDHOUSE_MODELS"]["value"]
        == '[{"name":"kws-en","path":null,"source":{"type":"Builtin"},"variant":"kws-en"}]'
    )
    scene = Scene(engine(), variant(env=[{"name": "ROUNDHOUSE_PORT", "value": "1"}]))
    refused = scene.decide("kws-en").refused
    assert refused
    assert refused.reason == "InvalidSpec"
    assert "from spec.api.port of the Engine" in refused.message


@pytest.mark.req("S2-12")
def test_an_engine_is_told_how_a_variant_s_vectors_are_pooled() -> None:
    can = {"embedding": {"dimensions": 8, "pooling": "LastToken"}}
    of_variant, of_engine = (
        children(engine(), variant(capabilities=can)),
        children(engine(capabilities=can), variant()),
    )
    for deployment, *_ in (of_variant, of_engine):
        env = {one["name"]: one for one in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
        [entry] = json.loads(env["ROUNDHOUSE_MODELS"]["value"])
        assert entry["pooling"] == "LastToken"


def test_renaming_the_model_for_clients_touches_no_pod() -> None:
    assert children(engine(), variant()) == children(engine(), variant(servedName="a/b", aliases=["c"]))


def test_a_gpu_node_that_comes_or_goes_rolls_no_running_pod() -> None:
    scene = Scene(node("n1"), engine(hardware={"gpu": {"mode": "Optional"}}), variant())
    scene.settle("kws-en", replicas=1, readyReplicas=1, updatedReplicas=1)
    assert scene.world("kws-en").variant.status["placement"]["device"] == "CPU"
    scene.put(node("g1", 1))
    assert scene.decide("kws-en").plan.empty


def test_optional_takes_a_gpu_where_there_is_one() -> None:
    manifests = (node("g1", 2), engine(hardware={"gpu": {"mode": "Optional"}}), variant())
    resources = children(*manifests)[0]["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources["limits"] == {"nvidia.com/gpu": "1"}


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ({"spec": {"nodeSelector": {"a": "b"}}}, "podTemplate.spec.nodeSelector: use hardware.nodeSelector"),
        (
            {"spec": {"containers": [{"name": "engine", "image": "x"}]}},
            "podTemplate.spec.containers[engine].image: use workload.image",
        ),
        (
            {"metadata": {"labels": {"roundhouse.dev/variant": "x"}}},
            "podTemplate.metadata.labels['roundhouse.dev/variant']: belongs to Roundhouse",
        ),
        (
            {"spec": {"containers": [{"image": "x"}]}},
            "podTemplate.spec.containers: must be a list of objects with a name",
        ),
        ({"spce": {}}, "podTemplate.spce: a pod template has `metadata` and `spec`"),
        ({"spec": []}, "podTemplate.spec: must be an object"),
    ],
)
def test_a_pod_template_may_not_set_what_a_field_sets(template: Manifest, problem: str) -> None:
    assert overlay_problems(template, "engine") == [problem]


def test_strategic_merge_tells_items_apart_by_their_keys() -> None:
    base = {
        "containers": [{"name": "engine", "volumeMounts": [{"mountPath": "/scratch", "name": "tmp"}]}],
        "volumes": [],
    }
    over = {
        "containers": [
            {"name": "engine", "volumeMounts": [{"mountPath": "/shm", "name": "shm"}]},
            {"name": "side"},
        ],
        "hostname": None,
    }
    merged = strategic_merge(base, over)
    assert [one["name"] for one in merged["containers"]] == ["engine", "side"]
    assert [one["name"] for one in merged["containers"][0]["volumeMounts"]] == ["tmp", "shm"]
    assert "hostname" not in merged
    assert base["containers"][0] == {
        "name": "engine",
        "volumeMounts": [{"mountPath": "/scratch", "name": "tmp"}],
    }


def test_what_was_applied_is_what_is_wanted() -> None:
    scene = Scene(node("n1"), engine(), variant())
    scene.put(*(applied(one) for one in children(engine(), variant())))
    assert scene.decide("kws-en").plan.empty
