"""The operator's verdict on nodes is what the real scheduler does with the pod, on every kind of GPU node."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import pytest
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_kube_config

from roundhouse_api.model import Manifest
from roundhouse_operator.cluster import Cluster as Client
from roundhouse_operator.commands.describing import describe
from roundhouse_operator.commands.picture import take_picture
from roundhouse_operator.core.kinds import DEVICE_CLASS, VARIANT, Kind
from roundhouse_operator.core.preview import FITS
from roundhouse_operator.watch import Scope, Source, follow
from tests.cluster.local import Cluster
from tests.cluster.operator.gpu_nodes import DRIVER, PREFIX, put_up, take_down
from tests.cluster.operator.harness import Kubectl, Operator
from tests.unit.operator.samples import engine, variant

CLAIM = {"type": "DRA", "dra": {"deviceClassName": DRIVER}}
BY_PRODUCT = f'device.attributes["{DRIVER}"].productName == "NVIDIA-L4"'


def plugin(resource: str) -> Manifest:
    return {"type": "DevicePlugin", "devicePlugin": {"resourceName": resource}}


def mig(profile: str = "") -> Manifest:
    return {"type": "MIG", **({"mig": {"profile": profile}} if profile else {})}


GPUS: dict[str, Manifest] = {
    "any-gpu": {},
    "by-memory": {"minMemory": "15G"},
    "by-more-memory": {"minMemory": "16G"},
    "too-much": {"minMemory": "100G"},
    "a-share": {"minMemory": "5G"},
    "two-gpus": {"count": 2},
    "by-product": {"products": ["Tesla-T4"]},
    "shared": {"allocation": plugin("nvidia.com/gpu.shared")},
    "shared-memory": {"minMemory": "1G", "allocation": plugin("nvidia.com/gpu.shared")},
    "smallest-slice": {"minMemory": "6G", "allocation": mig()},
    "profile": {"allocation": mig("1g.5gb")},
    "single-profile": {"allocation": mig("1g.10gb")},
    "amd": {"minMemory": "60G", "allocation": plugin("amd.com/gpu")},
    "amd-larger": {"minMemory": "65Gi", "allocation": plugin("amd.com/gpu")},
    "intel": {"allocation": plugin("gpu.intel.com/xe")},
    "claimed": {"allocation": CLAIM},
    "claimed-by-memory": {"minMemory": "20G", "allocation": CLAIM},
    "claimed-twice": {"minMemory": "15G", "count": 2, "allocation": CLAIM},
    "claimed-by-product": {
        "minMemory": "16G",
        "allocation": {**CLAIM, "dra": {"deviceClassName": DRIVER, "selectors": [BY_PRODUCT]}},
    },
    "claimed-too-much": {"minMemory": "100G", "allocation": CLAIM},
}
GPU: Manifest = {"mode": "Required", "minMemory": "15G"}
TAINT = {"key": "gpu", "operator": "Equal", "value": "yes"}
NEEDS: dict[str, Manifest] = {
    **{name: {"gpu": {"mode": "Required", **gpu}} for name, gpu in GPUS.items()},
    "no-gpu": {"gpu": {"mode": "None"}},
    "tolerant": {"gpu": GPU, "tolerations": [TAINT]},
    "tolerant-of-another": {"gpu": GPU, "tolerations": [{**TAINT, "value": "no"}]},
    "tolerant-of-all": {"gpu": GPU, "tolerations": [{"operator": "Exists"}]},
    "much-cpu": {"gpu": GPU, "resources": {"requests": {"cpu": "1500m", "memory": "512Mi"}}},
    "much-memory": {"gpu": GPU, "resources": {"requests": {"cpu": "100m", "memory": "3Gi"}}},
    "selected": {"gpu": {"mode": "Required"}, "nodeSelector": {"nvidia.com/gpu.sharing-strategy": "mps"}},
}
"""What is asked, by the name of who asks it."""


@pytest.fixture(scope="module")
def gpu_nodes(control_plane: Cluster) -> Iterator[list[str]]:
    put_up(control_plane)
    yield [one["metadata"]["name"] for one in _listed(control_plane, "nodes")]
    take_down(control_plane)


def _listed(cluster: Cluster, kind: str) -> list[Manifest]:
    items: list[Manifest] = json.loads(cluster.kubectl("get", kind, "-o", "json"))["items"]
    return items


def pods_for_each_node(deployment: Manifest, nodes: list[str]) -> Iterator[Manifest]:
    """The variant's own pod, to be put on each node in turn and on no other."""
    name, spec = deployment["metadata"]["name"], deployment["spec"]["template"]["spec"]
    for node in nodes:
        here = {**spec.get("nodeSelector", {}), "kubernetes.io/hostname": node}
        metadata = {"name": f"{name}-on-{node}", "labels": {"need": name, "tried": "yes"}}
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {**spec, "nodeSelector": here},
        }


