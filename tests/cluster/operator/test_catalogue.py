"""The whole catalogue on a real API server: stored as it stands, and accepted by the operator."""

from __future__ import annotations

import json
from collections import Counter

from roundhouse_api.model import Manifest
from tests.charts.helm import render
from tests.cluster.operator.harness import Kubectl, Operator
from tests.support.waiting import wait_until

RUNS = "whisper-tiny"
VALUES: Manifest = {
    "catalogue": {"run": [RUNS], "show": True, "gpuImages": True, "cache": {"type": "Ephemeral"}}
}


def listed(kubectl: Kubectl, kinds: str) -> list[Manifest]:
    found: list[Manifest] = json.loads(kubectl("get", kinds, "-o", "json"))["items"]
    return found


def told(resource: Manifest, condition: str) -> tuple[str, str] | None:
    """Status and reason of a condition, where it is there and about this generation."""
    status = resource.get("status", {})
    if status.get("observedGeneration") != resource["metadata"]["generation"]:
        return None
    found = {each["type"]: (each["status"], each["reason"]) for each in status.get("conditions", ())}
    return found.get(condition)


def test_the_api_server_stores_it_and_the_operator_accepts_it(
    operator: Operator, kubectl: Kubectl, namespace: str
) -> None:
    manifests = [
        each for each in render(VALUES, namespace=namespace) if each["kind"] in ("Engine", "ModelVariant")
    ]
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    answer = kubectl("create", "--validate=strict", "--warnings-as-errors", "-f", "-", input=document)
    assert len(answer.splitlines()) == len(manifests)

    def accepted() -> bool:
        found = listed(kubectl, "engines.roundhouse.dev,modelvariants.roundhouse.dev")
        return len(found) == len(manifests) and all(
            told(each, "Accepted") == ("True", "Valid") for each in found
        )

    wait_until(accepted, seconds=120, what="every resource of the catalogue is accepted", every=0.5)
    variants = {each["metadata"]["name"]: each for each in listed(kubectl, "modelvariants.roundhouse.dev")}
    reasons = Counter(told(each, "Ready") for name, each in variants.items() if name != RUNS)
    assert reasons == {("False", "Suspended"): len(variants) - 1}
    music = {f"musicgen-{size}" for size in ("small", "medium", "large")}
    degraded = {name: told(each, "Degraded") for name, each in variants.items() if told(each, "Degraded")}
    assert degraded == dict.fromkeys(music, ("True", "NotYetSupported"))
    published = Counter(name for each in variants.values() for name in each["status"]["publishedNames"])
    assert published["BAAI/bge-m3"] == published["fast"] == published["Systran/faster-whisper-base"] == 1
    assert max(published.values()) == 1

    wait_until(
        lambda: (
            [each["metadata"]["name"] for each in listed(kubectl, "deployments") if each["spec"]["replicas"]]
            == [RUNS]
        ),
        seconds=60,
        what="the model that runs has a Deployment, and no other",
    )
    assert listed(kubectl, "jobs,persistentvolumeclaims") == []
