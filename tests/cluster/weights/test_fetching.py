"""Weights come from a hub through the real loader into real volumes, and a model that was fetched hears."""

from __future__ import annotations

import json
import secrets
import shutil
from typing import Any

import pytest

from tests.cluster.local import Cluster
from tests.cluster.operator.harness import Kubectl, Operator
from tests.cluster.weights.conftest import NODE, REPO, StartOperator, Volumes, reference
from tests.cluster.weights.hearing import heard
from tests.support.hub import Hub
from tests.support.origin import Fault
from tests.support.recordings import GO_FORWARD_WORDS
from tests.support.waiting import wait_until
from tests.unit.operator.samples import engine, variant

SOURCE = {"type": "HuggingFace", "format": "Sphinx", "huggingFace": {"repo": REPO, "include": ["*"]}}


def sphinx(name: str = "sphinx", **spec: Any) -> dict[str, Any]:
    workload = {"image": reference("pocketsphinx"), "imagePullPolicy": "Never"}
    return engine(name, workload=workload, **spec)


def claim(volumes: Volumes, **pvc: Any) -> dict[str, Any]:
    return {"type": "PVC", "pvc": {"storageClassName": volumes.storage_class, "size": "200Mi", **pvc}}


@pytest.mark.req("S2-14")
def test_two_variants_of_the_same_weights_fetch_them_once_and_hear(
    operator: Operator, kubectl: Kubectl, hub: Hub, volumes: Volumes, model: dict[str, bytes]
) -> None:
    folder = volumes.make()
    kubectl.apply(
        sphinx(cache=claim(volumes)),
        variant("one", on="sphinx", source=SOURCE),
        variant("two", on="sphinx", source=SOURCE, replicas=0),
    )
    kubectl.wait("mv", "one", "Ready", "True", "Serving", seconds=180)
    kubectl.wait("mv", "two", "WeightsReady", "True", "Downloaded", seconds=60)
    assert heard(kubectl, "roundhouse.dev/variant=one") == GO_FORWARD_WORDS
    size = sum(map(len, model.values()))
    assert hub.downloaded_bytes < size * 1.1, "fetched once"
    weights = kubectl.get("mv", "one")["status"]["weights"]
    commit = hub.repositories[REPO].revisions["main"]
    assert weights == {**weights, "revision": commit, "totalBytes": size, "doneBytes": size}
    assert weights == kubectl.get("mv", "two")["status"]["weights"]
    jobs = kubectl.list("jobs", f"roundhouse.dev/weights={weights['key']}")
    assert len(jobs) == 1
    assert (folder / weights["key"] / "complete.json").exists()
    kubectl.patch("mv", "two", {"spec": {"replicas": 1}})
    kubectl.wait("mv", "two", "Ready", "True", "Serving", seconds=60)
    kubectl("delete", "mv", "one", "two", "--wait")
    kubectl.wait_for(
        lambda: not kubectl.list("jobs,pvc,cm", "roundhouse.dev/weights"), "nothing of the cache is left"
    )


def test_progress_is_told_and_a_loader_that_is_killed_goes_on_where_it_was(
    operator: Operator, kubectl: Kubectl, hub: Hub, volumes: Volumes, model: dict[str, bytes]
) -> None:
    volumes.make()
    slow = Fault("*", times=-1, bytes_per_second=2_000_000)
    hub.faults.append(slow)
    hub.cdn.faults.append(slow)
    kubectl.apply(sphinx(cache=claim(volumes)), variant("one", on="sphinx", source=SOURCE))

    def under_way() -> dict[str, Any]:
        status = kubectl.get("mv", "one")["status"]
        shown: dict[str, Any] = status.get("weights", {})
        assert shown.get("doneBytes", 0) > 5_000_000, shown
        said = next(one["reason"] for one in status["conditions"] if one["type"] == "WeightsReady")
        assert (said, status["phase"]) == ("Downloading", "Downloading")
        return shown

    shown = kubectl.wait_for(under_way, "progress in status", 120)
    assert shown["totalBytes"] == sum(map(len, model.values()))
    kubectl("delete", "pod", "-l", "app.kubernetes.io/component=weights", "--grace-period=0", "--force")
    slow.bytes_per_second = None
    kubectl.wait("mv", "one", "Ready", "True", "Serving", seconds=180)
    assert heard(kubectl, "roundhouse.dev/variant=one") == GO_FORWARD_WORDS
    assert hub.downloaded_bytes < 1.5 * shown["totalBytes"], "what was there is not fetched again"


