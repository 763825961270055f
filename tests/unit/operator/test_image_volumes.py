"""Images as volumes: what pods do stands while they run, and an edit of the cache is no such thing."""

from __future__ import annotations

from typing import Any

from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import DEPLOYMENT
from tests.unit.operator.caches import Caches
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import conditions, node

OCI = {"type": "OCI", "oci": {"image": "example.org/model:1"}}
IMAGES = {"type": "ImageVolume"}
SERVING: dict[str, Any] = {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1}


def able(name: str, kubelet: str = "v1.35.0") -> Manifest:
    one = node(name)
    one["status"]["nodeInfo"] = {"kubeletVersion": kubelet, "containerRuntimeVersion": "containerd://2.1.1"}
    return one


def mounts(scene: Caches) -> bool:
    volumes = scene.all(DEPLOYMENT)[0]["spec"]["template"]["spec"]["volumes"]
    return any("image" in one for one in volumes)


def test_an_engine_that_is_told_to_mount_images_does_so() -> None:
    scene = Caches(able("n1"), engine(), variant(source=OCI))
    scene.steps(**SERVING)
    assert not mounts(scene)
    changed = engine(cache=IMAGES)
    scene.put({**changed, "metadata": {**changed["metadata"], "generation": 2}})
    status = scene.steps(**SERVING)
    assert conditions(status)["UpToDate"] == ("False", "WaitingForTurn")
    status = scene.steps(**SERVING)
    assert mounts(scene)
    assert conditions(scene.steps(**SERVING))["WeightsReady"] == ("True", "ImageVolume")


def test_pods_that_unpack_for_lack_of_able_nodes_go_on_when_there_are_some() -> None:
    scene = Caches(able("n1", "v1.30.0"), engine(cache=IMAGES), variant(source=OCI))
    scene.steps(**SERVING)
    scene.put(able("n1"))
    assert scene.decide("kws-en").plan.empty
    assert not mounts(scene)


def test_a_cache_that_is_edited_away_is_left() -> None:
    scene = Caches(able("n1"), engine(cache=IMAGES), variant(source=OCI))
    scene.steps(**SERVING)
    assert mounts(scene)
    changed = engine()
    scene.put({**changed, "metadata": {**changed["metadata"], "generation": 2}})
    scene.steps(**SERVING)
    scene.steps(**SERVING)
    assert not mounts(scene)
    assert "roundhouse.dev/cache" not in (scene.all(DEPLOYMENT)[0]["metadata"].get("annotations") or {})