def scheduled(kubectl: Kubectl, deployments: list[Manifest], nodes: list[str]) -> dict[str, set[str]]:
    """Nodes that the scheduler puts the pods on while they are empty."""
    names = [one["metadata"]["name"] for one in deployments]
    kubectl.apply(*(pod for one in deployments for pod in pods_for_each_node(one, nodes)))

    def tried() -> list[Manifest]:
        pods = kubectl.list("pods", "tried=yes")
        verdicts = [_condition(pod, "PodScheduled") for pod in pods]
        assert len(pods) == len(nodes) * len(names)
        assert all(one and (one["status"] == "True" or one["reason"] == "Unschedulable") for one in verdicts)
        return pods

    pods: list[Manifest] = kubectl.wait_for(tried, f"the scheduler has looked at the pods of {names}", 90)
    found: dict[str, set[str]] = {name: set() for name in names}
    for pod in pods:
        if node := pod["spec"].get("nodeName"):
            found[pod["metadata"]["labels"]["need"]].add(node)
    # In one request: kubectl would send one for each, and wait for each.
    every_pod = f"/api/v1/namespaces/{kubectl.namespace}/pods?labelSelector=tried%3Dyes&gracePeriodSeconds=0"
    kubectl("delete", "--raw", every_pod)
    kubectl.wait_for(
        lambda: not kubectl.list("pods,resourceclaims"), "they are gone, and what they claimed is free", 60
    )
    return found