def test_weights_in_the_pod_are_those_of_the_first_pod_although_the_branch_moved(
    operator: Operator, kubectl: Kubectl, hub: Hub, model: dict[str, bytes]
) -> None:
    kubectl.apply(sphinx(), variant("one", on="sphinx", source=SOURCE))
    kubectl.wait("mv", "one", "Ready", "True", "Serving", seconds=180)
    assert heard(kubectl, "roundhouse.dev/variant=one") == GO_FORWARD_WORDS
    first = kubectl.get("mv", "one")["status"]["weights"]["revision"]
    moved = hub.commit(REPO, {**model, "README": b"moved"})
    assert moved != first
    [pod] = kubectl.list("pods", "roundhouse.dev/variant=one")
    asked_before = len(hub.requests("*/resolve/*"))
    kubectl("delete", "pod", pod["metadata"]["name"], "--wait")

    def another_is_ready() -> bool:
        pods = kubectl.list("pods", "roundhouse.dev/variant=one")
        return any(
            said["type"] == "Ready" and said["status"] == "True"
            for one in pods
            for said in one["status"].get("conditions", ())
            if one["metadata"]["name"] != pod["metadata"]["name"]
        )

    kubectl.wait_for(another_is_ready, "another pod is ready", 120)
    assert len(hub.requests("*/resolve/*")) > asked_before, "it has fetched for itself"
    asked = {seen.path.split("/")[4] for seen in hub.requests("*/resolve/*")}
    assert asked == {first}


def test_a_directory_of_the_node_is_filled_once(
    cluster: Cluster, operator: Operator, kubectl: Kubectl, hub: Hub, model: dict[str, bytes]
) -> None:
    folder = NODE / f"weights-node-{secrets.token_hex(3)}"
    try:
        cache = {"type": "Node", "node": {"path": str(folder)}}
        kubectl.apply(sphinx(cache=cache), variant("one", on="sphinx", source=SOURCE, replicas=2))
        kubectl.wait("mv", "one", "Ready", "True", "Serving", seconds=180)
        kubectl.wait_for(
            lambda: kubectl.get("mv", "one")["status"].get("readyReplicas") == 2, "both pods", 120
        )
        assert hub.downloaded_bytes < 1.1 * sum(map(len, model.values()))
        kubectl("delete", "mv", "one", "--wait")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_directory_of_a_claim_of_mine_goes_with_the_last_variant(
    operator: Operator, kubectl: Kubectl, hub: Hub, volumes: Volumes
) -> None:
    folder = volumes.make()
    kubectl.apply(own_claim(volumes))
    cache = {"type": "PVC", "pvc": {"claimName": "models"}}
    kubectl.apply(sphinx(cache=cache), variant("one", on="sphinx", source=SOURCE))
    kubectl.wait("mv", "one", "Ready", "True", "Serving", seconds=180)
    key = kubectl.get("mv", "one")["status"]["weights"]["key"]
    (folder / "of-somebody-else").mkdir()
    assert (folder / key / "complete.json").exists()
    kubectl("delete", "mv", "one", "--wait")
    kubectl.wait_for(lambda: not (folder / key).exists(), "the directory is removed", 120)
    assert (folder / "of-somebody-else").exists()
    kubectl.wait_for(lambda: not kubectl.list("cm", "roundhouse.dev/weights"), "the record is removed", 60)
    claim = kubectl.get("pvc", "models")
    assert f"fetched.roundhouse.dev/{key}" not in (claim["metadata"].get("annotations") or {})


@pytest.mark.req("S2-15")
def test_without_downloads_what_is_there_serves_and_what_is_not_is_told(
    operator: Operator, kubectl: Kubectl, hub: Hub, volumes: Volumes
) -> None:
    volumes.make()
    kubectl.apply(own_claim(volumes))
    cache = {"type": "PVC", "pvc": {"claimName": "models"}}
    kubectl.apply(sphinx(cache=cache), variant("never", on="sphinx", source=SOURCE, downloadPolicy="Never"))
    kubectl.wait("mv", "never", "WeightsReady", "False", "WeightsMissing", seconds=120)
    assert kubectl.get("mv", "never")["status"]["phase"] == "Failed"
    assert hub.downloaded_bytes == 0
    kubectl.apply(variant("auto", on="sphinx", source=SOURCE, replicas=0))
    kubectl.wait("mv", "never", "Ready", "True", "Serving", seconds=180)
    assert heard(kubectl, "roundhouse.dev/variant=never") == GO_FORWARD_WORDS


def own_claim(volumes: Volumes) -> dict[str, Any]:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": volumes.storage_class,
        "resources": {"requests": {"storage": "200Mi"}},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"}, "spec": spec}


def when_looked_at(kubectl: Kubectl, status: str, reason: str) -> dict[str, Any]:
    """The condition Ready, once it says so. The variant is touched, or half a minute would pass each time."""

    def said() -> dict[str, Any]:
        kubectl("label", "--overwrite", "mv", "one", f"touched={secrets.token_hex(4)}")
        found = kubectl.condition("mv", "one", "Ready")
        assert (found["status"], found["reason"]) == (status, reason), found
        return found

    return wait_until(said, seconds=180, what=f"Ready={status} {reason}", every=2)


