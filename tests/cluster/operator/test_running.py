"""Running it: other managers and installs, several namespaces, waiting, logs, Secrets, the unforeseen."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from roundhouse_operator.core.structure import ATOMIC_MAPS
from tests.cluster.local import Cluster
from tests.cluster.local.errors import ClusterError
from tests.cluster.operator.conftest import StartOperator
from tests.cluster.operator.harness import Kubectl, Operator, wait_for_quiet, writes
from tests.unit.operator.samples import engine, upstream, variant
from tests.unit.operator.test_gitops import health, kstatus

BOOM = """
import sys
if "operator" in sys.argv:
    from roundhouse_operator.core import effective
    merge = effective.merge
    def failing(name, *more):
        if name == "boom":
            raise ZeroDivisionError("nobody foresaw this")
        return merge(name, *more)
    effective.merge = failing
"""


def image(kubectl: Kubectl, name: str = "kws-en") -> str:
    found: str = kubectl.get("deploy", name)["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


def runs(kubectl: Kubectl, tag: int) -> bool:
    return image(kubectl) == f"example.org/kws:{tag}"


def edit_engine(kubectl: Kubectl, tag: int) -> None:
    kubectl.patch("eng", "kws", {"spec": {"workload": {"image": f"example.org/kws:{tag}"}}})


@pytest.mark.parametrize("manager", ["helm", "kubectl", "argocd-controller"])
def test_a_manager_that_applies_keeps_its_field_and_the_rest_is_applied(
    operator: Operator, kubectl: Kubectl, manager: str
) -> None:
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")
    head = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "kws-en"}}
    held = json.dumps({**head, "spec": {"progressDeadlineSeconds": 77}})
    signed = ("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "-f", "-")
    kubectl(*signed, input=held)
    found = kubectl.wait("mv", "kws-en", "OwnershipConflict", "True", "FieldOwnedByOther")
    assert f"'{manager}' holds .spec.progressDeadlineSeconds" in found["message"]
    assert kubectl.condition("mv", "kws-en", "Ready")["status"] == "True"
    edit_engine(kubectl, 2)
    kubectl.wait_for(lambda: image(kubectl) == "example.org/kws:2", "the rest is applied")
    assert kubectl.get("deploy", "kws-en")["spec"]["progressDeadlineSeconds"] == 77
    kubectl("annotate", "deploy/kws-en", "roundhouse.dev/adopt=true")
    kubectl.wait_for(
        lambda: not kubectl.condition("mv", "kws-en", "OwnershipConflict"), "it is taken over on request"
    )
    assert kubectl.get("deploy", "kws-en")["spec"]["progressDeadlineSeconds"] != 77


def test_what_a_person_applies_from_a_file_is_taken_back(operator: Operator, kubectl: Kubectl) -> None:
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")
    live = kubectl.get("deploy", "kws-en")
    live["metadata"] = {"name": "kws-en", "labels": live["metadata"]["labels"]}
    live["spec"]["template"]["spec"]["containers"][0]["image"] = "example.org/mine:1"
    kubectl(
        "apply",
        "-f",
        "-",
        input=json.dumps({key: live[key] for key in ("apiVersion", "kind", "metadata", "spec")}),
    )
    kubectl.wait_for(lambda: image(kubectl) == "example.org/kws:1", "the image is back")
    operator.settle()
    assert not kubectl.condition("mv", "kws-en", "OwnershipConflict")


def test_an_entry_that_a_person_adds_to_a_selector_is_taken_back(
    operator: Operator, kubectl: Kubectl
) -> None:
    """Such a map has one owner: who adds to it takes all of it."""
    linux = {"kubernetes.io/os": "linux"}
    kubectl.apply(engine(hardware={"gpu": {"mode": "None"}, "nodeSelector": linux}), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")
    mine = kubectl.get("svc", "kws-en")["spec"]["selector"]
    kubectl.patch("svc", "kws-en", {"spec": {"selector": {"version": "blue"}}})
    kubectl.wait_for(lambda: kubectl.get("svc", "kws-en")["spec"]["selector"] == mine, "the entry is gone")

    def nodes() -> dict[str, str]:
        found: dict[str, str] = kubectl.get("deploy", "kws-en")["spec"]["template"]["spec"]["nodeSelector"]
        return found

    assert nodes() == linux
    kubectl.patch("deploy", "kws-en", {"spec": {"template": {"spec": {"nodeSelector": {"foo": "bar"}}}}})
    kubectl.wait_for(lambda: nodes() == linux, "the node selector is as it was")
    both = {**linux, "kubernetes.io/arch": "amd64"}
    kubectl.patch("eng", "kws", {"spec": {"hardware": {"nodeSelector": both}}})
    kubectl.wait_for(lambda: nodes() == both, "the engine's new key is there")
    kubectl.patch("eng", "kws", {"spec": {"hardware": {"nodeSelector": {"kubernetes.io/arch": None}}}})
    kubectl.wait_for(lambda: nodes() == linux, "the key that the engine no longer has is gone")
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")
    operator.settle()
    assert not kubectl.condition("mv", "kws-en", "OwnershipConflict")


def test_pods_that_their_service_does_not_lead_to_do_not_serve(operator: Operator, kubectl: Kubectl) -> None:
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")
    selector = {**kubectl.get("svc", "kws-en")["spec"]["selector"], "version": "blue"}
    kubectl.patch("svc", "kws-en", {"spec": {"selector": selector}}, "--field-manager=rollouts")
    found = kubectl.wait("mv", "kws-en", "Ready", "False", "NoEndpoints")
    assert "version=blue" in found["message"]
    conflict = kubectl.condition("mv", "kws-en", "OwnershipConflict")
    assert "'rollouts' holds .spec.selector" in conflict["message"]
    kubectl("annotate", "svc", "kws-en", "roundhouse.dev/adopt=true")
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")


def test_maps_that_have_one_owner_are_those_of_the_api(control_plane: Cluster) -> None:
    schemas: dict[str, Any] = {}
    for path in ("api/v1", "apis/apps/v1", "apis/policy/v1"):
        document = json.loads(control_plane.kubectl("get", "--raw", f"/openapi/v3/{path}"))
        schemas |= document["components"]["schemas"]
    written = ("apps.v1.Deployment", "core.v1.Service", "core.v1.ConfigMap", "policy.v1.PodDisruptionBudget")
    todo = [f"io.k8s.api.{one}" for one in written]
    whole, parted, seen = set[str](), set[str](), set(todo)
    while todo:
        for name, field in schemas[todo.pop()].get("properties", {}).items():
            items = field.get("items", {})
            told = items if field.get("x-kubernetes-list-type") == "map" else field
            kind = next((one["$ref"] for one in told.get("allOf", [told]) if "$ref" in one), "")
            kind = kind.rpartition("/")[2]
            one = {**schemas.get(kind, {}), **field}
            if one.get("type") == "object" or (kind and not items and schemas[kind].get("type") == "object"):
                (whole if one.get("x-kubernetes-map-type") == "atomic" else parted).add(name)
            if kind and kind not in seen:
                seen.add(kind)
                todo.append(kind)
    assert {"selector", "nodeSelector"} <= whole <= ATOMIC_MAPS
    assert not parted & ATOMIC_MAPS


def test_two_installs_over_one_namespace_come_to_rest(
    control_plane: Cluster, start_operator: StartOperator, kubectl: Kubectl
) -> None:
    first = start_operator()
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")
    second = start_operator({"ROUNDHOUSE_OPERATOR_RELEASE": "another"})
    for tag in (2, 3):
        edit_engine(kubectl, tag)
        kubectl.wait_for(partial(runs, kubectl, tag), "the new image")
    kubectl("rollout", "status", "deploy/kws-en", "--timeout=300s")
    kubectl.wait("mv", "kws-en", "UpToDate", "True", "RolledOut")
    for one in (first, second):
        one.settle()
    wait_for_quiet(control_plane)
    before = writes(control_plane)
    for one in (first, second):
        one.settle()
    assert writes(control_plane) == before, "they do not fight"
    assert not kubectl.condition("mv", "kws-en", "OwnershipConflict")


@pytest.fixture
def other(control_plane: Cluster) -> Iterator[Kubectl]:
    name = f"other-{secrets.token_hex(4)}"
    control_plane.kubectl("create", "namespace", name)
    control_plane.wait_for_service_account(name)
    yield Kubectl(control_plane, name)
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


def test_several_namespaces_are_served_and_no_others(
    control_plane: Cluster, start_operator: StartOperator, kubectl: Kubectl, other: Kubectl
) -> None:
    served = f"{kubectl.namespace},{other.namespace}"
    operator = start_operator({"ROUNDHOUSE_OPERATOR_NAMESPACES": served})
    left_out = Kubectl(control_plane, "default")
    left_out.apply(variant("left-out"))
    try:
        for one in (kubectl, other):
            one.apply(engine(), variant(servedName="the-same"))
            one.wait("mv", "kws-en", "Ready", "True")
            assert one.get("mv", "kws-en")["status"]["publishedNames"] == ["the-same"], (
                "ids are per namespace"
            )
        operator.settle()
        assert "status" not in left_out.get("mv", "left-out")
    finally:
        left_out("delete", "mv/left-out")


def test_waiting_and_gitops_see_an_edit_before_the_operator_does(
    start_operator: StartOperator, kubectl: Kubectl
) -> None:
    operator = start_operator()
    kubectl.apply(engine(), variant())
    kubectl("wait", "mv/kws-en", "--for=condition=Ready", "--timeout=300s")
    assert (health(kubectl.get("mv", "kws-en")), kstatus(kubectl.get("mv", "kws-en"))) == (
        "Healthy",
        "Current",
    )
    kubectl.wait("eng", "kws", "Ready", "True")
    assert (health(kubectl.get("eng", "kws")), kstatus(kubectl.get("eng", "kws"))) == ("Healthy", "Current")
    operator.crash()
    kubectl.patch("mv", "kws-en", {"spec": {"args": ["--new"]}})
    edited = kubectl.get("mv", "kws-en")
    assert (health(edited), kstatus(edited)) == ("Progressing", "InProgress")
    with pytest.raises(ClusterError, match="timed out waiting"):
        kubectl("wait", "mv/kws-en", "--for=condition=Ready", "--timeout=2s")
    start_operator()
    kubectl("wait", "mv/kws-en", "--for=condition=Ready", "--for=condition=UpToDate", "--timeout=300s")
    assert health(kubectl.get("mv", "kws-en")) == "Healthy"


def lines_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_every_line_of_the_log_can_be_read_by_a_machine(
    start_operator: StartOperator, kubectl: Kubectl
) -> None:
    operator = start_operator({"ROUNDHOUSE_OPERATOR_LOG_FORMAT": "json"})
    kubectl.apply(engine(), variant(), variant("lost", on="nobody"))
    kubectl.wait("mv", "kws-en", "Ready", "True")
    kubectl.wait("mv", "lost", "Ready", "False")
    assert operator.stop() == 0
    lines = lines_of(operator.log)
    for line in lines:
        assert {"time", "level", "logger", "reason", "message"} <= line.keys()
    about = [
        (line["resource"]["name"], line["reason"])
        for line in lines
        if line.get("resource", {}).get("kind") == "ModelVariant"
    ]
    assert {("kws-en", "Applied"), ("kws-en", "Serving"), ("lost", "EngineNotFound")} <= set(about)


def test_an_error_that_nobody_foresaw_is_told_and_concerns_nobody_else(
    start_operator: StartOperator, kubectl: Kubectl, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(BOOM)
    operator = start_operator({"PYTHONPATH": str(tmp_path)}, anew=True)
    kubectl.apply(engine(), variant("boom"), variant())
    found = kubectl.wait_for(lambda: incident(kubectl), "the incident is told")
    assert "ZeroDivisionError" in found["message"]
    kubectl.wait("mv", "kws-en", "Ready", "True")
    number = found["message"].split()[-1]
    assert f"incident {number}" in operator.log.read_text()
    before = kubectl.get("mv", "boom")["metadata"]["resourceVersion"]
    kubectl.wait_for(lambda: operator.log.read_text().count(f"incident {number}") > 2, "it is tried again")
    assert kubectl.get("mv", "boom")["metadata"]["resourceVersion"] == before, "the same is not told twice"
    assert operator.stop() == 0
    start_operator()
    kubectl.wait("mv", "boom", "Ready", "True")
    assert not kubectl.condition("mv", "boom", "Degraded")


def incident(kubectl: Kubectl) -> dict[str, Any] | None:
    conditions = kubectl.get("mv", "boom").get("status", {}).get("conditions", ())
    return next(
        (one for one in conditions if one["reason"] == "InternalError" and one["type"] == "Degraded"), None
    )


def test_the_secret_of_an_upstream_is_missed_and_found(operator: Operator, kubectl: Kubectl) -> None:
    address = {"baseURL": "https://api.example.org/v1", "apiKeySecretRef": {"name": "hosted", "key": "token"}}
    kubectl.apply(upstream(upstream=address))
    kubectl.wait("eng", "elsewhere", "Accepted", "False", "SecretNotFound")
    kubectl("create", "secret", "generic", "hosted", "--from-literal=token=abc")
    kubectl.wait("eng", "elsewhere", "Accepted", "False", "SecretNotLabelled", seconds=60)
    kubectl("label", "secret", "hosted", "roundhouse.dev/credential=upstream")
    kubectl.wait("eng", "elsewhere", "Accepted", "True", "Valid", seconds=60)
