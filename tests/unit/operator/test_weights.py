"""How weights come to a variant, and what is told of it on the way; the manifests are in `golden`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import CONFIG_MAP, DEPLOYMENT, JOB, VARIANT, VOLUME_CLAIM, Key
from roundhouse_operator.core.outcome import Outcome, Refusal
from roundhouse_operator.core.weights.state import ERROR_LENGTH, Progress, read_progress
from roundhouse_operator.progress import TELL_SECONDS, is_news
from tests.unit.operator.caches import (
    COMPLETE,
    HUB,
    PVC,
    SHARED_CLAIM,
    Caches,
    failure,
    private,
)
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import NAMESPACE, conditions, message, node

GPU = {"gpu": {"mode": "Required", "minMemory": "15G"}, "nodeSelector": {"pool": "gpu"}}


def cached(source: Manifest = HUB, cache: Manifest = PVC, **spec: Any) -> Caches:
    return Caches(node("n1"), engine(cache=cache), variant(source=source, **spec))


def mark(job: Manifest) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(job["metadata"]["annotations"]["roundhouse.dev/loader"])
    return said


@pytest.mark.req("S2-14")
def test_weights_are_fetched_once_before_there_are_pods() -> None:
    scene = cached()
    status = scene.steps()
    assert conditions(status)["WeightsReady"] == ("False", "Downloading")
    assert status["phase"] == "Downloading"
    assert [one["kind"] for one in (*scene.all(VOLUME_CLAIM), *scene.all(JOB))] == [
        "PersistentVolumeClaim",
        "Job",
    ]
    assert scene.all(DEPLOYMENT) == []
    scene.bind()
    scene.ends(COMPLETE)
    status = scene.steps(replicas=1, readyReplicas=1, updatedReplicas=1)
    assert conditions(status)["WeightsReady"] == ("True", "Downloaded")
    assert conditions(status)["Ready"] == ("True", "Serving")
    key = status["weights"]["key"]
    assert status["weights"] == {"key": key, "revision": "c0ffee", "totalBytes": 1000, "doneBytes": 1000}
    mount = scene.all(DEPLOYMENT)[0]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]
    assert mount == {"name": "weights", "mountPath": "/weights", "readOnly": True, "subPath": f"{key}/files"}


@pytest.mark.req("S2-14")
def test_variants_of_the_same_weights_share_one_copy() -> None:
    scene = cached()
    scene.put(variant("other", source=HUB, servedName="acme/other"))
    scene.steps()
    scene.bind()
    other = scene.steps("other")
    assert len(scene.all(JOB)) == len(scene.all(VOLUME_CLAIM)) == 1
    assert conditions(other)["WeightsReady"] == ("False", "Downloading")
    scene.ends(COMPLETE)
    scene.steps()
    assert conditions(scene.steps("other"))["WeightsReady"] == ("True", "Downloaded")
    assert {one["metadata"]["name"] for one in scene.all(DEPLOYMENT)} == {"kws-en", "other"}


def test_weights_are_fetched_at_zero_replicas_and_not_while_suspended() -> None:
    scene = cached(replicas=0)
    scene.steps()
    assert len(scene.all(JOB)) == 1
    suspended = cached(suspend=True)
    status = suspended.steps()
    assert suspended.all(JOB) == suspended.all(VOLUME_CLAIM) == []
    assert conditions(status)["WeightsReady"] == ("Unknown", "Suspended")
    assert conditions(status)["Ready"] == ("False", "Suspended")
    assert "Degraded" not in conditions(status)


@dataclass(frozen=True)
class Failing:
    """What a loader says, and what becomes of it."""

    said: str
    reason: str
    retryable: bool = False


@pytest.mark.parametrize(
    "case",
    [
        Failing("Unauthorized", "Unauthorized"),
        Failing("SourceNotFound", "SourceNotFound"),
        Failing("SourceUnreachable", "SourceUnreachable", retryable=True),
        Failing("OutOfSpace", "OutOfSpace"),
        Failing("DigestMismatch", "DigestMismatch"),
        Failing("WeightsMissing", "WeightsMissing"),
        Failing("UnsafeFormat", "UnsafeFormat"),
        Failing("InvalidSource", "InvalidSpec"),
        Failing("SomethingNew", "LoaderFailed"),
    ],
    ids=lambda case: case.said,
)
def test_each_failure_of_a_loader_has_its_reason(case: Failing) -> None:
    scene = cached()
    scene.steps()
    scene.ends(failure(case.said, "what happened", retryable=case.retryable))
    status = scene.steps()
    assert conditions(status)["WeightsReady"] == ("False", case.reason)
    assert conditions(status)["Ready"] == ("False", case.reason)
    assert "what happened" in message(status, "WeightsReady")
    assert status["phase"] == "Failed"


def test_no_secret_in_the_words_of_a_loader_is_told() -> None:
    scene = cached()
    scene.steps()
    scene.ends(failure("SourceUnreachable", "no https://me:hunter2pass@example.org; token=hf_abcdefgh"))
    told = message(scene.steps(), "WeightsReady")
    assert "no https://***@example.org; token=***" in told


def test_a_failed_job_is_followed_by_another_after_a_delay_that_grows() -> None:
    scene = cached()
    scene.steps()
    waits = []
    for attempt in range(1, 8):
        job = scene.job()
        assert mark(job)["attempt"] == attempt
        scene.ends(failure("SourceUnreachable", retryable=True))
        scene.steps()
        supply = scene.decide("kws-en").supply
        assert supply and supply.plan.empty and supply.revisit_seconds  # noqa: PT018
        waits.append(supply.revisit_seconds)
        scene.now += supply.revisit_seconds
        scene.steps()
    assert waits == [10, 20, 40, 80, 160, 300, 300]
    assert len(scene.all(JOB)) == 1, "the older one goes"


def test_a_secret_that_is_mended_is_tried_at_once() -> None:
    scene = cached(private())
    scene.there("Secret", "hf", roundhouse_dev__credential="weights")
    scene.steps()
    scene.ends(failure("Unauthorized"))
    status = scene.steps()
    assert "Secret 'hf', key 'token'" in message(status, "WeightsReady")
    assert mark(scene.job())["attempt"] == 1
    scene.there("Secret", "hf", "2", roundhouse_dev__credential="weights")
    scene.steps()
    assert mark(scene.job())["attempt"] == 2


@pytest.mark.parametrize(
    "cache", [PVC, {"type": "Ephemeral"}, {"type": "Node", "node": {"path": "/var/weights"}}]
)
def test_a_secret_is_there_and_labelled_before_anything_is_fetched(cache: Manifest) -> None:
    scene = cached(private(), cache)
    scene.missing("Secret", "hf")
    status = scene.steps()
    assert conditions(status)["WeightsReady"] == ("False", "SecretNotFound")
    scene.there("Secret", "hf")
    status = scene.steps()
    assert conditions(status)["WeightsReady"] == ("False", "SecretNotLabelled")
    supply = scene.decide("kws-en").supply
    assert supply and supply.revisit_seconds, "nobody reports that it comes"  # noqa: PT018
    assert scene.all(JOB) == scene.all(DEPLOYMENT) == []
    scene.there("Secret", "hf", roundhouse_dev__credential="weights")
    scene.steps()
    assert scene.all(JOB) or scene.all(DEPLOYMENT)


def test_a_storage_class_that_does_not_exist() -> None:
    scene = cached(cache={"type": "PVC", "pvc": {"storageClassName": "fast"}})
    scene.steps()
    scene.bind("Pending")
    unbound = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    waiting = {**unbound, "message": "pod has unbound immediate PersistentVolumeClaims"}
    job = scene.job()
    scene.pod_of_job(node="", conditions=[waiting])
    assert conditions(scene.status("kws-en"))["WeightsReady"] == ("False", "VolumePending")
    scene.missing("StorageClass", "fast")
    status = scene.steps()
    assert conditions(status)["WeightsReady"] == ("False", "StorageClassNotFound")
    assert "'fast'" in message(status, "WeightsReady")
    assert scene.job()["metadata"]["name"] == job["metadata"]["name"], "it waits, and is found well later"


def test_a_refusal_of_the_claim_is_told() -> None:
    scene = cached()
    refusal = Refusal("PersistentVolumeClaim 'weights-x'", 403, "exceeded quota")
    status = scene.status("kws-en", Outcome(cache_refusal=refusal))
    assert conditions(status)["WeightsReady"] == ("False", "CacheRefused")
    assert "exceeded quota" in message(status, "WeightsReady")


@pytest.mark.req("S2-15")
def test_without_downloads_missing_weights_fail_with_a_reason() -> None:
    scene = cached(downloadPolicy="Never")
    scene.steps()
    assert mark(scene.job())["purpose"] == "Check"
    env = {
        one["name"]: one.get("value")
        for one in scene.job()["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert env["ROUNDHOUSE_DOWNLOAD_POLICY"] == "Never"
    scene.ends(failure("WeightsMissing", "nothing in /cache"))
    status = scene.steps()
    assert conditions(status)["WeightsReady"] == ("False", "WeightsMissing")
    assert status["phase"] == "Failed"
    ephemeral = cached(cache={"type": "Ephemeral"}, downloadPolicy="Never").steps()
    assert conditions(ephemeral)["WeightsReady"] == ("False", "WeightsMissing")
    claim = Caches(engine(), variant(source={"type": "PVC", "pvc": {"claimName": "there"}}))
    claim.missing("PersistentVolumeClaim", "there")
    assert conditions(claim.steps())["WeightsReady"] == ("False", "WeightsMissing")


@pytest.mark.req("S2-29")
def test_a_download_can_be_skipped() -> None:
    scene = cached(downloadPolicy="Skip")
    status = scene.steps()
    assert conditions(status)["WeightsReady"] == ("True", "DownloadSkipped")
    assert scene.all(JOB) == []
    assert len(scene.all(DEPLOYMENT)) == 1
    assert "weights" not in status


def test_an_edit_of_the_source_leaves_the_pods_alone_until_the_new_weights_are_there() -> None:
    scene = cached()
    scene.steps()
    scene.bind()
    scene.ends(COMPLETE)
    scene.steps(replicas=1, readyReplicas=1, updatedReplicas=1)
    before = scene.all(DEPLOYMENT)[0]["spec"]["template"]
    newer = {"type": "HuggingFace", "huggingFace": {"repo": "acme/kws-en", "revision": "v2"}}
    edited = variant(source=newer, replicas=2)
    edited["metadata"]["generation"] = 2
    scene.put({**edited, "status": scene.world("kws-en").variant.status})
    status = scene.steps(replicas=1, readyReplicas=1, updatedReplicas=1)
    assert conditions(status)["Ready"] == ("True", "Serving")
    assert conditions(status)["UpToDate"] == ("False", "Downloading")
    deployment = scene.all(DEPLOYMENT)[0]
    assert deployment["spec"]["template"] == before
    assert deployment["spec"]["replicas"] == 2, "it is scaled all the same"
    assert scene.sweep().deletes == (), "the pods read the older ones"
    scene.ends(failure("SourceNotFound"))
    status = scene.steps(replicas=2, readyReplicas=2, updatedReplicas=2)
    assert conditions(status)["Ready"] == ("True", "Serving")
    assert conditions(status)["Degraded"] == ("True", "SourceNotFound")


def test_weights_that_nobody_wants_are_swept() -> None:
    scene = cached()
    scene.put(variant("other", source=HUB, servedName="acme/other"))
    scene.steps()
    scene.steps("other")
    scene.ends(COMPLETE)
    scene.steps()
    assert scene.sweep().deletes == ()
    for name in ("kws-en", "other"):
        scene.cache.forget(Key(VARIANT, NAMESPACE, name))
    swept = {one.kind.name for one in scene.sweep().deletes}
    assert swept == {"Job", "PersistentVolumeClaim", "ConfigMap"}


def test_a_directory_of_a_shared_claim_is_removed_by_a_job() -> None:
    scene = cached(cache=SHARED_CLAIM)
    scene.steps()
    assert scene.all(VOLUME_CLAIM) == []
    scene.ends(COMPLETE)
    scene.steps()
    assert scene.record()["complete"] == "true"
    scene.cache.forget(Key(VARIANT, NAMESPACE, "kws-en"))
    scene.sweep()
    job = scene.job()
    assert mark(job)["purpose"] == "Sweep"
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["sweep"]
    assert "complete" not in scene.record(), "whoever comes now fetches anew"
    assert scene.sweep().empty, "it is under way"
    scene.ends({"result": "Complete"})
    scene.sweep()
    assert scene.all(JOB) == scene.all(CONFIG_MAP) == []


def test_whoever_wants_weights_that_are_being_removed_fetches_them_anew() -> None:
    scene = cached(cache=SHARED_CLAIM)
    scene.steps()
    scene.ends(COMPLETE)
    scene.steps()
    scene.cache.forget(Key(VARIANT, NAMESPACE, "kws-en"))
    scene.sweep()
    scene.pod_of_job(running=True)
    scene.put(variant(source=HUB))
    scene.step()
    assert scene.all(JOB) == [], "the Job goes"
    assert conditions(scene.step())["WeightsReady"] == ("False", "Downloading")
    assert scene.all(JOB) == [], "and its pod has to end"
    scene.forget_pods()
    scene.step()
    assert mark(scene.job())["purpose"] == "Fetch"


def test_a_claim_that_was_made_anew_is_filled_anew() -> None:
    scene = cached()
    scene.steps()
    scene.ends(COMPLETE)
    scene.steps()
    [claim] = scene.all(VOLUME_CLAIM)
    scene.put({**claim, "metadata": {**claim["metadata"], "uid": "another", "resourceVersion": "99999999"}})
    status = scene.step()
    assert conditions(status)["WeightsReady"] == ("False", "Downloading")
    assert mark(scene.job())["claim"] == "another"


def test_the_job_can_be_where_the_pods_can() -> None:
    scene = Caches(engine(hardware=GPU, cache=PVC), variant(source=HUB))
    scene.steps()
    spec = scene.job()["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"pool": "gpu"}
    term = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ][0]
    assert term["matchExpressions"][0]["key"] == "nvidia.com/gpu.memory"
    assert "nvidia.com/gpu" not in spec["containers"][0]["resources"].get("limits", {})
    assert spec["restartPolicy"] == "Never"
    assert spec["automountServiceAccountToken"] is False


def test_a_job_is_made_anew_when_the_variant_that_it_was_made_for_is_changed() -> None:
    scene = cached()
    scene.steps()
    moved = engine(cache=PVC, hardware={"gpu": {"mode": "None"}, "nodeSelector": {"zone": "b"}})
    moved["metadata"]["generation"] = 2
    scene.put(moved)
    scene.put(engine("elsewhere", cache=PVC), variant("other", on="elsewhere", source=HUB, servedName="o"))
    scene.steps("other")
    assert mark(scene.job())["attempt"] == 1, "another variant of the same weights leaves it alone"
    scene.steps()
    assert mark(scene.job())["attempt"] == 2
    assert scene.job()["spec"]["template"]["spec"]["nodeSelector"] == {"zone": "b"}


def test_progress_is_shown_while_a_loader_runs() -> None:
    scene = cached()
    scene.steps()
    scene.pod_of_job(running=True)
    [(key, address)] = scene.cache.loaders.addresses.items()
    assert address == "10.0.0.9"
    touched = scene.cache.progressed(key, Progress(1000, 250, 50, 15))
    assert Key(VARIANT, NAMESPACE, "kws-en") in touched.now
    status = scene.step()
    assert status["weights"] == {
        "key": status["weights"]["key"],
        "totalBytes": 1000,
        "doneBytes": 250,
        "bytesPerSecond": 50,
        "remainingSeconds": 15,
    }
    scene.ends(COMPLETE)
    assert scene.cache.loaders.addresses == {}


@pytest.mark.req("S2-14")
def test_a_source_that_refuses_is_told_while_it_is_tried() -> None:
    scene = cached()
    scene.steps()
    scene.pod_of_job(running=True)
    [(key, _)] = scene.cache.loaders.addresses.items()
    refused = "h:1 cannot be reached ([Errno 111] Connection refused) token=hf_abcdefgh"
    touched = scene.cache.progressed(key, Progress(-1, 0, -1, -1, refused))
    assert Key(VARIANT, NAMESPACE, "kws-en") in touched.now
    status = scene.step()
    assert conditions(status)["WeightsReady"] == ("False", "SourceUnreachable")
    assert conditions(status)["Ready"] == ("False", "SourceUnreachable")
    assert "Connection refused) token=***" in message(status, "WeightsReady")
    decision = scene.decide("kws-en")
    assert decision.supply and decision.supply.plan.empty, "the loader that tries is left alone"  # noqa: PT018
    scene.cache.progressed(key, Progress(1000, 10, 50, 15))
    assert conditions(scene.step())["WeightsReady"] == ("False", "Downloading")


def test_weights_that_are_only_looked_for_are_not_told_to_be_fetched() -> None:
    scene = cached(downloadPolicy="Never")
    scene.steps()
    scene.pod_of_job(running=True)
    told = message(scene.step(), "WeightsReady")
    assert "`downloadPolicy: Never`" in told
    assert "being fetched" not in told


def test_that_a_source_fails_is_news_at_once_and_its_next_words_are_not() -> None:
    well, first, second = (Progress(-1, 0, -1, -1, said) for said in ("", "ended at byte 1", "at byte 2"))
    assert is_news((0, well), 0, first)
    assert is_news((0, first), 0, well)
    assert not is_news((0, first), 1, second)
    assert is_news((0, first), TELL_SECONDS, second)


@pytest.mark.parametrize(
    ("said", "error"),
    [({"error": "no"}, "no"), ({}, ""), ({"error": 7}, ""), ({"error": "x" * 9999}, "x" * ERROR_LENGTH)],
)
def test_what_a_loader_says_of_its_source_is_read(said: Manifest, error: str) -> None:
    read = read_progress(json.dumps(said).encode())
    assert read
    assert read.error == error


def test_settled_weights_write_nothing() -> None:
    scene = cached()
    scene.steps()
    scene.bind()
    scene.ends(COMPLETE)
    scene.steps(replicas=1, readyReplicas=1, updatedReplicas=1)
    status = scene.world("kws-en").variant.status
    for _ in range(3):
        decision = scene.decide("kws-en")
        assert decision.plan.empty
        assert decision.supply
        assert decision.supply.plan.empty
        assert decision.supply.asks == frozenset()
        assert scene.step() == status
    scene.cache.forget(Key(JOB, NAMESPACE, scene.job()["metadata"]["name"]))
    assert scene.step() == status, "the Job is removed an hour after its end"
