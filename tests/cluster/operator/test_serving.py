"""A variant becomes a pod, stays as it is, and goes without a trace."""

from __future__ import annotations

import secrets
import time

import pytest

from tests.cluster.local import Cluster
from tests.cluster.operator.conftest import StartOperator
from tests.cluster.operator.harness import (
    Kubectl,
    Operator,
    own_events,
    steady_seconds,
    wait_for_quiet,
    writes,
)
from tests.unit.operator.samples import engine, upstream, variant

MANY = 50


def test_a_variant_becomes_ready_and_says_how_it_is_reached(operator: Operator, kubectl: Kubectl) -> None:
    kubectl.apply(engine(), variant(servedName="acme/KWS"))
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")
    kubectl.wait_for(
        lambda: (
            kubectl.condition("eng", "kws", "Ready").get("status") == "True"
            and kubectl.get("eng", "kws")["status"]["readyVariants"] == 1
        ),
        "the engine counts its variant",
    )
    status = kubectl.get("mv", "kws-en")["status"]
    assert status["publishedNames"] == ["acme/KWS"]
    assert status["backends"] == [{"name": "kws-en", "type": "Service", "port": 8000, "modelName": "kws-en"}]
    assert status["phase"] == "Running"
    slices = kubectl.list("endpointslices", "roundhouse.dev/managed=true")
    ports = {port["name"]: port["port"] for port in slices[0]["ports"]}
    assert ports == {"http": 8000, "metrics": 8000}
    kubectl.wait_for(
        lambda: (
            [one for one in own_events(kubectl) if one["regarding"]["kind"] == "ModelVariant"][-1]["reason"]
            == "Serving"
        ),
        "the event is written",
    )


@pytest.mark.req("S2-27")
def test_an_upstream_has_no_pods(operator: Operator, kubectl: Kubectl) -> None:
    kubectl.apply(upstream(), variant("gpt", on="elsewhere", engineModelName="whisper-1"))
    kubectl.wait("mv", "gpt", "Ready", "True", "Upstream")
    assert kubectl.get("mv", "gpt")["status"]["backends"] == [
        {"name": "elsewhere", "type": "Upstream", "port": 443, "modelName": "whisper-1"}
    ]
    assert kubectl.list("deployments") == []


def all_events(kubectl: Kubectl) -> int:
    """How many there are once no more come: they are written behind the passes that they tell of."""

    def at_rest() -> int:
        before = len(own_events(kubectl))
        time.sleep(1)
        return before if before == len(own_events(kubectl)) else 0

    return int(kubectl.wait_for(at_rest, "no more events are written", 60))


def test_a_second_pass_and_a_restart_write_nothing(
    control_plane: Cluster, start_operator: StartOperator, kubectl: Kubectl
) -> None:
    operator = start_operator()
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"roundhouse.dev/engine": "kws"}},
    }
    template = {"spec": {"topologySpreadConstraints": [spread]}}
    kubectl.apply(
        engine(workload={"image": "example.org/kws:1", "podTemplate": template}),
        *(variant(), upstream(), variant("gpt", on="elsewhere"), variant("lost", on="nobody")),
    )
    kubectl.wait("mv", "kws-en", "Ready", "True")
    [pod] = kubectl.list("pods", "roundhouse.dev/variant=kws-en")
    assert pod["spec"]["topologySpreadConstraints"] == [spread]
    operator.settle()
    wait_for_quiet(control_plane)
    before, events = writes(control_plane), all_events(kubectl)
    # A label moves the object and asks for another pass, without anything to do.
    kubectl("label", "mv", "kws-en", "seen=again")
    operator.settle()
    labelled = writes(control_plane) - before
    assert labelled.total() == 1, labelled
    assert operator.stop() == 0
    restarted = start_operator()
    restarted.settle()
    assert writes(control_plane) - before == labelled
    assert all_events(kubectl) == events
    assert (restarted.metric("roundhouse_operator_reconcile_seconds_count") or 0) >= 5


