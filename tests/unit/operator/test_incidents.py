"""What nobody foresaw is said: in the status of the resource, in the log, and the same way each time."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import DEPLOYMENT, VARIANT, Key
from roundhouse_operator.core.status.conditions import status_patch
from roundhouse_operator.core.status.ending import ending_status
from roundhouse_operator.core.status.incident import Incident, incident_status
from roundhouse_operator.incidents import incident_of
from roundhouse_operator.logs import JsonFormatter, concerning
from roundhouse_operator.recorder import transitions
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import LATER, NAMESPACE, NOW, Scene, conditions, message, node

SERVING: dict[str, Any] = {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1}
INCIDENT = Incident("1a2b3c4d", "ZeroDivisionError")


def an_incident() -> Iterator[Manifest]:
    yield incident_status(Scene(engine(), variant()).world("kws-en").variant, INCIDENT, now=NOW)


def a_deletion() -> Iterator[Manifest]:
    yield ending_status(Scene(engine(), variant()).world("kws-en"), now=NOW)


def test_a_status_keeps_what_it_says_and_tells_of_the_incident_until_a_pass_succeeds() -> None:
    scene = Scene(node("n1"), engine(), variant())
    before = scene.settle("kws-en", **SERVING)
    after = incident_status(scene.world("kws-en").variant, INCIDENT, now=LATER)
    assert conditions(after) == {**conditions(before), "Degraded": ("True", "InternalError")}
    assert "incident 1a2b3c4d" in message(after, "Degraded")
    scene.write("kws-en", after)
    again = incident_status(scene.world("kws-en").variant, INCIDENT, now="2026-01-03T00:00:00Z")
    assert status_patch(after, again) == {}
    assert conditions(scene.status("kws-en")) == conditions(before)


def deleted(scene: Scene, *finalizers: str) -> Manifest:
    """Of what serves; its status as it was written before."""
    before = scene.settle("kws-en", **SERVING)
    scene.put({**held(*finalizers), "status": before})
    return before


def held(*finalizers: str) -> Manifest:
    one = variant()
    one["metadata"] |= {"deletionTimestamp": NOW, "finalizers": list(finalizers), "generation": 2}
    return one


def test_who_holds_a_variant_that_was_deleted_is_told_and_it_is_not_ready() -> None:
    scene = Scene(node("n1"), engine(), variant())
    before = deleted(scene, "example.org/backup")
    after = ending_status(scene.world("kws-en"), now=LATER)
    assert conditions(after) == {**conditions(before), "Ready": ("False", "BeingDeleted")}
    assert "'example.org/backup'" in message(after, "Ready")
    assert after["observedGeneration"] == 2
    [told] = transitions(before, after)
    assert (told.reason, told.normal) == ("BeingDeleted", False)
    scene.put({**held("example.org/backup"), "status": after})
    again = ending_status(scene.world("kws-en"), now="2026-01-03T00:00:00Z")
    assert status_patch(after, again) == {}


@pytest.mark.parametrize("gone", [True, False], ids=["deployment deleted", "pods crash"])
def test_what_was_deleted_and_is_held_is_available_as_long_as_its_pods_answer(gone: bool) -> None:
    scene = Scene(node("n1"), engine(), variant())
    deleted(scene, "example.org/backup")
    [live] = [one.live for one in scene.world("kws-en").children if one.kind == DEPLOYMENT]
    if gone:
        scene.cache.forget(Key(DEPLOYMENT, NAMESPACE, "kws-en"))
    else:
        metadata = {key: value for key, value in live["metadata"].items() if key != "resourceVersion"}
        scene.put({**live, "metadata": metadata, "status": {"replicas": 1, "updatedReplicas": 1}})
    after = ending_status(scene.world("kws-en"), now=LATER)
    assert conditions(after)["Ready"] == conditions(after)["Available"] == ("False", "BeingDeleted")
    assert (after["phase"], after["replicas"], after["readyReplicas"]) == ("Ending", 0 if gone else 1, 0)
    assert ("its pods go with it" in message(after, "Ready")) is not gone


def test_what_kubernetes_itself_is_about_to_delete_is_held_by_nobody() -> None:
    scene = Scene(node("n1"), engine(), variant())
    deleted(scene, "foregroundDeletion")
    after = ending_status(scene.world("kws-en"), now=LATER)
    assert message(after, "Ready") == "It was deleted; Kubernetes deletes what belongs to it first"
    assert (conditions(after)["Available"], after["phase"]) == (("True", "Serving"), "Running")
    deleted(scene, "example.org/backup", "orphan")
    after = ending_status(scene.world("kws-en"), now=LATER)
    assert "is kept by 'example.org/backup'; nothing" in message(after, "Ready")
    assert message(after, "Ready").endswith("; Kubernetes lets go of what belongs to it first")


def test_a_resource_that_was_never_looked_at_is_not_left_without_a_word() -> None:
    scene = Scene(node("n1"), engine(), variant())
    status = incident_status(scene.world("kws-en").variant, INCIDENT, now=NOW)
    assert conditions(status) == {
        "Ready": ("Unknown", "InternalError"),
        "Degraded": ("True", "InternalError"),
    }


def test_an_incident_has_the_number_of_its_place_and_not_of_its_moment() -> None:
    def failing(divisor: int) -> Incident:
        try:
            divisor // 0
        except ZeroDivisionError as error:
            return incident_of(error)
        raise AssertionError

    assert failing(1) == failing(2)
    assert failing(1).error == "ZeroDivisionError"
    with pytest.raises(KeyError) as other:
        dict[str, int]()["x"]
    assert incident_of(other.value).number != failing(1).number


def line(**extra: object) -> Manifest:
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "said", **extra})
    parsed: Manifest = json.loads(JsonFormatter().format(record))
    return parsed


def test_a_line_of_the_log_carries_resource_and_reason() -> None:
    concerning(Key(VARIANT, NAMESPACE, "kws-en"))
    try:
        assert line(reason="Applied")["resource"] == {
            "kind": "ModelVariant",
            "namespace": NAMESPACE,
            "name": "kws-en",
        }
        assert line(reason="Applied")["reason"] == "Applied"
    finally:
        concerning(None)
    assert "resource" not in line()


leaves = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from(["", "engine", "a", "tmp"]))
members = st.sampled_from(
    ["name", "containers", "initContainers", "volumes", "volumeMounts", "ports", "tolerations", "mountPath"]
)
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(members, inner, max_size=3)),
    max_leaves=12,
)


def sidecar(ports: list[object]) -> Manifest:
    containers = [{"name": "engine", "tty": True}, {"name": "a", "image": "x", "ports": ports}]
    return described({"containers": containers, "volumes": [{"name": "a", "emptyDir": {}}]})


def described(spec: object) -> Manifest:
    return engine(workload={"image": "x", "podTemplate": {"spec": spec}})


@settings(max_examples=200, deadline=None)
@given(anything)
def test_no_pod_template_ends_a_pass(template: object) -> None:
    scene = Scene(node("n1"), sidecar([{"containerPort": 80, "protocol": "TCP"}]), variant())
    scene.settle("kws-en", **SERVING)
    scene.put(described(template))
    scene.status("kws-en")


def test_an_odd_pod_template_is_refused_by_its_name() -> None:
    scene = Scene(node("n1"), sidecar([{"containerPort": 80, "protocol": "TCP"}]), variant())
    scene.settle("kws-en", **SERVING)
    scene.put(sidecar([80]))
    status = scene.status("kws-en")
    assert conditions(status)["Accepted"] == ("False", "InvalidPodTemplate")
    assert conditions(status)["Available"] == ("True", "Serving")
