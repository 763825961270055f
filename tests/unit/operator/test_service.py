"""The Service of a variant leads to its pods, also while everything else is to stay as it is."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.fields import value_at
from roundhouse_operator.core.kinds import DEPLOYMENT, ENGINE, SERVICE, Key
from roundhouse_operator.core.own import child_of
from roundhouse_operator.core.plan import Plan
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import NAMESPACE, Scene, applied, conditions, message, node

RUNNING: dict[str, Any] = {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1}
MINE = {"roundhouse.dev/managed": "true", "roundhouse.dev/variant": "kws-en"}
THEIRS: dict[str, dict[str, str]] = {
    "another": {"a": "b"},
    "one more": {**MINE, "version": "blue"},
    "none": {},
}
PORT = 8123


def settled() -> tuple[Scene, Manifest]:
    """And the Service that was made."""
    scene = Scene(node("n1"), engine(api={"port": PORT}), variant())
    [service] = [one.manifest for one in scene.decide("kws-en").plan.applies if one.kind == SERVICE]
    scene.settle("kws-en", **RUNNING)
    scene.settle("kws-en", **RUNNING)
    return scene, service


def other_engine() -> Manifest:
    """Of the same name, with another image and another port."""
    other = engine(workload={"image": "example.org/other:1"}, api={"port": 9999})
    return {**other, "metadata": {**other["metadata"], "uid": "another"}}


def replaced(scene: Scene) -> None:
    scene.put(other_engine())
    assert conditions(scene.settle("kws-en", **RUNNING))["UpToDate"] == ("False", "EngineChanged")


def missing(scene: Scene) -> None:
    scene.cache.forget(Key(ENGINE, NAMESPACE, "kws"))
    assert conditions(scene.settle("kws-en", **RUNNING))["EngineSelected"] == ("False", "EngineNotFound")


def edit(scene: Scene, service: Manifest, selector: Manifest, manager: str = "kubectl-patch") -> None:
    """As the API server has it afterwards: the selector is all of it the manager's."""
    live = applied(copy.deepcopy(service))
    live["spec"]["selector"] = selector
    entries = live["metadata"]["managedFields"]
    del entries[0]["fieldsV1"]["f:spec"]["f:selector"]
    fields: Manifest = {"f:spec": {"f:selector": {}}}
    entries.append({"manager": manager, "operation": "Update", "fieldsV1": fields})
    scene.put(live)


def astray() -> Iterator[Manifest]:
    scene, _ = settled()
    scene.cache.forget(Key(SERVICE, NAMESPACE, "kws-en"))
    yield scene.status("kws-en")


STANDING = pytest.mark.parametrize("happens", [replaced, missing], ids=["EngineChanged", "EngineNotFound"])


@STANDING
@pytest.mark.parametrize("selector", THEIRS.values(), ids=THEIRS)
def test_an_edited_service_is_mended_while_pods_stay_as_they_are(happens: Any, selector: Manifest) -> None:
    scene, service = settled()
    happens(scene)
    assert scene.decide("kws-en").plan == Plan(), "nobody changed anything"
    edit(scene, service, selector)
    [apply] = scene.decide("kws-en").plan.applies
    assert (apply.kind, apply.force) == (SERVICE, True)
    assert apply.manifest == service, "as it was made: of the engine that the pods are of"


@STANDING
def test_a_missing_service_is_made_again_while_pods_stay_as_they_are(happens: Any) -> None:
    scene, service = settled()
    happens(scene)
    scene.cache.forget(Key(SERVICE, NAMESPACE, "kws-en"))
    [apply] = scene.decide("kws-en").plan.applies
    assert apply.new
    assert apply.manifest["spec"] == service["spec"]
    assert apply.manifest["metadata"]["labels"] == service["metadata"]["labels"]
    assert apply.manifest["metadata"]["ownerReferences"] == service["metadata"]["ownerReferences"]


