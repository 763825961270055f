"""Weights that come with the pod: the loader before its engine, and images that nodes mount."""

from __future__ import annotations

import json
from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import CONFIG_MAP, DEPLOYMENT, JOB
from roundhouse_operator.core.weights.state import Progress
from tests.unit.operator.caches import COMPLETE, HUB, Caches, failure
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.test_weights import cached
from tests.unit.operator.worlds import conditions, message, node, pod


def in_pod(*, says: Manifest | None = None, running: bool = False, ready: bool = False) -> Manifest:
    """`running` and `says`: it was started again, and said that before."""
    code = 0 if says and says["result"] == "Complete" else 1
    ended: Manifest = {"terminated": {"exitCode": code, "message": json.dumps(says)}} if says else {}
    state: Manifest = {"running": {}} if running else ended
    return pod(
        initContainerStatuses=[{"name": "weights-loader", "state": state, "lastState": ended}],
        containerStatuses=[{"name": "engine", "state": {"waiting": {"reason": "PodInitializing"}}}],
        conditions=[{"type": "Ready", "status": str(ready)}],
        podIP="10.0.0.9",
    )


STARTING: dict[str, Any] = {"replicas": 1, "updatedReplicas": 1}


@pytest.mark.parametrize("cache", [{"type": "Ephemeral"}, {"type": "Node", "node": {"path": "/var/weights"}}])
def test_weights_that_come_with_the_pod(cache: Manifest) -> None:
    scene = cached(cache=cache)
    status = scene.steps(**STARTING)
    assert conditions(status)["WeightsReady"] == ("True", "FetchedAtStart")
    scene.put(in_pod(running=True))
    status = scene.steps(**STARTING)
    assert conditions(status)["WeightsReady"] == ("False", "Downloading")
    assert status["phase"] == "Downloading"
    scene.put(in_pod(says=failure("Unauthorized", "the hub says 401")))
    status = scene.steps(**STARTING)
    assert conditions(status)["WeightsReady"] == ("False", "Unauthorized")
    assert conditions(status)["Ready"] == ("False", "Unauthorized")
    scene.put(in_pod(says=COMPLETE))
    status = scene.steps(**STARTING)
    assert conditions(status)["WeightsReady"] == ("True", "Downloaded")
    assert status["weights"]["revision"] == "c0ffee"


@pytest.mark.req("S2-14")
def test_a_source_that_refuses_a_loader_in_a_pod_is_told() -> None:
    scene = cached(cache={"type": "Ephemeral"})
    scene.steps(**STARTING)
    scene.put(in_pod(running=True))
    [(key, _)] = scene.cache.loaders.addresses.items()
    scene.cache.progressed(key, Progress(-1, 0, -1, -1, "h:1 cannot be reached (refused)"))
    status = scene.steps(**STARTING)
    assert conditions(status)["Ready"] == ("False", "SourceUnreachable")
    assert "h:1 cannot be reached (refused)" in message(status, "WeightsReady")
    scene.cache.progressed(key, Progress(1000, 10, 50, 15))
    assert conditions(scene.steps(**STARTING))["Ready"] == ("False", "Downloading")


def test_what_a_loader_failed_of_is_told_until_something_comes() -> None:
    """It is started again and again; "Downloading" would be said of what never comes."""
    scene = cached(cache={"type": "Ephemeral"})
    scene.steps(**STARTING)
    scene.put(in_pod(says=failure("SourceNotFound", "404")))
    assert conditions(scene.steps(**STARTING))["Ready"] == ("False", "SourceNotFound")
    scene.put(in_pod(says=failure("SourceNotFound", "404"), running=True))
    [(key, _)] = scene.cache.loaders.addresses.items()
    assert conditions(scene.steps(**STARTING))["Ready"] == ("False", "SourceNotFound")
    scene.cache.progressed(key, Progress(-1, 0, -1, -1))
    assert conditions(scene.steps(**STARTING))["Ready"] == ("False", "SourceNotFound")
    scene.cache.progressed(key, Progress(-1, 0, -1, -1, "h:1 cannot be reached"))
    assert conditions(scene.steps(**STARTING))["Ready"] == ("False", "SourceUnreachable")
    scene.cache.progressed(key, Progress(1000, 10, 50, 15))
    assert conditions(scene.steps(**STARTING))["Ready"] == ("False", "Downloading")