def rounds(told: dict[str, Manifest]) -> Iterator[list[str]]:
    """Needs that do not compete, because each asks for another resource, are tried together."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, placement in told.items():
        groups[str(placement.get("resourceName") or placement.get("allocation"))].append(name)
    for names in zip_longest(*groups.values()):
        yield [name for name in names if name]


def _condition(resource: Manifest, kind: str) -> Manifest | None:
    conditions = resource.get("status", {}).get("conditions", ())
    return next((one for one in conditions if one["type"] == kind), None)


def pair(name: str, gpu: Manifest, **spec: Any) -> tuple[Manifest, Manifest]:
    hardware = {"gpu": {"mode": "Required", **gpu}}
    return engine(name, hardware=hardware), variant(name, on=name, **{"replicas": 0, **spec})


async def verdicts(cluster: Cluster, namespace: str) -> dict[str, dict[str, str]]:
    """What `roundhouse status -o json` says of each node, for each variant."""
    configuration = Configuration()
    await load_kube_config(str(cluster.kubeconfig), client_configuration=configuration)  # type: ignore[no-untyped-call]
    client = Client(configuration, field_manager="test")
    try:
        picture = await take_picture(client, namespace)
        told = [await describe(picture, key) for key in picture.keys(VARIANT)]
    finally:
        await client.close()
    return {one["name"]: {each["name"]: each["verdict"] for each in one["nodes"]} for one in told if one}


def test_each_verdict_on_each_node_is_what_the_scheduler_does(
    gpu_nodes: list[str], control_plane: Cluster, operator: Operator, kubectl: Kubectl
) -> None:
    pairs = (
        (engine(name, hardware=hardware), variant(name, on=name, replicas=0))
        for name, hardware in NEEDS.items()
    )
    kubectl.apply(*(one for each in pairs for one in each))

    def settled() -> tuple[dict[str, Manifest], dict[str, Manifest]]:
        variants, deployments = (
            {one["metadata"]["name"]: one for one in kubectl.list(kind)} for kind in ("mv", "deployments")
        )
        assert deployments.keys() == NEEDS.keys()
        assert all(
            _condition(one, "Scheduled") and one["status"].get("placement") for one in variants.values()
        )
        return variants, deployments

    variants, deployments = kubectl.wait_for(settled, "all are placed", 120)
    told = {name: one["status"]["placement"] for name, one in variants.items()}
    of_nodes = asyncio.run(verdicts(control_plane, kubectl.namespace))
    nodes = [one["metadata"]["name"] for one in _listed(kubectl.cluster, "nodes")]
    wrong = {}
    done_by: dict[str, set[str]] = {}
    for names in rounds(told):
        done_by |= scheduled(kubectl, [deployments[name] for name in names], nodes)
    for name, placement in told.items():
        done = done_by[name]
        if wanted := {node for node in nodes if (of_nodes[name][node] == FITS) != (node in done)}:
            wrong[name] = {node: of_nodes[name][node] for node in wanted}
        counted = Counter(of_nodes[name].values())
        rejected = {one["reason"]: one["count"] for one in placement.get("nodesRejected", ())}
        assert counted == Counter(rejected | {FITS: placement.get("nodesFitting", 0)}), name
        status = _condition(variants[name], "Scheduled") or {}
        assert (status["status"] == "True") == bool(done), (name, status)
    assert not wrong


def applied_templates(operator: Operator) -> float:
    text = operator.get("/metrics")[1]
    found = re.findall(r"^roundhouse_operator_writes_total\{(.*)\} ([0-9.e+]+)$", text, re.MULTILINE)
    return sum(
        float(count)
        for labels, count in found
        if 'kind="ResourceClaimTemplate"' in labels and 'verb="apply"' in labels
    )


def test_a_selector_that_is_no_cel_is_refused_by_the_api_server_and_told(
    gpu_nodes: list[str], operator: Operator, kubectl: Kubectl
) -> None:
    odd = {**CLAIM, "dra": {"deviceClassName": DRIVER, "selectors": ["device.nothing("]}}
    kubectl.apply(*pair("odd", {"allocation": odd}, replicas=1))
    found = kubectl.wait("mv", "odd", "Accepted", "False", "InvalidSpec")
    assert "ResourceClaimTemplate" in found["message"]


def test_a_claim_is_made_from_a_template_that_goes_with_its_need(
    gpu_nodes: list[str], operator: Operator, kubectl: Kubectl
) -> None:
    kubectl.apply(*pair("claimer", {"minMemory": "20G", "allocation": CLAIM}, replicas=1))
    kubectl.wait("mv", "claimer", "Ready", "True", "Serving")
    status = kubectl.get("mv", "claimer")["status"]
    assert (status["placement"]["device"], status["placement"]["allocation"]) == ("GPU", "DRA")
    assert status["placement"]["nodesFitting"] == 1
    [pod] = kubectl.list("pods", "roundhouse.dev/variant=claimer")
    assert pod["spec"]["nodeName"] == f"{PREFIX}cpu"
    [first] = kubectl.list("resourceclaimtemplates")
    operator.settle()
    before = applied_templates(operator)
    kubectl("label", "mv", "claimer", "seen=again")
    operator.settle()
    assert applied_templates(operator) == before == 1
    kubectl.patch("eng", "claimer", {"spec": {"hardware": {"gpu": {"minMemory": "15G"}}}})

    def replaced() -> bool:
        templates = kubectl.list("resourceclaimtemplates")
        assert [one["metadata"]["name"] for one in templates] != [first["metadata"]["name"]]
        return len(templates) == 1

    kubectl.wait_for(replaced, "the old template is swept", 60)
    kubectl.wait("mv", "claimer", "UpToDate", "True", "RolledOut", seconds=60)
    kubectl("delete", "mv", "claimer")
    kubectl.wait_for(lambda: not kubectl.list("resourceclaimtemplates"), "the template goes with its variant")


def test_claims_beyond_the_devices_wait_and_say_so(
    gpu_nodes: list[str], operator: Operator, kubectl: Kubectl
) -> None:
    kubectl.apply(*pair("claimer", {"minMemory": "20G", "allocation": CLAIM}, replicas=2))
    kubectl.wait_for(
        lambda: kubectl.get("mv", "claimer").get("status", {}).get("readyReplicas") == 1,
        "one of two has its device",
    )
    kubectl.wait("mv", "claimer", "Degraded", "True", "InsufficientGPU")


def test_a_quota_is_told_in_its_own_words(operator: Operator, kubectl: Kubectl) -> None:
    kubectl.limit("gpus", **{"requests.nvidia.com/gpu": "0"})
    kubectl.apply(*pair("hungry", {}, replicas=1))
    found = kubectl.wait("mv", "hungry", "Scheduled", "False", "QuotaExceeded")
    assert "exceeded quota: gpus, requested: requests.nvidia.com/gpu=1" in found["message"]


def test_a_queues_gate_is_told_and_its_label_passed_on(operator: Operator, kubectl: Kubectl) -> None:
    """Kueue's webhook sets the gate; here the pod template does."""
    held = {"spec": {"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}}
    queued = variant()
    queued["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "speech"}
    kubectl.apply(engine(workload={"image": "example.org/kws:1", "podTemplate": held}), queued)
    found = kubectl.wait("mv", "kws-en", "Scheduled", "False", "Queued")
    assert "kueue.x-k8s.io/admission" in found["message"]
    [pod] = kubectl.list("pods", "kueue.x-k8s.io/queue-name=speech")
    kubectl(
        "patch", "pod", pod["metadata"]["name"], "--type=merge", "-p", '{"spec":{"schedulingGates":null}}'
    )
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")


def test_an_optional_gpu_goes_where_the_hardware_is(
    gpu_nodes: list[str], operator: Operator, kubectl: Kubectl
) -> None:
    kubectl.apply(*pair("fits", {"mode": "Optional", "minMemory": "15G"}, replicas=1))
    kubectl.apply(*pair("misses", {"mode": "Optional", "minMemory": "100G"}, replicas=1))
    kubectl.wait("mv", "fits", "Ready", "True")
    kubectl.wait("mv", "misses", "Ready", "True")
    devices = [kubectl.get("mv", name)["status"]["placement"]["device"] for name in ("fits", "misses")]
    assert devices == ["GPU", "CPU"]


def test_an_engine_whose_hardware_is_there_is_chosen_and_impossible_ones_block_nobody(
    gpu_nodes: list[str], operator: Operator, kubectl: Kubectl
) -> None:
    selector = {"stage": "Transcribe", "matchLabels": {"for": "choice"}}
    for name, gpu in (("a-huge", {"minMemory": "100G"}), ("b-small", {"minMemory": "4G"})):
        one = engine(name, hardware={"gpu": {"mode": "Required", **gpu}})
        one["metadata"]["labels"] = {"for": "choice"}
        kubectl.apply(one)
    kubectl.apply(variant("chosen", on="", engineRef=None, engineSelector=selector))
    kubectl.apply(variant("impossible", on="a-huge"))
    none = {"stage": "Transcribe", "matchLabels": {"for": "nobody"}}
    kubectl.apply(variant("unmatched", on="", engineRef=None, engineSelector=none))
    kubectl.wait("mv", "chosen", "Ready", "True", "Serving")
    chosen, rejected = kubectl.get("mv", "chosen")["status"]["selection"]["candidates"]
    assert (chosen["engine"], chosen["verdict"]) == ("b-small", "Chosen")
    assert (rejected["engine"], rejected["verdict"]) == ("a-huge", "Rejected")
    assert rejected["reason"] == "InsufficientVRAM"
    found = kubectl.wait("mv", "impossible", "Scheduled", "False", "InsufficientVRAM")
    assert "(100G)" in found["message"]
    kubectl.wait("mv", "unmatched", "EngineSelected", "False", "NoMatchingEngine")
    kubectl.wait("eng", "a-huge", "HardwareAvailable", "False", "InsufficientVRAM")
    kubectl.wait("eng", "b-small", "HardwareAvailable", "True", "HardwareFound")
    assert kubectl.get("eng", "b-small")["status"]["placement"]["largestGPUMemory"] == "81559Mi"


async def test_a_kind_that_is_not_served_is_no_trouble(control_plane: Cluster) -> None:
    configuration = Configuration()
    await load_kube_config(str(control_plane.kubeconfig), client_configuration=configuration)  # type: ignore[no-untyped-call]
    client = Client(configuration, field_manager="test")
    told: list[bool] = []

    def ignore(*_: object) -> None: ...

    async def followed(kind: Kind) -> Source:
        source = Source(client, Scope(kind, None), ignore, ignore, ignore, told.append)
        following = asyncio.create_task(follow(source))
        await asyncio.wait_for(source.listed.wait(), 300)
        following.cancel()
        return source

    unserved = await followed(Kind("Ghost", "resource.k8s.io", "v1", "ghosts"))
    assert (told, unserved.failing) == ([False], None)
    await followed(DEVICE_CLASS)
    assert told == [False, True]
    await client.close()
