"""GPU memory that an engine was seen to use is in the status, and the next variant is placed by it."""

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.local import Cluster
from tests.e2e.release import Release
from tests.e2e.shared import SharedEngine, engine_manifest, script_manifest, variant_manifest
from tests.support.waiting import wait_until

NAME = "measured"
CARD_MIB = 24_000
PEAK_MIB = 14_000
ROUNDED_MIB = 14_080
READ_SECONDS = 120
"""The operator looks every half minute."""
LABELS = {"product": "NVIDIA-L4", "memory": str(CARD_MIB), "count": "2", "replicas": "1"}


@pytest.fixture
def two_gpus(cluster: Cluster) -> Iterator[None]:
    """The real node says that it has two cards."""
    node = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]
    labels = {f"nvidia.com/gpu.{key}": value for key, value in LABELS.items()}
    cluster.patch_node_gpus(node, 2, labels)
    yield
    cluster.patch_node_gpus(node, 0)
    cluster.kubectl("label", "node", node, *(f"{key}-" for key in labels))


@pytest.fixture
def shared(release: Release, two_gpus: None) -> Iterator[SharedEngine]:
    engine = SharedEngine(release, NAME)
    hardware = {
        "gpu": {"mode": "Required"},
        "resources": {"requests": {"cpu": "20m", "memory": "128Mi"}},
    }
    engine.apply(
        script_manifest(NAME), engine_manifest(NAME, {"type": "Shared", "shared": {}}, hardware=hardware)
    )
    yield engine
    release.clear()
    release.delete(f"engine/{NAME}", f"configmap/{NAME}")
    wait_until(lambda: not engine.pods(), seconds=60, what="its pods are gone")


def needing(memory: str) -> dict[str, Any]:
    return {"hardware": {"gpu": {"minMemory": memory}}}


def told_by_the_engine(shared: SharedEngine, pod: str) -> float:
    address = shared.release.in_namespace("get", "pod", pod, "-o", "jsonpath={.status.podIP}")
    with urllib.request.urlopen(f"http://{address}:8000/metrics", timeout=60) as answer:
        text = answer.read().decode()
    found = re.search(r"^roundhouse_engine_model_vram_bytes\{.*\} (\S+)$", text, re.MULTILINE)
    assert found, text
    return float(found[1])


def test_what_a_model_was_seen_to_use_decides_where_the_next_one_goes(shared: SharedEngine) -> None:
    """By what they state, both would fit one card."""
    shared.apply(variant_manifest("small", NAME, f";vram={PEAK_MIB}", **needing("4G")))
    shared.ready("small")
    shared.answers("small")
    [pod] = shared.pods()
    assert told_by_the_engine(shared, pod) == PEAK_MIB << 20

    def measured() -> bool:
        placement = shared.release.get("mv/small")["status"]["placement"]
        assert placement.get("measuredPeakMemory") == f"{ROUNDED_MIB}Mi", placement
        assert placement["required"]["total"] == f"{ROUNDED_MIB}Mi", placement
        return True

    wait_until(measured, seconds=READ_SECONDS, what="the operator has read it")
    shared.apply(variant_manifest("large", NAME, **needing("12G")))
    shared.ready("large")
    shared.until_placed({"small"}, {"large"})
    assert pod in shared.pods()
    shared.apply(variant_manifest("third", NAME, **needing("5G")))
    shared.ready("third")
    assert len(shared.pods()) == 2, "what is left beside either is enough"
