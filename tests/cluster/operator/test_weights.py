"""Caches of weights against a real API server and Job controller; loaders are played and end well."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_kube_config

from roundhouse_api.model import Manifest
from roundhouse_operator.cluster import Cluster as Client
from roundhouse_operator.core.weights.asked import Answer, Ask, AskedKind
from roundhouse_operator.core.weights.key import store_name
from roundhouse_operator.lookups import Lookups
from tests.cluster.local import Cluster, ClusterError
from tests.cluster.operator.conftest import StartOperator
from tests.cluster.operator.harness import Kubectl, Operator, own_events, wait_for_quiet, writes
from tests.unit.operator.samples import engine, variant

HUB = {"type": "HuggingFace", "huggingFace": {"repo": "acme/kws-en"}}
OF_WEIGHTS = "roundhouse.dev/weights"
UNWANTED = "roundhouse.dev/unwanted-since"


@pytest.fixture
def cache(control_plane: Cluster) -> Iterator[dict[str, Any]]:
    """An engine's cache, with volumes for two claims."""
    name = f"weights-{secrets.token_hex(3)}"
    volumes = [f"{name}-{number}" for number in range(2)]
    for volume in volumes:
        spec = {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": name,
            "hostPath": {"path": f"/nowhere/{volume}"},
        }
        head = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}}
        control_plane.apply({**head, "spec": spec})
    yield {"type": "PVC", "pvc": {"storageClassName": name, "size": "1Gi"}}
    control_plane.kubectl("delete", "pv", "--wait=false", *volumes)


@pytest.mark.req("S2-14")
def test_a_settled_cache_is_left_alone_by_a_restart_and_by_variants_that_join(
    control_plane: Cluster, start_operator: StartOperator, kubectl: Kubectl, cache: dict[str, Any]
) -> None:
    operator = start_operator()
    kubectl.apply(engine(cache=cache), variant(source=HUB))
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving", seconds=90)
    assert kubectl.get("mv", "kws-en")["status"]["weights"]["key"]
    kubectl.apply(variant("other", source=HUB, servedName="acme/other"))
    kubectl.wait("mv", "other", "Ready", "True", "Serving", seconds=60)
    assert len(kubectl.list("jobs", OF_WEIGHTS)) == len(kubectl.list("pvc", OF_WEIGHTS)) == 1
    operator.settle()
    wait_for_quiet(control_plane)
    before = writes(control_plane)
    operator.stop()
    start_operator().settle()
    assert writes(control_plane) == before
    [record] = kubectl.list("cm", OF_WEIGHTS)
    kubectl.patch("cm", record["metadata"]["name"], {"data": {"complete": "", "totalBytes": "7"}})
    kubectl.wait_for(
        lambda: kubectl.list("cm", OF_WEIGHTS)[0]["data"] == record["data"],
        "what it said before, by force",
        60,
    )
    kubectl.wait("mv", "other", "Ready", "True", "Serving", seconds=60)


def test_weights_that_lost_their_last_variant_while_nobody_looked_are_swept(
    start_operator: StartOperator, kubectl: Kubectl, cache: dict[str, Any]
) -> None:
    operator = start_operator()
    kubectl.apply(engine(cache=cache), variant(source=HUB, replicas=0), variant("stays", source=HUB))
    kubectl.wait("mv", "stays", "Ready", "True", "Serving", seconds=90)
    operator.stop()
    kubectl("delete", "mv", "kws-en", "--wait")
    operator = start_operator()
    operator.settle()
    assert kubectl.list("pvc", OF_WEIGHTS), "one variant wants them still"
    operator.stop()
    kubectl("delete", "mv", "stays", "--wait")
    start_operator()
    kubectl.wait_for(lambda: not kubectl.list("pvc,cm,jobs", OF_WEIGHTS), "all of it is gone", 60)


def test_the_time_for_which_unwanted_weights_are_kept_does_not_begin_anew_with_the_operator(
    start_operator: StartOperator, kubectl: Kubectl, cache: dict[str, Any]
) -> None:
    patient = {"ROUNDHOUSE_OPERATOR_SWEEP_AFTER_SECONDS": "7200"}
    operator = start_operator(environment=patient)
    kubectl.apply(engine(cache=cache), variant(source=HUB))
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving", seconds=90)
    kubectl("delete", "mv", "kws-en", "--wait")
    [name] = kubectl.wait_for(
        lambda: [one["metadata"]["name"] for one in kubectl.list("cm", OF_WEIGHTS) if since(one)],
        "it is written down since when nobody wants them",
        60,
    )
    operator.stop()
    kubectl("annotate", "cm", name, f"{UNWANTED}=2026-01-01T00:00:00Z", "--overwrite")
    start_operator(environment=patient)
    kubectl.wait_for(lambda: not kubectl.list("pvc,cm,jobs", OF_WEIGHTS), "all of it is gone", 60)


def since(manifest: Manifest) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(UNWANTED, ""))


