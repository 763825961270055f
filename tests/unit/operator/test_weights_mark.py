"""What is swept from a claim of others: what the claim says that we fetched, by a pod of our own making."""

from __future__ import annotations

import json
from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import CONFIG_MAP, JOB, VARIANT, Key
from roundhouse_operator.core.weights.asked import Answer, Ask, AskedKind
from roundhouse_operator.core.weights.key import store_name
from tests.unit.operator.caches import COMPLETE, HUB, LOADER, SHARED_CLAIM, Caches, failure
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import NAMESPACE, conditions, node

TAINT = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
ZONE = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
REQUIRED = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [ZONE]}}
PLACED: dict[str, Any] = {
    "nodeSelector": {"disk": "fast"},
    "tolerations": [TAINT],
    "affinity": {"nodeAffinity": REQUIRED},
}
EVIL: dict[str, Any] = {
    "serviceAccountName": "admin",
    "hostPID": True,
    "containers": [{"name": "mine", "image": "example.org/mine", "securityContext": {"privileged": True}}],
    "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
    "affinity": {
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}
    },
}


def unwanted() -> Caches:
    """Weights on a claim of somebody else's, whose Job and variant are gone."""
    hardware = {"gpu": {"mode": "None"}, **PLACED}
    scene = Caches(
        node("n1", disk="fast", zone="a"), engine(cache=SHARED_CLAIM, hardware=hardware), variant(source=HUB)
    )
    scene.steps()
    scene.ends(COMPLETE)
    scene.steps()
    scene.cache.forget(Key(VARIANT, NAMESPACE, "kws-en"))
    return scene


def rewrite(scene: Caches, data: dict[str, str | None], *, name: str = "", key: str = "") -> None:
    [record] = scene.all(CONFIG_MAP)
    said = {known: value for known, value in {**record["data"], **data}.items() if value is not None}
    metadata = {known: value for known, value in record["metadata"].items() if known != "resourceVersion"}
    if name:
        scene.cache.forget(Key(CONFIG_MAP, NAMESPACE, metadata["name"]))
        del scene._manifests["ConfigMap", metadata["name"]]
        metadata = {**metadata, "name": name, "uid": "another"}
    if key:
        metadata = {**metadata, "labels": {**metadata["labels"], "roundhouse.dev/weights": key}}
    scene.put({**record, "metadata": metadata, "data": said})


def mark(scene: Caches, said: str) -> None:
    """What somebody writes onto the claim."""
    [name] = scene.claims["models"]
    scene.claims["models"][name] = said


def swept_by(scene: Caches) -> Manifest | None:
    """The pod of the Job that sweeps, if there is one."""
    scene.sweep()
    jobs = [one for one in scene.all(JOB) if "-sweep-" in one["metadata"]["name"]]
    return jobs[0]["spec"]["template"]["spec"] if jobs else None


def test_the_claim_says_what_was_fetched_onto_it_and_from_which_nodes_it_can_go() -> None:
    scene = unwanted()
    [(name, said)] = scene.claims["models"].items()
    assert name == f"fetched.roundhouse.dev/{scene.record()['key']}"
    assert json.loads(said) == PLACED
    assert not {"image", "containers", "volumes"} & set(said.split('"'))


def test_the_pod_that_sweeps_is_made_by_the_operator() -> None:
    scene = unwanted()
    pod = swept_by(scene)
    assert pod
    assert {name: pod[name] for name in PLACED} == PLACED
    [container] = pod["containers"]
    assert (container["image"], container["args"]) == (LOADER.image, ["sweep"])
    told = {one["name"]: one.get("value") for one in container["env"]}
    assert told["ROUNDHOUSE_CACHE_KEY"] == scene.record()["key"]
    assert [one.get("persistentVolumeClaim") for one in pod["volumes"]] == [{"claimName": "models"}, None]


def test_what_was_swept_is_marked_no_longer() -> None:
    scene = unwanted()
    assert swept_by(scene)
    assert scene.sweep().empty, "it is under way"
    scene.ends({"result": "Complete"})
    scene.sweep()
    assert scene.all(JOB) == scene.all(CONFIG_MAP) == []
    assert scene.claims["models"] == {}


@pytest.mark.parametrize("said", [json.dumps({**PLACED, **EVIL}), "[" * 4096, "7", '{"tolerations": "all"}'])
def test_nothing_that_is_written_there_is_run(said: str) -> None:
    plain, scene = unwanted(), unwanted()
    mark(plain, "{}")
    mark(scene, said)
    expected, pod = swept_by(plain), swept_by(scene)
    assert expected
    assert pod
    chosen = ("nodeSelector", "tolerations")
    assert {name: value for name, value in pod.items() if name not in chosen} == expected


