"""What keeps pods from being made or looked at: quotas and queues."""

from __future__ import annotations

from tests.unit.operator.kinds_of_nodes import PLAIN
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import Scene, conditions, message, pod

QUEUE = "kueue.x-k8s.io/queue-name"


def test_a_quotas_own_words_are_told_without_the_pods_name() -> None:
    scene = Scene(PLAIN, engine(), variant())
    words = "exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=4"
    refused = {
        "type": "ReplicaFailure",
        "status": "True",
        "message": f'pods "kws-en-x7k2p" is forbidden: {words}',
    }
    scene.settle("kws-en", conditions=[refused])
    status = scene.settle("kws-en", conditions=[refused])
    assert conditions(status)["Scheduled"] == ("False", "QuotaExceeded")
    assert message(status, "Scheduled") == f"Pods cannot be created: {words}"


def test_a_pod_that_a_queue_holds_is_queued() -> None:
    scene = Scene(PLAIN, engine(), variant())
    scene.settle("kws-en", replicas=1, updatedReplicas=1)
    held = pod(node="", conditions=[{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}])
    held["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]
    scene.put(held)
    status = scene.settle("kws-en")
    assert conditions(status)["Scheduled"] == ("False", "Queued")
    assert "kueue.x-k8s.io/admission" in message(status, "Scheduled")


def test_a_queues_labels_reach_the_pods_and_no_other_label_does() -> None:
    queued = variant()
    queued["metadata"]["labels"] = {QUEUE: "speech", "team": "a"}
    scene = Scene(PLAIN, engine(), queued)
    found = [one.manifest for one in scene.decide("kws-en").plan.applies if one.kind.name == "Deployment"]
    labels = found[0]["spec"]["template"]["metadata"]["labels"]
    assert labels[QUEUE] == "speech"
    assert "team" not in labels
    assert QUEUE not in found[0]["spec"]["selector"]["matchLabels"]