def test_a_value_that_a_person_edits_while_pods_stay_as_they_are_is_not_taken_away() -> None:
    """It was ours, and pods would start that lack it; what they added beside it goes as ever."""
    scene, _ = settled()
    deployment = child_of(scene.world("kws-en"), DEPLOYMENT)
    assert deployment
    made = {key: value for key, value in copy.deepcopy(deployment.live).items() if key != "status"}
    replaced(scene)
    live = applied(made, rollout=RUNNING)
    pod, grace = live["spec"]["template"]["spec"], "terminationGracePeriodSeconds"
    pod |= {grace: 1234, "hostIPC": True}
    theirs: Manifest = {"f:spec": {"f:template": {"f:spec": {f"f:{grace}": {}, "f:hostIPC": {}}}}}
    del live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"][f"f:{grace}"]
    live["metadata"]["managedFields"].append(
        {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": theirs}
    )
    scene.put(live)
    plan = scene.decide("kws-en").plan
    [removal] = plan.removals
    assert [one["path"] for one in removal.patch if one["op"] == "remove"] == ["/spec/template/spec/hostIPC"]
    assert not plan.applies, "what it was is not known any more"
    assert [(one.path, one.manager) for one in plan.conflicts] == [
        (".spec.template.spec.terminationGracePeriodSeconds", "kubectl-edit")
    ]
    scene.put({**variant(args=["--more"]), "metadata": {"name": "kws-en", "generation": 2}})
    [apply] = [one for one in scene.decide("kws-en").plan.applies if one.kind == DEPLOYMENT]
    assert apply.manifest["spec"]["template"]["spec"][grace] not in (None, 1234)
    assert apply.force


def test_what_a_controller_holds_is_told_also_while_pods_stay_as_they_are() -> None:
    scene, _ = settled()
    deployment = child_of(scene.world("kws-en"), DEPLOYMENT)
    assert deployment
    made = {key: value for key, value in copy.deepcopy(deployment.live).items() if key != "status"}
    live = applied(made, rollout=RUNNING)
    live["spec"]["progressDeadlineSeconds"] = 77
    del live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:progressDeadlineSeconds"]
    theirs: Manifest = {"f:spec": {"f:progressDeadlineSeconds": {}}}
    live["metadata"]["managedFields"].append({"manager": "helm", "operation": "Apply", "fieldsV1": theirs})
    scene.put(live)
    told = [(".spec.progressDeadlineSeconds", "helm")]
    assert [(one.path, one.manager) for one in scene.decide("kws-en").plan.conflicts] == told
    replaced(scene)
    plan = scene.decide("kws-en").plan
    assert plan.empty
    assert [(one.path, one.manager) for one in plan.conflicts] == told


def test_an_edit_of_the_variant_is_still_seen_after_its_service_was_mended() -> None:
    scene, service = settled()
    missing(scene)
    status = scene.world("kws-en").variant.status
    changed = variant(args=["--more"])
    scene.put({**changed, "metadata": {**changed["metadata"], "generation": 2}, "status": status})
    edit(scene, service, THEIRS["another"])
    [apply] = scene.decide("kws-en").plan.applies
    assert apply.manifest == service, "which says what the pods were made from"
    scene.put(applied(apply.manifest), other_engine())
    deployment = next(one for one in scene.decide("kws-en").plan.applies if one.kind == DEPLOYMENT)
    image = ("spec", "template", "spec", "containers", (("name", "engine"),), "image")
    assert value_at(deployment.manifest, image) == "example.org/other:1"


def test_an_edit_of_the_variant_is_still_seen_where_its_service_is_missing() -> None:
    scene, _ = settled()
    replaced(scene)
    scene.cache.forget(Key(SERVICE, NAMESPACE, "kws-en"))
    status = scene.world("kws-en").variant.status
    changed = variant(args=["--more"])
    scene.put({**changed, "metadata": {**changed["metadata"], "generation": 2}, "status": status})
    decision = scene.decide("kws-en")
    assert decision.held is None
    assert {one.kind for one in decision.plan.applies} == {DEPLOYMENT, SERVICE}


def test_a_service_that_is_made_again_takes_nothing_of_a_deployment_that_nobody_signed_for() -> None:
    """Such as one that was restored from a backup, without its managedFields."""
    scene, service = settled()
    replaced(scene)
    [live] = [one.live for one in scene.world("kws-en").children if one.kind == DEPLOYMENT]
    metadata = {key: value for key, value in live["metadata"].items() if key != "resourceVersion"}
    theirs = {"labels": {**metadata["labels"], "team": "speech"}, "annotations": {"note": "theirs"}}
    scene.put({**live, "metadata": {**metadata, **theirs, "managedFields": []}})
    scene.cache.forget(Key(SERVICE, NAMESPACE, "kws-en"))
    applies = {one.kind: one.manifest for one in scene.decide("kws-en").plan.applies}
    assert applies[SERVICE]["spec"] == service["spec"]
    made = applies[SERVICE]["metadata"]
    assert "team" not in made["labels"]
    assert "note" not in made["annotations"]
    assert applies.get(DEPLOYMENT, {}).get("spec", {"replicas": 1}) == {"replicas": 1}


@pytest.mark.parametrize("selector", THEIRS.values(), ids=THEIRS)
def test_pods_that_no_request_reaches_do_not_serve(selector: Manifest) -> None:
    scene, service = settled()
    edit(scene, service, selector, "rollouts-controller")
    status = scene.status("kws-en")
    told = conditions(status)
    assert told["Available"] == told["Ready"] == ("False", "NoEndpoints")
    assert "1 of 1 pods are ready; Service 'kws-en' " in message(status, "Available")
    assert status["phase"] == "Unhealthy"
    edit(scene, service, MINE)
    assert conditions(scene.status("kws-en"))["Available"] == ("True", "Serving")
