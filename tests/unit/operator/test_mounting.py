"""Weights on a claim that one node at a time can mount: no rollout waits for it for ever."""

from __future__ import annotations

from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import DEPLOYMENT, POD, Key
from roundhouse_operator.core.rollout import Strategy
from roundhouse_operator.core.weights.asked import Answer, Ask, AskedKind
from roundhouse_operator.core.weights.mounting import PATIENCE_SECONDS
from tests.unit.operator.caches import COMPLETE, EPOCH, HUB, PVC, SHARED_CLAIM, Caches
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import NAMESPACE, conditions, message, node, pod

GPU = {"gpu": {"mode": "Required"}}
MANY = {"type": "PVC", "pvc": {"accessMode": "ReadWriteMany"}}
ENDED = {"terminated": {"exitCode": 0, "message": ""}}
ROLLING: dict[str, Any] = {"replicas": 2, "readyReplicas": 1, "updatedReplicas": 1}


def scene_of(cache: Manifest = PVC, *nodes: Manifest, replicas: int = 1, **spec: Any) -> Caches:
    """It serves from the claim, and its author has asked for other pods."""
    scene = Caches(
        *(nodes or (node("a"), node("b"))),
        engine(cache=cache, **spec),
        variant(source=HUB, replicas=replicas),
    )
    figures: dict[str, Any] = {"replicas": replicas, "readyReplicas": replicas, "updatedReplicas": replicas}
    scene.steps(**figures)
    scene.ends(COMPLETE)
    scene.steps(**figures)
    for number in range(replicas):
        serve(scene, f"old-{number}", "a")
    edited = variant(source=HUB, args=["--more"], replicas=replicas)
    before = scene.world("kws-en").variant
    scene.put({**edited, "metadata": {"name": "kws-en", "generation": 2}, "status": before.status})
    return scene