def test_a_moved_branch_does_not_change_a_model_that_runs() -> None:
    scene = cached(cache={"type": "Ephemeral"})
    scene.steps(**STARTING)
    [deployment] = scene.all(DEPLOYMENT)
    env = deployment["spec"]["template"]["spec"]["initContainers"][0]["env"]
    pinned = next(one for one in env if one["name"] == "ROUNDHOUSE_REVISION")
    known = pinned["valueFrom"]["configMapKeyRef"]
    assert known["optional"]
    scene.put(in_pod(says=COMPLETE))
    scene.steps(**STARTING)
    [record] = scene.all(CONFIG_MAP)
    assert record["metadata"]["name"] == known["name"]
    assert record["data"]["revision"] == "c0ffee"
    scene.put(in_pod(says={**COMPLETE, "revision": "moved"}))
    status = scene.steps(**STARTING)
    assert status["weights"]["revision"] == "c0ffee"
    assert scene.all(DEPLOYMENT)[0]["spec"]["template"] == deployment["spec"]["template"]


def test_another_loader_starts_no_pod_anew() -> None:
    scene = cached(cache={"type": "Ephemeral"})
    scene.steps(**STARTING)
    scene.loader = type(scene.loader)("example.org/loader:2", env=(("HF_ENDPOINT", "http://mirror"),))
    assert scene.decide("kws-en").plan.empty
    changed = variant(source=HUB, args=["--x"])
    changed["metadata"]["generation"] = 2
    scene.put(changed)
    scene.steps(**STARTING)
    init = scene.all(DEPLOYMENT)[0]["spec"]["template"]["spec"]["initContainers"][0]
    assert init["image"] == "example.org/loader:2", "pods that start anew anyway get the newer one"


@pytest.mark.parametrize("tries", [False, True], ids=["it-ended", "it-tries-on"])
def test_pods_whose_loader_fails_get_the_one_that_knows_more(*, tries: bool) -> None:
    scene = cached(cache={"type": "Ephemeral"})
    scene.steps(**STARTING)
    scene.loader = type(scene.loader)("example.org/loader:1", env=(("HTTPS_PROXY", "http://proxy"),))
    scene.put(in_pod(running=True))
    [(key, _)] = scene.cache.loaders.addresses.items()
    scene.cache.progressed(key, Progress(1000, 10, -1, -1, "h:1 cannot be reached (refused)"))
    assert scene.decide("kws-en").plan.empty, "something has come, and may be lost"
    if tries:
        scene.cache.progressed(key, Progress(-1, 0, -1, -1, "h:1 cannot be reached (refused)"))
    else:
        scene.put(in_pod(says=failure("SourceUnreachable")))
    scene.steps(**STARTING)
    init = scene.all(DEPLOYMENT)[0]["spec"]["template"]["spec"]["initContainers"][0]
    assert {"name": "HTTPS_PROXY", "value": "http://proxy"} in init["env"]


def versions(name: str, kubelet: str, runtime: str) -> Manifest:
    made = node(name)
    made["status"]["nodeInfo"] = {"kubeletVersion": kubelet, "containerRuntimeVersion": runtime}
    return made


OCI = {"type": "OCI", "oci": {"image": "registry.example.org/models/kws:1", "path": "en"}}


@pytest.mark.parametrize(
    ("kubelet", "runtime", "mounts"),
    [
        ("v1.35.0", "containerd://2.1.0", True),
        ("v1.36.2", "cri-o://1.31.0", True),
        ("v1.34.4", "containerd://2.1.0", False),
        ("v1.35.0", "containerd://1.7.27", False),
        ("v1.35.0", "docker://29.0.0", False),
    ],
)
def test_images_are_mounted_where_every_node_can(kubelet: str, runtime: str, *, mounts: bool) -> None:
    scene = Caches(
        versions("n1", "v1.35.0", "containerd://2.1.1"),
        versions("n2", kubelet, runtime),
        engine(cache={"type": "ImageVolume"}),
        variant(source=OCI),
    )
    status = scene.steps(**STARTING)
    told = conditions(status)["WeightsReady"]
    assert told == ("True", "ImageVolume" if mounts else "FetchedAtStart")
    if not mounts:
        assert f"node 'n2' ({kubelet}, {runtime})" in message(status, "WeightsReady")
    volume = scene.all(DEPLOYMENT)[0]["spec"]["template"]["spec"]["volumes"]
    assert any("image" in one for one in volume) == mounts
    scene.put(versions("n3", "v1.33.0", "containerd://1.7.0"))
    scene.put(versions("n2", "v1.35.0", "containerd://2.1.0"))
    assert scene.decide("kws-en").plan.empty, "what runs stays as it is"


def test_an_image_volume_takes_an_image() -> None:
    scene = cached(cache={"type": "ImageVolume"})
    refused = scene.decide("kws-en").refused
    assert refused
    assert refused.reason == "InvalidSpec"
    assert scene.steps()["phase"] == "Failed"
    assert scene.all(JOB) == []