def test_nothing_is_removed_from_a_claim_because_a_config_map_says_so(
    operator: Operator, kubectl: Kubectl
) -> None:
    key = "by-hand-0123456789abcdef"
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    kubectl.apply(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"}, "spec": claim}
    )
    labels = {OF_WEIGHTS: key, "roundhouse.dev/managed": "true"}
    forged = {"name": store_name(key, "claim models"), "labels": labels}
    data = {"claim": "models", "complete": "true", "key": key, "ours": "true"}
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": forged, "data": data})
    kubectl.wait_for(lambda: not kubectl.list("cm", OF_WEIGHTS), "it is of no use to anybody", 60)
    assert not kubectl.list("jobs", OF_WEIGHTS)
    assert "-sweep-" not in operator.log.read_text()
    found = asyncio.run(looked_up(kubectl.cluster, kubectl.namespace, Ask(AskedKind.CLAIM, "models")))
    assert found.many_nodes, "the claim itself says how it can be mounted"


@pytest.fixture
def no_annotations(control_plane: Cluster, namespace: str) -> Iterator[None]:
    """A policy of the cluster: nobody says of claims of the namespace what was fetched onto them."""
    policy, head = "ValidatingAdmissionPolicy", {"apiVersion": "admissionregistration.k8s.io/v1"}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["persistentvolumeclaims"]}
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    bare = "!object.metadata.?annotations.orValue({}).exists(name, name.startsWith('fetched.'))"
    said = {"expression": bare, "message": "claims are not annotated"}
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [{**rule, "operations": ["UPDATE"]}]},
        "validations": [said],
    }
    named = {"metadata": {"name": f"bare-{namespace}"}}
    bound = {"policyName": f"bare-{namespace}", "validationActions": ["Deny"]}
    resources = {"matchResources": {"namespaceSelector": here}}
    control_plane.apply({**head, "kind": policy, **named, "spec": spec})
    control_plane.apply({**head, "kind": f"{policy}Binding", **named, "spec": {**bound, **resources}})
    yield
    for kind in (policy, f"{policy}Binding"):
        control_plane.kubectl("delete", f"{kind}/bare-{namespace}")


def test_a_claim_that_may_not_be_annotated_is_told_by_the_variant_and_by_its_own_events(
    operator: Operator, kubectl: Kubectl, cache: dict[str, Any], no_annotations: None
) -> None:
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": cache["pvc"]["storageClassName"],
    }
    kubectl.apply(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"}, "spec": claim}
    )

    def refused() -> bool:
        try:
            kubectl("annotate", "pvc", "models", "fetched.roundhouse.dev/x=y", "--dry-run=server")
        except ClusterError as error:
            return "claims are not annotated" in str(error)
        return False

    kubectl.wait_for(refused, "the policy holds", 60)
    kubectl.apply(engine(cache={"type": "PVC", "pvc": {"claimName": "models"}}), variant(source=HUB))
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving", seconds=90)
    found = kubectl.wait("mv", "kws-en", "Degraded", "True", "CacheNotSwept", seconds=60)
    assert "claims are not annotated" in found["message"]
    kubectl("delete", "mv", "kws-en", "--wait")

    def told() -> list[str]:
        uid = kubectl.get("pvc", "models")["metadata"]["uid"]
        return [one["note"] for one in own_events(kubectl) if one["regarding"].get("uid") == uid]

    [note] = kubectl.wait_for(told, "an event of the claim", 60)
    assert "which nobody wants, are not removed" in note
    assert kubectl.list("cm", OF_WEIGHTS), "without its record nobody would know what is left"
    assert operator.metric("roundhouse_operator_caches_not_swept") == 1


async def looked_up(cluster: Cluster, namespace: str, ask: Ask) -> Answer:
    """As a pass over a resource asks."""
    configuration = Configuration()
    await load_kube_config(str(cluster.kubeconfig), client_configuration=configuration)  # type: ignore[no-untyped-call]
    client = Client(configuration, field_manager="test")
    try:
        return (await Lookups(client).answers(namespace, [ask]))[ask]
    finally:
        await client.close()


def test_a_job_that_finds_no_node_goes_where_the_engine_goes(
    operator: Operator, kubectl: Kubectl, cache: dict[str, Any]
) -> None:
    nowhere = {"gpu": {"mode": "None"}, "nodeSelector": {"pool": "nowhere"}}
    kubectl.apply(engine(cache=cache, hardware=nowhere), variant(source=HUB))
    kubectl.wait("mv", "kws-en", "WeightsReady", "False", "NoMatchingNode", seconds=60)
    kubectl.apply(engine(cache=cache))
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving", seconds=90)


def test_a_claim_that_is_refused_is_told(operator: Operator, kubectl: Kubectl, cache: dict[str, Any]) -> None:
    kubectl.limit("none", persistentvolumeclaims="0")
    kubectl.apply(engine(cache=cache), variant(source=HUB))
    found = kubectl.wait("mv", "kws-en", "Ready", "False", "CacheRefused", seconds=60)
    assert "exceeded quota" in found["message"]
    kubectl("delete", "quota", "none")
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving", seconds=120)