def test_a_record_of_what_we_did_not_fetch_removes_nothing() -> None:
    scene, key = unwanted(), "by-hand-0123456789abcdef"
    rewrite(scene, {"key": key, "complete": "true"}, name=store_name(key, "claim models"), key=key)
    assert swept_by(scene) is None, "whoever may write ConfigMaps names no directory for us to remove"
    assert scene.all(CONFIG_MAP) == [], "it is of no use to anybody"


@pytest.mark.parametrize("policy", ["Auto", "Never"])
@pytest.mark.parametrize("failed_before", [True, False])
def test_weights_that_a_person_put_there_are_not_swept(policy: str, *, failed_before: bool) -> None:
    """Also where an attempt to fetch them came first, and whatever the policy is when they are found."""
    scene = Caches(node("n1"), engine(cache=SHARED_CLAIM), variant(source=HUB))
    if failed_before:
        scene.steps()
        scene.ends(failure("SourceUnreachable"))
        scene.steps()
        assert scene.claims["models"], "an attempt may have left something"
        scene.now += 3600
    edited = variant(source=HUB, downloadPolicy=policy)
    edited["metadata"]["generation"] = 2
    scene.put(edited)
    scene.steps()
    scene.ends(COMPLETE if policy == "Never" else {**COMPLETE, "fetched": False})
    assert conditions(scene.steps())["WeightsReady"] == ("True", "Downloaded")
    assert scene.claims["models"] == {}
    scene.cache.forget(Key(VARIANT, NAMESPACE, "kws-en"))
    assert swept_by(scene) is None


def test_a_claim_that_is_gone_needs_no_sweep() -> None:
    scene = unwanted()
    scene.claims.clear()
    assert swept_by(scene) is None
    assert scene.all(CONFIG_MAP) == []


@pytest.mark.parametrize(
    ("claim", "name"),
    [("database", ""), ("../models", ""), ("models", "weights-kws-en-0123456789ab")],
    ids=["a claim of others", "no claim at all", "another name"],
)
def test_a_record_that_does_not_fit_its_name_removes_nothing(claim: str, name: str) -> None:
    scene = unwanted()
    rewrite(scene, {"claim": claim}, name=name)
    assert swept_by(scene) is None
    assert scene.all(CONFIG_MAP) == [], "it is of no use to anybody"


def unmarkable(*, fetched: bool = True) -> Caches:
    """Weights have come, and the claim may not be annotated."""
    scene = Caches(node("n1"), engine(cache=SHARED_CLAIM), variant(source=HUB))
    scene.refuses_marks = fetched
    scene.steps()
    scene.refuses_marks = True
    scene.ends({**COMPLETE, "fetched": fetched})
    return scene


@pytest.mark.parametrize("fetched", [True, False])
def test_a_mark_that_is_refused_is_told_and_tried_again(*, fetched: bool) -> None:
    scene = unmarkable(fetched=fetched)
    said = conditions(scene.steps())
    assert (said["WeightsReady"], said["Degraded"]) == (("True", "Downloaded"), ("True", "CacheNotSwept"))
    message = next(
        one["message"] for one in scene.status("kws-en")["conditions"] if one["type"] == "Degraded"
    )
    assert "PersistentVolumeClaim 'models' may not be annotated" in message
    assert message.endswith("(no patch)")
    decision = scene.decide("kws-en")
    assert decision.revisit_seconds == 300
    scene.now += 300
    scene.step()
    assert scene.record()["markRefusedAt"] == str(scene.now), "and it is tried again later"
    scene.refuses_marks = False
    scene.now += 300
    assert "Degraded" not in conditions(scene.steps())
    assert bool(scene.claims["models"]) is fetched
    assert "markRefused" not in scene.record()


@pytest.mark.parametrize("fetched", [True, False])
def test_where_the_job_is_gone_a_person_marks_the_claim(*, fetched: bool) -> None:
    scene = unmarkable(fetched=fetched)
    scene.steps()
    scene.forget_pods()
    scene.cache.forget(Key(JOB, NAMESPACE, scene.job()["metadata"]["name"]))
    scene.refuses_marks = False
    scene.now += 3600
    claim = Ask(AskedKind.CLAIM, "models")
    name = f"fetched.roundhouse.dev/{scene.record()['key']}"
    scene.answers[claim] = Answer(True, annotations=frozenset() if fetched else frozenset({name}))
    decision = scene.decide("kws-en")
    assert decision.supply
    assert claim in decision.supply.asks
    assert decision.supply.plan.empty, "a record has no claim marked"
    assert conditions(scene.status("kws-en"))["Degraded"] == ("True", "CacheNotSwept")
    scene.answers[claim] = Answer(True, annotations=frozenset({name}) if fetched else frozenset())
    assert "Degraded" not in conditions(scene.steps())
    assert "markRefused" not in scene.record()