def test_a_secret_is_needed_labelled_and_right(
    operator: Operator, kubectl: Kubectl, hub: Hub, volumes: Volumes
) -> None:
    hub.repositories[REPO].gated_for = "hf_right"
    volumes.make()
    token = {"repo": REPO, "include": ["*"], "tokenSecretRef": {"name": "hf", "key": "token"}}
    kubectl.apply(
        sphinx(cache=claim(volumes)),
        variant("one", on="sphinx", source={**SOURCE, "huggingFace": token}),
    )
    kubectl.wait("mv", "one", "Ready", "False", "SecretNotFound", seconds=30)
    kubectl("create", "secret", "generic", "hf", "--from-literal=token=hf_wrong")
    kubectl.wait("mv", "one", "Ready", "False", "SecretNotLabelled", seconds=60)
    kubectl("label", "secret", "hf", "roundhouse.dev/credential=weights")
    found = when_looked_at(kubectl, "False", "Unauthorized")
    assert "Secret 'hf', key 'token'" in found["message"]
    assert "hf_wrong" not in json.dumps(kubectl.get("mv", "one"))
    kubectl.patch("secret", "hf", {"stringData": {"token": "hf_right"}})
    when_looked_at(kubectl, "True", "Serving")
    assert "hf_right" not in operator.log.read_text()


def test_a_source_that_is_mended_is_fetched(
    operator: Operator, kubectl: Kubectl, hub: Hub, volumes: Volumes
) -> None:
    volumes.make()
    volumes.make()
    wrong = {**SOURCE, "huggingFace": {"repo": REPO, "revision": "v99"}}
    kubectl.apply(sphinx(cache=claim(volumes)), variant("one", on="sphinx", source=wrong))
    kubectl.wait("mv", "one", "Ready", "False", "SourceNotFound", seconds=120)
    kubectl.apply(variant("one", on="sphinx", source=SOURCE))
    kubectl.wait("mv", "one", "Ready", "True", "Serving", seconds=180)


def test_a_hub_that_lies_about_the_bytes(
    operator: Operator, kubectl: Kubectl, hub: Hub, volumes: Volumes
) -> None:
    volumes.make()
    hub.cdn.faults.append(Fault("*", times=-1, corrupt=True))
    hub.faults.append(Fault("*/resolve/*", times=-1, corrupt=True))
    kubectl.apply(sphinx(cache=claim(volumes)), variant("one", on="sphinx", source=SOURCE))
    kubectl.wait("mv", "one", "Ready", "False", "DigestMismatch", seconds=120)


def test_a_hub_that_is_away_and_comes_back(
    operator: Operator, kubectl: Kubectl, hub: Hub, volumes: Volumes
) -> None:
    volumes.make()
    away = Fault("*", times=-1, status=503)
    hub.faults.append(away)
    kubectl.apply(sphinx(cache=claim(volumes)), variant("one", on="sphinx", source=SOURCE))
    kubectl.wait("mv", "one", "Ready", "False", "SourceUnreachable", seconds=120)
    away.times = 0
    kubectl.wait("mv", "one", "Ready", "True", "Serving", seconds=180)


def test_a_storage_class_that_does_not_exist_and_then_does(
    operator: Operator, kubectl: Kubectl, cluster: Cluster, volumes: Volumes
) -> None:
    cache = {"type": "PVC", "pvc": {"storageClassName": "nowhere", "size": "200Mi"}}
    kubectl.apply(sphinx(cache=cache), variant("one", on="sphinx", source=SOURCE))
    found = kubectl.wait("mv", "one", "Ready", "False", "StorageClassNotFound", seconds=60)
    assert "'nowhere'" in found["message"]
    volumes.make()
    kubectl.apply(sphinx(cache=claim(volumes)))
    kubectl.wait("mv", "one", "Ready", "True", "Serving", seconds=180)


def test_a_source_that_lies_about_its_size_fills_the_volume_until_that_grows(
    operator: Operator, kubectl: Kubectl, hub: Hub, volumes: Volumes
) -> None:
    volumes.make_small("8m")
    hub.repositories[REPO].sizes = {"en-us.lm.bin": 1000}
    lying = {**SOURCE, "size": "1Mi"}
    kubectl.apply(sphinx(cache=claim(volumes)), variant("one", on="sphinx", source=lying))
    kubectl.wait("mv", "one", "Ready", "False", seconds=120)
    kubectl.wait_for(
        lambda: kubectl.condition("mv", "one", "Ready")["reason"] in ("OutOfSpace", "DigestMismatch"),
        "the lie is told",
        120,
    )
    hub.repositories[REPO].sizes = {}
    kubectl.wait("mv", "one", "Ready", "False", "OutOfSpace", seconds=300)
    volumes.enlarge("100m")
    kubectl.wait("mv", "one", "Ready", "True", "Serving", seconds=360)


def test_another_loader_starts_no_pod_anew(start_operator: StartOperator, kubectl: Kubectl, hub: Hub) -> None:
    operator = start_operator()
    kubectl.apply(sphinx(), variant("one", on="sphinx", source=SOURCE))
    kubectl.wait("mv", "one", "Ready", "True", "Serving", seconds=180)
    operator.stop()
    before = kubectl.get("deployment", "one")["metadata"]["generation"]
    start_operator(HTTPS_PROXY="http://proxy.example.org:3128").settle()
    assert kubectl.get("deployment", "one")["metadata"]["generation"] == before
