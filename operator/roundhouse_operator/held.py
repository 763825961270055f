"""One object as the cache holds it: read from its JSON, with its version and whose it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from roundhouse_api.conditions import ConditionType
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import EngineSpec
from roundhouse_operator.core.kinds import API_KINDS, DEVICE_CLASS, NODE, POD, RESOURCE_SLICE, Key, Kind
from roundhouse_operator.core.observed import Node, Pod
from roundhouse_operator.core.placement.devices import DeviceClass, DeviceSlice
from roundhouse_operator.core.replicas import Writer
from roundhouse_operator.core.sharing import shares_pods
from roundhouse_operator.core.weights.state import LoaderJob, Record, VolumeClaim
from roundhouse_operator.project import (
    StoredChild,
    StoredResource,
    owner_of,
    project_child,
    project_resource,
)
from roundhouse_operator.project_fleet import project_class, project_node, project_slice
from roundhouse_operator.project_pods import project_pod
from roundhouse_operator.project_weights import key_of, project_stored, store_of

FLEET: Final[dict[Kind, Callable[[Manifest], Node | DeviceSlice | DeviceClass]]] = {
    NODE: project_node,
    RESOURCE_SLICE: project_slice,
    DEVICE_CLASS: project_class,
}
"""What placement is decided from, and how it is read."""


@dataclass(frozen=True, slots=True)
class Held:
    """An object as it was last seen. `owner` is the variant or engine whose child or pod it is."""

    version: int
    value: (
        StoredResource
        | StoredChild
        | Pod
        | Node
        | DeviceSlice
        | DeviceClass
        | LoaderJob
        | VolumeClaim
        | Record
    )
    owner: Key | None = None
    weights: str = ""
    """Key of the weights that it belongs to; `owner` is then their store."""


def hold(kind: Kind, version: int, manifest: Manifest, writer: Writer) -> Held:
    if kind in FLEET:
        return Held(version, FLEET[kind](manifest))
    if kind in API_KINDS:
        return Held(version, project_resource(kind, manifest, writer))
    if store := store_of(kind, manifest):
        stored = project_pod(manifest) if kind == POD else project_stored(kind, manifest)
        return Held(version, stored, store, key_of(manifest))
    value = project_pod(manifest) if kind == POD else project_child(kind, manifest)
    return Held(version, value, owner_of(manifest))


def shares(held: Held) -> bool:
    spec = held.value.read().spec if isinstance(held.value, StoredResource) else None
    return isinstance(spec, EngineSpec) and shares_pods(spec)


def stored(held: Held | None) -> StoredResource | None:
    return held.value if held and isinstance(held.value, StoredResource) else None


def asks_anew(before: Held | None, after: Held | None) -> bool:
    """Whether more than a resource's status changed."""

    def asked(held: Held | None) -> object:
        value = held.value if held else None
        if not isinstance(value, StoredResource):
            return None
        return (value.uid, value.generation, value.labels, value.restarted_at)

    return asked(before) != asked(after)


def accepts_anew(before: Held | None, after: Held | None) -> bool:
    """Whether an engine is accepted, or not, for another reason than before."""

    def accepted(held: Held | None) -> set[tuple[str, str, str]]:
        value = stored(held)
        return {one for one in value.verdicts if ConditionType.ACCEPTED in one} if value else set()

    return accepted(before) != accepted(after)


def object_key(kind: Kind, manifest: Manifest) -> Key:
    metadata = manifest["metadata"]
    return Key(kind, metadata.get("namespace", ""), metadata["name"])