@pytest.mark.req("S0-25", "S1-21")
def test_fifty_variants_settle_and_then_nothing_is_written_but_the_lease(
    control_plane: Cluster, operator: Operator, kubectl: Kubectl
) -> None:
    kubectl.apply(engine(), *(variant(f"kws-{number:02}") for number in range(MANY)))
    for number in range(MANY):
        kubectl.wait("mv", f"kws-{number:02}", "Ready", "True", seconds=90)
    operator.settle()
    wait_for_quiet(control_plane)
    before, leases = writes(control_plane), writes(control_plane, with_leases=True)
    events, passes = all_events(kubectl), operator.metric("roundhouse_operator_writes_total")
    time.sleep(steady_seconds())  # watching is the test
    assert writes(control_plane) == before
    assert all_events(kubectl) == events
    renewed = operator.metric("roundhouse_operator_writes_total")
    assert passes is not None
    assert renewed is not None
    assert 0 < renewed - passes <= steady_seconds() / 2.5, "only the Lease, every three seconds"
    assert writes(control_plane, with_leases=True) != leases
    assert kubectl.get("eng", "kws")["status"]["readyVariants"] == MANY


def test_a_change_rolls_out_and_scale_and_suspend_are_told(operator: Operator, kubectl: Kubectl) -> None:
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")
    kubectl("scale", "mv/kws-en", "--replicas=0")
    kubectl.wait("mv", "kws-en", "Ready", "False", "ScaledToZero")
    kubectl.wait("mv", "kws-en", "Scheduled", "True", "Feasible")
    kubectl("scale", "mv/kws-en", "--replicas=2")
    kubectl.wait("mv", "kws-en", "Ready", "True")
    kubectl.wait_for(lambda: kubectl.get("mv", "kws-en")["status"]["readyReplicas"] == 2, "two replicas")
    kubectl.patch("eng", "kws", {"spec": {"workload": {"image": "example.org/kws:2"}}})
    kubectl.wait_for(
        lambda: (
            kubectl.get("deploy", "kws-en")["spec"]["template"]["spec"]["containers"][0]["image"]
            == "example.org/kws:2"
        ),
        "the new image",
    )
    kubectl.wait("mv", "kws-en", "UpToDate", "True", "RolledOut")
    kubectl.patch("mv", "kws-en", {"spec": {"suspend": True}})
    kubectl.wait("mv", "kws-en", "Ready", "False", "Suspended")
    assert kubectl.get("deploy", "kws-en")["spec"]["replicas"] == 0
    assert kubectl.get("mv", "kws-en")["spec"]["replicas"] == 2
    kubectl.patch("mv", "kws-en", {"spec": {"suspend": False}})
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")


def test_deletion_needs_no_operator(start_operator: StartOperator, kubectl: Kubectl) -> None:
    operator = start_operator()
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")
    operator.kill()
    kubectl("delete", "mv/kws-en", "eng/kws", "--timeout=100s")
    kubectl.wait_for(
        lambda: not [*kubectl.list("deployments"), *kubectl.list("services"), *kubectl.list("pods")],
        "everything is gone",
    )


def test_children_do_not_come_back_under_a_variant_that_is_going(
    operator: Operator, kubectl: Kubectl
) -> None:
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")
    kubectl.patch("mv", "kws-en", {"metadata": {"finalizers": ["example.org/slow"]}})
    kubectl("delete", "mv/kws-en", "--wait=false")
    kubectl("delete", "deploy/kws-en")
    operator.settle()
    assert not kubectl.get("deploy", "kws-en")
    kubectl.patch("mv", "kws-en", {"metadata": {"finalizers": None}})
    kubectl.wait_for(lambda: not kubectl.list("services"), "everything is gone")


def test_all_namespaces_are_served_on_request(start_operator: StartOperator, control_plane: Cluster) -> None:
    start_operator(environment={"ROUNDHOUSE_OPERATOR_NAMESPACES": "*"})
    other = f"other-{secrets.token_hex(4)}"
    control_plane.kubectl("create", "namespace", other)
    try:
        elsewhere = Kubectl(control_plane, other)
        elsewhere.apply(engine(), variant())
        elsewhere.wait("mv", "kws-en", "Ready", "True")
    finally:
        control_plane.kubectl("delete", "namespace", other, "--wait=false")


def test_kinds_that_nothing_serves_yet_say_so(operator: Operator, kubectl: Kubectl) -> None:
    api = {"apiVersion": "roundhouse.dev/v1alpha1"}
    adapter = {"baseModel": "x", "source": {"type": "HuggingFace", "huggingFace": {"repo": "a/b"}}}
    kubectl.apply(
        {**api, "kind": "Adapter", "metadata": {"name": "lora"}, "spec": adapter},
        {**api, "kind": "SelectionPolicy", "metadata": {"name": "cheap"}, "spec": {"strategy": "FreeFirst"}},
    )
    for kind, name in (("adp", "lora"), ("selpol", "cheap")):
        kubectl.wait(kind, name, "Degraded", "True", "NotYetSupported")
        assert kubectl.condition(kind, name, "Ready")["status"] == "False"