def of_store(scene: Caches, name: str, where: str, template: str, owner: str, **status: Any) -> None:
    one = pod(name, owner, node=where, **status)
    one["metadata"]["labels"]["pod-template-hash"] = template
    wanted = scene.all(DEPLOYMENT)[0]["spec"]["template"]
    one["metadata"]["annotations"] = wanted["metadata"]["annotations"]
    one["spec"]["volumes"] = wanted["spec"]["volumes"]
    one["spec"]["containers"] = [{"name": "engine", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]
    scene.put(one)


def serve(scene: Caches, name: str, where: str, owner: str = "kws-en") -> None:
    ready = {"name": "engine", "ready": True, "started": True, "state": {"running": {}}}
    of_store(scene, name, where, "a", owner, containerStatuses=[ready])


def wait(scene: Caches, name: str, where: str, owner: str = "kws-en") -> None:
    """The kubelet there does not get the volume, and makes no container."""
    creating = {"name": "engine", "ready": False, "state": {"waiting": {"reason": "ContainerCreating"}}}
    at = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    of_store(scene, name, where, "b", owner, containerStatuses=[creating], conditions=[at])


def told(scene: Caches, **figures: int) -> None:
    """By the Deployment's controller."""
    [live] = scene.all(DEPLOYMENT)
    metadata = {name: value for name, value in live["metadata"].items() if name != "resourceVersion"}
    scene.put({**live, "metadata": metadata, "status": {"observedGeneration": 1, **figures}})


def chosen(scene: Caches) -> tuple[str, str, int]:
    found = scene.decide("kws-en").strategy
    assert isinstance(found, Strategy)
    return found.kind.value, found.reason, found.manifest["rollingUpdate"]["maxUnavailable"]


def late(scene: Caches) -> None:
    scene.now = EPOCH + PATIENCE_SECONDS


def test_old_pods_go_first_when_a_new_one_waits_for_their_volume() -> None:
    scene = scene_of()
    scene.step(**ROLLING)
    assert chosen(scene)[0] == "Surge"
    wait(scene, "new", "b")
    decision = scene.decide("kws-en")
    assert chosen(scene)[0] == "Surge", "a volume takes its time"
    assert decision.revisit_seconds == PATIENCE_SECONDS, "nobody will tell that it does not come"
    late(scene)
    assert chosen(scene) == ("Recreate", "VolumeHeld", 1)
    status = scene.step(**ROLLING)
    assert conditions(status)["UpToDate"] == ("False", "VolumePending")
    assert "in use on node a, so pods on node b wait" in message(status, "UpToDate")
    assert conditions(status)["Ready"] == ("True", "Serving")


def test_all_who_have_the_volume_go_or_the_new_pod_never_gets_it() -> None:
    scene = scene_of(replicas=2)
    scene.step(replicas=3, readyReplicas=2, updatedReplicas=1)
    wait(scene, "new", "b")
    late(scene)
    assert chosen(scene) == ("Recreate", "VolumeHeld", 2)


def test_it_is_over_with_the_rollout() -> None:
    scene = scene_of()
    scene.step(**ROLLING)
    wait(scene, "new", "b")
    late(scene)
    scene.step(**ROLLING)
    serve(scene, "new", "b")
    scene.put(
        {**pod("old-0", node="a"), "metadata": {**pod("old-0")["metadata"], "deletionTimestamp": "now"}}
    )
    told(scene, replicas=1, readyReplicas=1, updatedReplicas=1)
    assert chosen(scene) == ("Surge", "NeedsNoGPU", 0)


@pytest.mark.parametrize("cache", [MANY, SHARED_CLAIM], ids=["many nodes", "claim of others"])
def test_what_many_nodes_may_mount_is_no_obstacle(cache: Manifest) -> None:
    scene = scene_of(cache)
    scene.step(**ROLLING)
    wait(scene, "new", "b")
    late(scene)
    assert chosen(scene)[0] == "Surge"


@pytest.mark.parametrize(("mode", "way"), [("ReadWriteOnce", "Recreate"), ("ReadWriteMany", "Surge")])
def test_how_a_claim_of_others_is_mounted_is_asked_for_when_a_pod_waits(mode: str, way: str) -> None:
    scene = scene_of(SHARED_CLAIM)
    supply = scene.decide("kws-en").supply
    assert supply
    assert supply.asks == frozenset()
    scene.step(**ROLLING)
    wait(scene, "new", "b")
    late(scene)
    supply = scene.decide("kws-en").supply
    assert supply
    [ask] = supply.asks
    scene.answers[ask] = Answer(found=True, access_modes=frozenset({mode}))
    assert chosen(scene)[0] == way


def test_a_pod_that_begins_beside_the_others_proves_the_storage_less_strict() -> None:
    scene = scene_of()
    scene.step(**ROLLING)
    serve(scene, "new", "b")
    late(scene)
    assert chosen(scene)[0] == "Surge"


def test_a_gpu_that_is_free_elsewhere_is_no_room() -> None:
    scene = scene_of(PVC, node("a", 1), node("b", 1), hardware=GPU)
    assert chosen(scene) == ("Recreate", "NoFreeGPU", 1)
    assert chosen(scene_of(MANY, node("a", 1), node("b", 1), hardware=GPU))[:2] == ("Surge", "FreeGPU")
    assert chosen(scene_of(PVC, node("a", 2), node("b", 1), hardware=GPU))[:2] == ("Surge", "FreeGPU")


def test_another_variant_of_the_same_weights_has_the_volume() -> None:
    scene = scene_of()
    scene.steps(**ROLLING)
    scene.cache.forget(Key(POD, NAMESPACE, "old-0"))
    serve(scene, "other-1", "a", owner="other")
    wait(scene, "new", "b")
    late(scene)
    told(scene, replicas=1, readyReplicas=0, updatedReplicas=1)
    status = scene.status("kws-en")
    assert conditions(status)["Available"] == ("False", "VolumePending")
    assert "is ReadWriteOnce and in use on node a" in message(status, "Available")


ONCE = Answer(found=True, access_modes=frozenset({"ReadWriteOnce"}))


def of_other_weights(scene: Caches) -> None:
    """A pod that serves another model from the same claim."""
    serve(scene, "other-1", "a", owner="other")
    found = scene.find(POD, "other-1")
    metadata = {name: value for name, value in found["metadata"].items() if name != "resourceVersion"}
    scene.put({**found, "metadata": {**metadata, "annotations": {"roundhouse.dev/weights": "another"}}})


def test_a_model_of_other_weights_on_the_claim_has_the_volume_and_nothing_is_ended_in_vain() -> None:
    scene = scene_of(SHARED_CLAIM)
    scene.step(**ROLLING)
    scene.answers[Ask(AskedKind.CLAIM, "models")] = ONCE
    wait(scene, "new", "b")
    of_other_weights(scene)
    late(scene)
    assert chosen(scene)[0] == "Surge", "the other pod would keep the volume where it is"
    status = scene.step(**ROLLING)
    assert conditions(status)["UpToDate"] == ("False", "VolumePending")
    assert "in use on node a also by pods of others, so pods on node b wait" in message(status, "UpToDate")
    scene.cache.forget(Key(POD, NAMESPACE, "other-1"))
    assert chosen(scene) == ("Recreate", "VolumeHeld", 1)


def test_where_only_a_model_of_other_weights_has_the_volume_that_is_told() -> None:
    scene = scene_of(SHARED_CLAIM)
    scene.step(**ROLLING)
    scene.answers[Ask(AskedKind.CLAIM, "models")] = ONCE
    scene.cache.forget(Key(POD, NAMESPACE, "old-0"))
    of_other_weights(scene)
    wait(scene, "new", "b")
    late(scene)
    told(scene, replicas=1, readyReplicas=0, updatedReplicas=1)
    assert conditions(scene.status("kws-en"))["Available"] == ("False", "VolumePending")


def test_a_loader_has_the_volume_until_it_ends() -> None:
    scene = scene_of(SHARED_CLAIM)
    scene.step(**ROLLING)
    scene.answers[Ask(AskedKind.CLAIM, "models")] = ONCE
    scene.cache.forget(Key(POD, NAMESPACE, "old-0"))
    wait(scene, "new", "b")
    late(scene)
    volumes = scene.all(DEPLOYMENT)[0]["spec"]["template"]["spec"]["volumes"]
    for ended, reason in ((False, "VolumePending"), (True, "Starting")):
        scene.pod_of_job(
            running=not ended,
            node="a",
            **({"containerStatuses": [{"name": "weights-loader", "state": ENDED}]} if ended else {}),
        )
        found = scene.find(POD, f"{scene.job()['metadata']['name']}-x")
        metadata = {name: value for name, value in found["metadata"].items() if name != "resourceVersion"}
        scene.put({**found, "metadata": metadata, "spec": {**found["spec"], "volumes": volumes}})
        told(scene, replicas=1, readyReplicas=0, updatedReplicas=1)
        assert conditions(scene.status("kws-en"))["Available"] == ("False", reason)


def test_a_loader_that_waits_for_a_claim_of_others_says_so() -> None:
    scene = Caches(engine(cache=SHARED_CLAIM), variant(source=HUB))
    scene.steps()
    creating = {"name": "weights-loader", "state": {"waiting": {"reason": "ContainerCreating"}}}
    at = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    scene.pod_of_job(containerStatuses=[creating], conditions=[at])
    assert conditions(scene.step())["WeightsReady"] == ("False", "Downloading")
    assert scene.decide("kws-en").revisit_seconds == 120
    scene.now += 120
    status = scene.step()
    assert conditions(status)["WeightsReady"] == ("False", "VolumePending")
    assert "claim 'models' is ReadWriteOnce" in message(status, "WeightsReady")


def test_a_job_whose_pod_nobody_makes_says_so() -> None:
    scene = Caches(engine(cache=PVC), variant(source=HUB))
    scene.steps()
    assert conditions(scene.step())["WeightsReady"] == ("False", "Downloading")
    assert scene.decide("kws-en").revisit_seconds == 60
    scene.now += 60
    status = scene.step()
    assert conditions(status)["WeightsReady"] == ("False", "Downloading"), "the controller may be slow"
    assert "has yet to take it up" in message(status, "WeightsReady")
    assert scene.decide("kws-en").revisit_seconds == 540
    scene.taken_up()
    status = scene.step()
    assert conditions(status)["WeightsReady"] == ("False", "CacheRefused")
    assert "No pod is made for Job 'weights-kws-en-" in message(status, "WeightsReady")
    scene.pod_of_job(running=True)
    assert conditions(scene.step())["WeightsReady"] == ("False", "Downloading")


def test_a_job_that_nobody_takes_up_is_told_in_the_end() -> None:
    scene = Caches(engine(cache=PVC), variant(source=HUB))
    scene.steps()
    scene.now += 600
    status = scene.step()
    assert conditions(status)["WeightsReady"] == ("False", "CacheRefused")
    assert "whether the cluster's Job controller runs" in message(status, "WeightsReady")


def test_a_job_that_a_queue_holds_waits_for_it() -> None:
    scene = Caches(engine(cache=PVC), variant(source=HUB))
    scene.steps()
    held = scene.job()
    del held["metadata"]["resourceVersion"]
    scene.put({**held, "spec": {**held["spec"], "suspend": True}})
    scene.now += 3600
    assert conditions(scene.step())["WeightsReady"] == ("False", "Queued")
