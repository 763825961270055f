"""Small worlds for the core: manifests go in as the API server would send them, through the real cache."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from roundhouse_api.model import Manifest
from roundhouse_operator.cache import Cache
from roundhouse_operator.core.decide import decide
from roundhouse_operator.core.decision import Decision
from roundhouse_operator.core.kinds import (
    ADAPTER,
    CACHE_KINDS,
    CHILD_KINDS,
    DEPLOYMENT,
    ENGINE,
    NODE,
    POD,
    POLICY,
    VARIANT,
    Key,
)
from roundhouse_operator.core.observed import World
from roundhouse_operator.core.outcome import DONE, Outcome
from roundhouse_operator.core.placement import Fleet
from roundhouse_operator.core.status.variant import variant_status
from roundhouse_operator.core.structure import ATOMIC_MAPS, list_keys
from roundhouse_operator.project_fleet import project_node
from roundhouse_operator.tally import Tally

NAMESPACE = "speech"
MANAGER = "roundhouse/speech/roundhouse"
NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
_KINDS = {
    kind.name: kind for kind in (ENGINE, VARIANT, ADAPTER, POLICY, *CHILD_KINDS, *CACHE_KINDS, POD, NODE)
}
_VERSIONS = itertools.count(1)


class Scene:
    """A cache, and what happens in it. Objects may be put in again when they have changed."""

    def __init__(self, *manifests: Manifest, tally: Tally | None = None) -> None:
        self.tally = tally or Tally()
        self.cache = Cache(MANAGER, self.tally)
        self.deaf: bool | None = False
        self.put(*manifests)

    def put(self, *manifests: Manifest) -> None:
        for manifest in manifests:
            self.cache.upsert(_KINDS[manifest["kind"]], sent(manifest))

    def world(self, name: str) -> World:
        found = self.cache.world(Key(VARIANT, NAMESPACE, name))
        assert found
        return replace(found, deaf=self.deaf)

    def decide(self, name: str) -> Decision:
        return decide(self.world(name))

    def status(self, name: str, outcome: Outcome = DONE, *, now: str = NOW) -> Manifest:
        world = self.world(name)
        return variant_status(world, decide(world), outcome, now=now)

    def settle(self, name: str, *, now: str = NOW, **rollout: Any) -> Manifest:
        """Carries out what is wanted, as the API server and the controllers would, and writes the status."""
        for apply in self.decide(name).plan.applies:
            figures = rollout if apply.kind == DEPLOYMENT else None
            self.put(applied(apply.manifest, rollout=figures))
        status = self.status(name, now=now)
        self.write(name, status)
        return status

    def write(self, name: str, status: Manifest) -> None:
        """Puts a status where a pass finds it the next time."""
        world = self.world(name)
        spec = world.variant.spec.model_dump(by_alias=True, exclude_none=True, mode="json")  # type: ignore[union-attr]
        metadata = {"name": name, "uid": world.variant.uid, "generation": world.variant.generation}
        self.put({"kind": "ModelVariant", "metadata": metadata, "spec": spec, "status": status})


def sent(manifest: Manifest) -> Manifest:
    """With the metadata that the API server adds. An explicit resourceVersion is kept."""
    metadata = {
        "namespace": NAMESPACE,
        "uid": f"uid-{manifest['metadata']['name']}",
        "generation": 1,
        "creationTimestamp": NOW,
        "resourceVersion": str(next(_VERSIONS)),
        **manifest["metadata"],
    }
    return {**manifest, "metadata": metadata}


def applied(manifest: Manifest, *, rollout: Manifest | None = None, manager: str = MANAGER) -> Manifest:
    """What server-side apply makes of a manifest; with `rollout`, what the controller says of it."""
    entry = {"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": owned(manifest)}
    answer = {**manifest, "metadata": {**manifest["metadata"], "managedFields": [entry]}}
    if rollout is not None:
        answer["status"] = {"observedGeneration": 1, **rollout}
    return answer


def owned(manifest: Manifest) -> Manifest:
    """`fieldsV1` of everything that a manifest says, but for what names it."""
    said = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}
    said["metadata"] = {
        key: value
        for key, value in manifest["metadata"].items()
        if key in ("labels", "annotations", "ownerReferences")
    }
    return _owned(said, "")


def _owned(value: Any, name: str) -> Manifest:
    if isinstance(value, dict) and value and name not in ATOMIC_MAPS:
        return {f"f:{key}": _owned(inner, key) for key, inner in value.items()}
    if isinstance(value, list) and value and (keys := list_keys(name, value)):
        return {_step(item, keys): {".": {}, **_owned(item, "")} for item in value}
    return {}


def _step(item: Manifest, keys: Iterable[str]) -> str:
    return "k:" + json.dumps({key: item[key] for key in keys}, separators=(",", ":"))


def pod(name: str = "kws-en-1", variant: str = "kws-en", *, node: str = "n1", **status: Any) -> Manifest:
    """A pod of a variant. `node=""`: not scheduled."""
    labels = {"roundhouse.dev/variant": variant, "roundhouse.dev/managed": "true", "pod-template-hash": "a"}
    spec: Manifest = {"nodeName": node} if node else {}
    return {"kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec, "status": status}


def node(name: str, gpus: int = 0, *, resource: str = "nvidia.com/gpu", **labels: str) -> Manifest:
    """A node; labels are given with `_` for `.` and `/` as in `nvidia_com__gpu_memory`."""
    named = {key.replace("__", "/").replace("_", "."): value for key, value in labels.items()}
    allocatable = {"cpu": "8", "memory": "64Gi", **({resource: str(gpus)} if gpus else {})}
    metadata = {"name": name, "namespace": "", "labels": named}
    return {"kind": "Node", "metadata": metadata, "spec": {}, "status": {"allocatable": allocatable}}


def fleet_of(*nodes: Manifest) -> Fleet:
    fleet = Fleet()
    for one in nodes:
        fleet.put_node(one["metadata"]["name"], project_node(sent(one)))
    return fleet


def conditions(status: Manifest) -> dict[str, tuple[str, str]]:
    """Status and reason by type."""
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


def message(status: Manifest, kind: str) -> str:
    return str(next(one["message"] for one in status["conditions"] if one["type"] == kind))
